"""A folder for code that is not trusted, which goes away whatever the code made of it."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PATH = getattr(os, "O_PATH", None)  # Linux: a handle that needs no permission


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new empty folder, removed at the end with what is in it.

    Links are removed, never followed; depth, missing permissions and another folder, file or link
    under the same name do not matter, nor on Linux that the folder was moved. What cannot be
    removed (a file that was made immutable) stays; nothing is raised.
    """
    folder = Path(tempfile.mkdtemp(prefix="gapjax-"))
    opened = os.open(folder, _FOLDER)
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):
            _remove_opened(opened)
        os.close(opened)
        with contextlib.suppress(OSError):
            parent = os.open(folder.parent, _FOLDER & ~os.O_NOFOLLOW)
            try:
                _remove(parent, folder.name)
            finally:
                os.close(parent)


def _remove_opened(folder: int) -> None:
    """Wherever it is by now."""
    os.fchmod(folder, stat.S_IRWXU)
    _empty(folder)
    now = Path(f"/proc/self/fd/{folder}")
    if now.is_symlink():
        now.readlink().rmdir()


def _remove(parent: int, name: str) -> None:
    """Whatever has this name in a folder, if anything has."""
    try:
        folder = _enter(parent, name)
    except NotADirectoryError:  # a link too
        os.unlink(name, dir_fd=parent)
        return
    try:
        _empty(folder)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=parent)


def _empty(root: int) -> None:
    """What is below is moved up and emptied there: the tree may be deeper than paths can be."""
    waiting = _folders(root)
    while waiting:
        name = waiting.pop()
        with contextlib.suppress(OSError):
            folder = _enter(root, name)
            try:
                for below in _folders(folder):
                    os.close(_enter(folder, below))  # a move needs permission too
                    moved = secrets.token_hex(16)
                    os.rename(below, moved, src_dir_fd=folder, dst_dir_fd=root)
                    waiting.append(moved)
            finally:
                os.close(folder)
            os.rmdir(name, dir_fd=root)


def _folders(folder: int) -> list[str]:
    """Remove all else, and name the folders."""
    names = []
    with os.scandir(folder) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                names.append(entry.name)
            else:
                with contextlib.suppress(OSError):
                    os.unlink(entry.name, dir_fd=folder)
    return names


def _enter(parent: int, name: str) -> int:
    """Open a folder that may lack all permissions."""
    try:
        folder = os.open(name, _FOLDER, dir_fd=parent)
    except PermissionError:
        if _PATH is None:
            os.chmod(name, stat.S_IRWXU, dir_fd=parent, follow_symlinks=False)
        else:
            handle = os.open(name, _PATH | _FOLDER, dir_fd=parent)
            try:
                Path(f"/proc/self/fd/{handle}").chmod(stat.S_IRWXU)
            finally:
                os.close(handle)
        return os.open(name, _FOLDER, dir_fd=parent)
    os.fchmod(folder, stat.S_IRWXU)  # readable is not yet writable
    return folder
