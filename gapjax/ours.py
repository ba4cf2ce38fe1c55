"""Which folders gapjax may write into or remove: its own, and nothing through a link.

A folder of a run may come from somebody else, and the name after `--overwrite` may be a slip.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator
from fnmatch import fnmatchcase

from gapjax.errors import UserError
from gapjax.foreign import shown
from gapjax.paths import Path, PathLike, is_remote

_MOST_FILES = 10**6
_PARTS = (".*.partial", ".DS_Store")  # what a killed process leaves; what a Mac does
# The files by which one knows what a command wrote, and all others that may be beside them.
_KINDS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        ("recipe.yaml", "versions.json"),  # train
        (
            *("trajectory.csv", "metrics.jsonl", "summary.json", "report.html", "external.jsonl"),
            *(".lock", "samples/*.jsonl", "samples/.sampled-*.npz", "samples/.*.partial"),
            *("checkpoints/*", "export/*", "plots/*.png", "posterior/*", "tensorboard/events*"),
            "profile/*",
        ),
    ),
    (("posterior.nc", "summary.json"), ("*.png",)),  # fit
    (("forecast.csv",), ("plots/*.png",)),
    (("scores.csv", "summary.json"), ()),  # compare
    (("trajectory.csv", "plot.png"), ()),  # simulate
    (("plan.json",), ("plots/*.png",)),
    (
        ("config.json", "*.safetensors"),  # convert, and a run's export
        (
            *("model.safetensors.index.json", "generation_config.json", "adapter/*", "README.md"),
            *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json"),
            *("added_tokens.json", "chat_template.jinja", "additional_chat_templates/*.jinja"),
            *("merges.txt", "tokenizer.model"),
        ),
    ),
)


def refuse_others(folder: Path) -> None:
    """Make sure that a folder may be removed: everything in it is what a gapjax command writes.

    **Raises:** `UserError` that names what is not, or if the folder is, or holds, the user's home
    or the working directory.
    """
    if not is_remote(folder):
        whole = pathlib.Path(folder).resolve()
        kept = {"where you are": pathlib.Path.cwd()}
        with contextlib.suppress(RuntimeError):  # some users have none
            kept["your home"] = pathlib.Path.home()
        for what, path in kept.items():
            if path.resolve().is_relative_to(whole):
                raise UserError(
                    f"is {what}, or holds it, and is not removed",
                    where=folder,
                    hint="choose another folder",
                )
    names = sorted(_files(folder))
    if not names:
        return
    of_a_kind = [
        own + more
        for own, more in _KINDS
        if all(any(fnmatchcase(name, mark) for name in names) for mark in own)
    ]
    # What is least foreign to the kind that knows most of the files.
    foreign = min(
        (
            [name for name in names if not any(fnmatchcase(name, p) for p in (*known, *_PARTS))]
            for known in of_a_kind
        ),
        key=len,
        default=names,
    )
    if foreign:
        more = f" and {len(foreign) - 1} more files" if len(foreign) > 1 else ""
        raise UserError(
            f"holds {shown(foreign[0], 100)}{more}, which gapjax did not write",
            where=folder,
            hint="--overwrite removes only what gapjax wrote: choose another folder",
        )


def refuse_links(folder: PathLike) -> None:
    """Make sure that whatever is written or read below a folder is in it.

    **Raises:** `UserError` that names a link, or what is neither a file nor a folder.
    """
    if is_remote(folder):
        return
    for entry, name in _walk(pathlib.Path(folder)):
        if entry.is_symlink():
            raise UserError(
                f"{shown(name)} is a link, and nothing in a run is read or written through one",
                where=folder,
                hint="put there what it points to, if you trust it",
            )
        if not entry.is_file():
            raise UserError(f"{shown(name)} is neither a file nor a folder", where=folder)


def _files(folder: Path) -> list[str]:
    """The relative paths of what is in a folder, its subfolders' files included."""
    if is_remote(folder):
        return _remote_files(folder)
    return [name for _, name in _walk(pathlib.Path(folder))]


def _remote_files(folder: Path) -> list[str]:
    names = []
    waiting = [folder]
    while waiting:
        for path in waiting.pop().iterdir():
            if path.is_dir():
                waiting.append(path)
            else:
                names.append(str(path.relative_to(folder)))
    return names


def _walk(folder: pathlib.Path) -> Iterator[tuple[os.DirEntry[str], str]]:
    """What is below a folder and no folder itself; links are not followed."""
    waiting = [folder]
    seen = 0
    while waiting:
        here = waiting.pop()
        try:
            entries = list(os.scandir(here))
        except OSError as error:
            raise UserError(
                f"cannot be looked through ({error.strerror})", where=shown(here, 300)
            ) from error
        for entry in entries:
            seen += 1
            if seen > _MOST_FILES:
                raise UserError(f"holds more than {_MOST_FILES} files", where=folder)
            if entry.is_dir(follow_symlinks=False):
                waiting.append(here / entry.name)
            else:
                yield entry, str((here / entry.name).relative_to(folder))
