"""The arguments every command shares, and the folder it writes to."""

from __future__ import annotations

import argparse
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from gapjax.errors import UserError
from gapjax.ours import refuse_others
from gapjax.paths import Path, absolute, copy_tree, is_remote, refuse_unreachable, remove_tree


def add_common_arguments(parser: argparse.ArgumentParser, *, resume: bool = False) -> None:
    """Add `--out`, `--overwrite`, `--seed` and `--quiet` (and `--resume` where it makes sense)."""
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace a non-empty DIR")
    if resume:
        existing.add_argument("--resume", action="store_true", help="go on with the run in DIR")
    parser.add_argument("--seed", type=_seed, default=0, help="seed of all randomness (default 0)")
    parser.add_argument("--quiet", action="store_true", help="no progress, only errors")


def _seed(text: str) -> int:
    """What JAX and NumPy both take for a seed."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2^32 - 1")
    return int(text)


def resolved(out: Path) -> Path:
    """The folder that a link points to, since a link cannot be replaced by a folder."""
    return out if is_remote(out) else Path(pathlib.Path(out).resolve())


def refuse_existing(out: Path, *, overwrite: bool) -> None:
    """Raise `UserError` if `out` cannot become this command's output folder.

    Commands call this before the work starts, so that nobody waits an hour to hear it.
    """
    if is_remote(out):
        refuse_unreachable(out)
    if out.exists() and not out.is_dir():
        raise UserError("is a file, not a folder", where=out, hint="choose another folder")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise UserError(
            "folder is not empty", where=out, hint="choose another one or pass --overwrite"
        )
    if overwrite and out.is_dir():
        refuse_others(out)
    if is_remote(out):
        return
    parent = absolute(out).parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent):
            pass
    except OSError as error:
        raise UserError(f"cannot be written ({error.strerror})", where=out) from error


@contextmanager
def output_folder(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary folder that becomes `out`, or is copied there, only if the block succeeds.

    For commands that write their results at the end: a failure leaves nothing behind,
    and an older result stays as it was.
    """
    out = resolved(out)
    refuse_existing(out, overwrite=overwrite)
    if is_remote(out):
        with tempfile.TemporaryDirectory() as local:
            yield pathlib.Path(local)
            remove_tree(out)
            copy_tree(Path(local), out)
        return
    partial = pathlib.Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=absolute(out).parent))
    try:
        yield partial
        partial.chmod(0o755)  # mkdtemp makes private folders; results are not secrets
        if out.exists():
            shutil.rmtree(out)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
