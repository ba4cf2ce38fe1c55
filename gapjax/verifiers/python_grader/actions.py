"""What a process does with its own objects when the other asks for it."""

from __future__ import annotations

import functools
import sys
from typing import Any


def run_coroutine(awaitable: Any) -> Any:
    """Run to its end, in an event loop unless one is running."""

    async def awaited() -> Any:
        return await awaitable

    coroutine = awaited()
    if "asyncio" in sys.modules:
        import asyncio

        if asyncio._get_running_loop() is None:
            return _loop().run_until_complete(coroutine)
    while True:
        try:
            waits_for = coroutine.send(None)
        except StopIteration as end:
            return end.value
        if waits_for is not None:
            raise RuntimeError("an event loop is running")


@functools.cache
def _loop() -> Any:
    """One for all, because locks and queues belong to theirs."""
    import asyncio

    return asyncio.new_event_loop()


def view(value: Any) -> Any:
    """The data of an object whose class is derived from a class of data."""
    for kind in type(value).__mro__:
        if kind in (int, float):
            return kind.__pos__(value)
        if kind in (str, bytes, bytearray, list, tuple):
            return kind.__getitem__(value, slice(None))
        if kind in (set, frozenset):
            return kind(kind.__iter__(value))
        if kind is dict:
            return dict(dict.items(value))
        if kind is complex:
            return complex.__pos__(value)
    raise TypeError("no data")
