"""Checkpoints of training, through Orbax: the only module that knows about it.

A checkpoint is written in the background, under a temporary name, and renamed by Orbax, so a run
that is killed leaves none that looks whole but is not. What the disk did to it since then is
found by a digest of its arrays.

All processes of a run write their parts of one checkpoint, to storage that they share. It may
be read by another number of processes, on another mesh.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
from orbax.checkpoint.experimental import v1 as ocp

from gapjax.parallel import exchange, from_first
from gapjax.parallel.fingerprint import fingerprint
from gapjax.paths import PathLike, absolute, remove_tree
from gapjax.selfimprove.sft import TrainState

_HTTP = {401: errno.EACCES, 403: errno.EACCES, 404: errno.ENOENT}


class Saved(NamedTuple):
    """What a checkpoint holds.

    All randomness of a run follows from the recipe's seed, the round and the epoch, so these
    two numbers are the state of the random streams and the position in the data as well.
    """

    state: TrainState  # what is trained, optimizer, step
    round: int
    steps: int  # optimizer steps of this round


class Checkpoints:
    """The newest checkpoints of a run.

    **Arguments:**

    - `folder`: where they lie, here or in a bucket, one folder an optimizer step.
    - `keep`: how many to keep; with two, a damaged one costs a phase and not the run.
    """

    def __init__(self, folder: PathLike, *, keep: int) -> None:
        # Orbax reports every file it touches.
        logging.getLogger("absl").setLevel(logging.ERROR)
        self._folder = absolute(folder)
        self._keep = keep
        self._open: ocp.training.Checkpointer | None = None

    def save(self, saved: Saved) -> None:
        """Begin to write a checkpoint; once it is there, the oldest beyond `keep` are forgotten.

        Waits for the one before. The state may be donated at once: JAX does not let a program
        write to memory that is still being read, and gives it other memory.

        **Raises:** `OSError` if this or the last checkpoint cannot be written.
        """
        arrays = _named(saved.state)
        metadata = {"round": saved.round, "steps": saved.steps, "digest": fingerprint(arrays)}
        with self._failing_as_one():
            if self._open is None:
                self._open = self._checkpointer()
            self._open.wait()
            with _processes():
                self._open.save_async(int(saved.state.step), arrays, custom_metadata=metadata)

    def wait(self) -> None:
        """Return when nothing is being written any more; `save` may be called again.

        **Raises:** `OSError` if the last checkpoint could not be written.
        """
        with self._failing_as_one():
            if self._open is not None:
                self._open.close()
        self._open = None

    @contextmanager
    def _failing_as_one(self) -> Iterator[None]:
        """Make an `OSError` of what storage says in words; begin anew after a failure."""
        try:
            yield
        except Exception as error:
            self._open = None  # it would raise the same again and again
            found = _os_error(error, self._folder)
            if found is None:
                raise
            raise found from error

    def newest(self, like: TrainState, warn: Callable[[str], None]) -> Saved | None:
        """The newest checkpoint that is whole; damaged newer ones are removed.

        **Arguments:**

        - `like`: a state of the same structure, such as the initial one.
        - `warn`: is told about each that is damaged.
        """
        self.wait()
        for step in from_first(lambda: sorted(self._steps(), reverse=True)):
            saved, damage = None, None
            try:
                saved = self._load(step, like)
            except Exception as error:  # whatever the damage makes Orbax raise
                damage = (str(error).strip() or type(error).__name__).splitlines()[0]
            damage = next((found for found in exchange(damage) if found is not None), None)
            if damage is None:
                return saved
            warn(f"checkpoint {step} is damaged ({damage[:120]}); trying the one before")
            from_first(functools.partial(remove_tree, self._folder / str(step)))
        return None

    def _load(self, step: int, like: TrainState) -> Saved:
        template = _named(like)
        path = self._folder / str(step)
        metadata: Mapping[str, Any] = ocp.metadata(path).custom_metadata or {}
        abstract = {
            name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
            for name, x in template.items()
        }
        arrays = ocp.load(path, abstract)
        if fingerprint(arrays) != metadata["digest"]:
            raise ValueError("its arrays are not those that were written")
        leaves = [arrays[name] for name in template]
        state = jax.tree.unflatten(jax.tree.structure(like), leaves)
        return Saved(state, metadata["round"], metadata["steps"])

    def _steps(self) -> list[int]:
        try:
            names = [path.name for path in self._folder.iterdir()]
        except FileNotFoundError:
            return []
        return [int(name) for name in names if name.isdecimal()]

    def _checkpointer(self) -> ocp.training.Checkpointer:
        return ocp.training.Checkpointer(
            self._folder,
            preservation_policy=ocp.training.preservation_policies.LatestN(self._keep),
            save_decision_policy=_Always(),
            cleanup_tmp_directories=True,
        )


class _Always:
    """Orbax's default leaves out steps that it finds too close to each other."""

    def should_save(self, *_: Any, **__: Any) -> bool:
        return True


def _processes() -> ocp.Context:
    """Let processes wait for each other without their devices, which work meanwhile.

    Orbax does so only if it is told which processes there are.
    """
    everyone = set(range(jax.process_count()))
    return ocp.Context(
        multiprocessing_options=ocp.options.MultiprocessingOptions(active_processes=everyone)
    )


def _named(state: TrainState) -> dict[str, jax.Array]:
    """The arrays of a state by their paths, in the order of its leaves."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _os_error(error: Exception, where: PathLike) -> OSError | None:
    """Of a full disk, for instance, of which TensorStore tells in words, as it does of buckets.

    Which of the clients of a bucket fails first is chance; fsspec's raise a bare address.
    """
    if isinstance(error, OSError):
        kinds = ((FileNotFoundError, errno.ENOENT), (PermissionError, errno.EACCES))
        kind = next((code for kind, code in kinds if isinstance(error, kind)), errno.EIO)
        return None if error.errno else OSError(kind, os.strerror(kind), os.fspath(where))
    code = re.search(r"(os_error|http_response)_code='(\d+)'", str(error))
    if code is None:
        return None
    number = int(code[2])
    if code[1] == "http_response":
        number = _HTTP.get(number, errno.EIO)
    return OSError(number, os.strerror(number), os.fspath(where))
