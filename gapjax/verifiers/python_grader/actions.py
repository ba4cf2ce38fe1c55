"""What a process does with its own objects when the other asks for it."""

from __future__ import annotations

import functools
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # the module takes long to import
    from typing import Any


def special(target: Any, name: str, args: tuple[Any, ...]) -> Any:
    """Call a special method as Python does: it is looked up in the type, and bound."""
    for kind in type(target).__mro__:
        if (found := vars(kind).get(name)) is not None:
            bind = getattr(type(found), "__get__", None)
            method = found if bind is None else bind(found, target, type(target))
            return method(*args)
    return NotImplemented


def get(target: Any, name: str) -> Any:
    """An attribute; the signature as data."""
    if name != "__signature__":
        return getattr(target, name)
    import inspect

    parameters = inspect.signature(target).parameters.values()
    return [(p.name, int(p.kind), p.default is not p.empty, p.default) for p in parameters]


def signature_of(parameters: list[tuple[str, int, bool, Any]]) -> Any:
    """What `get` made data of; of annotations nothing is said."""
    import inspect

    kinds = list(inspect._ParameterKind)
    return inspect.Signature(
        [
            inspect.Parameter(name, kinds[kind], default=default if has else inspect._empty)
            for name, kind, has, default in parameters
        ]
    )


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
