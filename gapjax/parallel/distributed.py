"""Processes that run the same program in lockstep, and what they tell each other.

Every process makes the same calls in the same order; the arrays they compute with are global,
see `gapjax.parallel.layout`. What is done by one of them alone (files, questions to a server) or
by each for its share (grading) is passed on here. In a run of one process all of this is free.
"""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from gapjax.errors import UserError

_T = TypeVar("_T")
_S = TypeVar("_S")
_A_WEEK = 7 * 24 * 3600 * 1000  # milliseconds
_meetings = itertools.count()


def is_first() -> bool:
    """Whether this is the process that writes files and speaks."""
    return jax.process_index() == 0


def to_host(tree: Any) -> Any:
    """NumPy arrays of global ones, whole, in every process."""

    def whole(x: Any) -> np.ndarray:
        if isinstance(x, jax.Array) and not (x.is_fully_addressable or x.is_fully_replicated):
            return multihost_utils.process_allgather(x, tiled=True)
        return np.asarray(x)

    return jax.tree.map(whole, tree)


def exchange(value: _T) -> list[_T]:
    """What each process has, in their order, in every process.

    By pickle, so exactly; between processes of one run there is nothing to distrust.
    """
    if jax.process_count() == 1:
        return [value]
    data = np.frombuffer(pickle.dumps(value), np.uint8)
    sizes = np.ravel(multihost_utils.process_allgather(np.array(data.size)))
    # In few sizes, as each is compiled.
    room = max(1024, 1 << int(sizes.max() - 1).bit_length())
    padded = np.zeros((1, room), np.uint8)
    padded[0, : data.size] = data
    gathered = multihost_utils.process_allgather(padded, tiled=True)
    return [pickle.loads(row[:n].tobytes()) for row, n in zip(gathered, sizes, strict=True)]


def from_first(make: Callable[[], _T]) -> _T:
    """What `make` gives in the first process, in every process; the others do not call it.

    **Raises:** in every process the `UserError` or `OSError` that it raised in the first.
    """
    if jax.process_count() == 1:
        return make()
    outcome: tuple[_T | None, Exception | None] = (None, None)
    if is_first():
        try:
            outcome = make(), None
        except (UserError, OSError) as error:
            outcome = None, error
    meet()
    value, failure = _broadcast(outcome)
    if failure is not None:
        raise failure
    return value


def in_shares(work: Callable[[Sequence[_S]], Sequence[_T]], items: Sequence[_S]) -> list[_T]:
    """`work(items)`, a list as long as `items`, where each process works on its share.

    **Raises:** in every process the `UserError` that it raised in one of them.
    """
    if not items:
        return []
    if jax.process_count() == 1:
        return list(work(items))
    mine = items[jax.process_index() :: jax.process_count()]
    outcome: tuple[Sequence[_T], UserError | None]
    try:
        outcome = work(mine) if mine else [], None
    except UserError as error:
        outcome = [], error
    meet()
    outcomes = exchange(outcome)
    for _, failure in outcomes:
        if failure is not None:
            raise failure
    shares = [iter(share) for share, _ in outcomes]
    return [next(shares[i % len(shares)]) for i in range(len(items))]


def any_process(flag: bool) -> bool:
    """Whether it holds in one of the processes."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.array(flag)).any())


def meet() -> None:
    """Wait for the other processes, however long they take.

    Where work on the host may take long: collectives between CPUs do not wait for ever.
    """
    if jax.process_count() == 1:
        return
    from jax._src.distributed import global_state  # JAX has no public barrier without devices

    assert global_state.client is not None
    name = f"gapjax/meeting/{next(_meetings)}"  # the same number in every process
    global_state.client.wait_at_barrier(name, _A_WEEK)


def _broadcast(value: Any) -> Any:
    """The first process's value, by pickle, in every process."""
    data = np.frombuffer(pickle.dumps(value), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.array(data.size)))
    padded = np.zeros(max(1024, 1 << (size - 1).bit_length()), np.uint8)
    if is_first():
        padded[:size] = data
    return pickle.loads(multihost_utils.broadcast_one_to_all(padded)[:size].tobytes())
