"""Files and folders of this machine and of buckets (`gs://BUCKET/FOLDER`), through one type.

What is written appears under its name only when all of it is there. A bucket has no folders, no
locks and no appending: what needs them is written here and copied.
"""

from __future__ import annotations

import json
import logging
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from gapjax.errors import UserError

if TYPE_CHECKING:  # epath has no type information; its paths have most of pathlib's methods
    from pathlib import Path

    PathLike = str | os.PathLike[str]
else:
    from etils.epath import Path, PathLike


def is_remote(path: PathLike) -> bool:
    """Whether a path is an address of something that is not on this machine."""
    return "://" in os.fspath(path)


def absolute(path: PathLike) -> Path:
    """The path from the root; an address is one already."""
    return Path(path if is_remote(path) else pathlib.Path(path).absolute())


@contextmanager
def whole(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file for writing that takes its name, or an older one's place, at the end.

    If the block fails, or the process is killed, whatever had the name before keeps it.
    """
    partial = scratch(path)
    with partial.open(mode.replace("w", "x"), encoding=None if "b" in mode else "utf-8") as stream:
        yield stream
    publish(partial, path)


def scratch(path: Path) -> pathlib.Path:
    """Where to write, on this machine, what `publish` is to bring to `path`; nothing is there."""
    if is_remote(path):
        return pathlib.Path(tempfile.mkdtemp()) / path.name
    partial = pathlib.Path(path).with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)  # a killed process's, or somebody's link to elsewhere
    return partial


def publish(partial: pathlib.Path, path: Path) -> None:
    """Give a file from `scratch`, which is written and closed, its name, in one step."""
    if is_remote(path):
        _copy(Path(partial), path)
        shutil.rmtree(partial.parent)
        return
    with partial.open("rb") as stream:  # the name must not reach the disk before the content
        os.fsync(stream.fileno())
    partial.replace(path)


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as old, target.open("wb") as new:
        shutil.copyfileobj(old, new, 2**24)


def write_text(path: Path, text: str) -> None:
    """A file with this text, in UTF-8."""
    with whole(path) as stream:
        stream.write(text)


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file that was written whole, one at a time."""
    with path.open("r", encoding="utf-8") as stream:
        for line in stream:
            yield json.loads(line)


@contextmanager
def staged(folder: Path) -> Iterator[pathlib.Path]:
    """A folder of this machine to write into: `folder`, or one that is copied to it at the end."""
    if not is_remote(folder):
        folder.mkdir(parents=True, exist_ok=True)
        yield pathlib.Path(folder)
        return
    with tempfile.TemporaryDirectory() as name:
        yield pathlib.Path(name)
        copy_tree(Path(name), folder)


def copy_tree(source: Path, target: Path) -> None:
    """Copy the files of a folder into another, wherever the two are."""
    for directory, _, names in os.walk(source):
        for name in names:
            path = Path(directory) / name
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            _copy(path, copy)


class Mirror:
    """A file of this machine that is copied to its address whenever it has grown.

    For a file that somebody appends to; one of this machine has no other address.

    **Arguments:**

    - `fetch`: begin with what the address has.
    """

    def __init__(self, address: Path, *, fetch: bool) -> None:
        self._address, self._pushed, self._remote = address, 0, is_remote(address)
        if not self._remote:
            self.path = pathlib.Path(address)
            return
        self._folder = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self._folder.name) / address.name
        if fetch and address.exists():
            self.path.write_bytes(address.read_bytes())
            self._pushed = len(self.path.read_bytes())

    def push(self) -> None:
        """Copy, if there is more than before."""
        if self._remote and self.path.exists():
            content = self.path.read_bytes()
            if len(content) > self._pushed:
                self._address.write_bytes(content)
                self._pushed = len(content)


def remove_tree(folder: Path) -> None:
    """Remove a folder and what is in it, if it is there."""
    if folder.exists():
        Path(folder).rmtree()  # type: ignore[attr-defined]  # not pathlib's


def refuse_unreachable(folder: Path) -> None:
    """Write and remove a file in a bucket.

    **Raises:** `UserError` that says in one line why that cannot be done.
    """
    # It reports each attempt, with a traceback.
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
    probe = folder / ".writable"
    try:
        probe.write_text("")
        probe.unlink()
    except ImportError as error:
        hint = "pip install 'gapjax[gcs]'" if os.fspath(folder).startswith("gs:") else None
        raise UserError(f"cannot be reached ({error})", where=folder, hint=hint) from error
    except FileNotFoundError as error:
        raise UserError("there is no such bucket", where=folder) from error
    except Exception as error:  # each kind of storage has its own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"cannot be written ({reason[:200]})", where=folder) from error
