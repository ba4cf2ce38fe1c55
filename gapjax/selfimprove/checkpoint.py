"""Checkpoints of training, through Orbax: the only module that knows about it.

A checkpoint is written under a temporary name and renamed by Orbax, so a run that is killed
leaves none that looks whole but is not. What the disk did to it since then is
found by a digest of its arrays.

All processes of a run write their parts of one checkpoint, to storage that they share. It may
be read by another number of processes, on another mesh.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from orbax.checkpoint.experimental import v1 as ocp

from gapjax.parallel import exchange, from_first
from gapjax.parallel.fingerprint import fingerprint
from gapjax.selfimprove.sft import TrainState


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

    - `folder`: where they lie, one folder an optimizer step.
    - `keep`: how many to keep; with two, a damaged one costs a phase and not the run.
    """

    def __init__(self, folder: Path, *, keep: int) -> None:
        # Orbax reports every file it touches.
        logging.getLogger("absl").setLevel(logging.ERROR)
        self._folder = folder.absolute()
        self._keep = keep

    def save(self, saved: Saved) -> None:
        """Write a checkpoint, then forget the oldest beyond `keep`."""
        arrays = _named(saved.state)
        metadata = {"round": saved.round, "steps": saved.steps, "digest": fingerprint(arrays)}
        try:
            with self._checkpointer() as checkpointer:
                checkpointer.save(int(saved.state.step), arrays, custom_metadata=metadata)
        except ValueError as error:
            # A full disk, for instance, of which TensorStore tells in words.
            code = re.search(r"os_error_code='(\d+)'", str(error))
            if code is None:
                raise
            number = int(code[1])
            raise OSError(number, os.strerror(number), str(self._folder)) from error

    def newest(self, like: TrainState, warn: Callable[[str], None]) -> Saved | None:
        """The newest checkpoint that is whole; damaged newer ones are removed.

        **Arguments:**

        - `like`: a state of the same structure, such as the initial one.
        - `warn`: is told about each that is damaged.
        """
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
            from_first(functools.partial(shutil.rmtree, self._folder / str(step)))
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
        if not self._folder.exists():
            return []
        return [int(path.name) for path in self._folder.iterdir() if path.name.isdecimal()]

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


def _named(state: TrainState) -> dict[str, jax.Array]:
    """The arrays of a state by their paths, in the order of its leaves."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
