"""Stand-ins for objects of the other process: attributes, calls and operators are forwarded.

A class of the other process has a class here with the same name, bases and special methods, so
that `isinstance`, `except`, `len`, `in` and so on work by themselves.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Sequence

from . import actions, values

TYPE_CHECKING = False
if TYPE_CHECKING:  # the module takes long to import
    from typing import Any

_OPERATORS = [
    *("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "divmod", "pow"),
    *("lshift", "rshift", "and", "xor", "or"),
]
INFORMED = {f"__{r}{name}__" for name in _OPERATORS for r in ("", "r", "i")}
ORDER = {"__lt__", "__le__", "__gt__", "__ge__"}
NUMERIC = {
    *("__abs__", "__neg__", "__pos__", "__invert__", "__round__", "__trunc__", "__floor__"),
    *("__ceil__", "__int__", "__float__", "__complex__", "__index__", "__bool__"),
}
SPECIAL = [
    *sorted(INFORMED | ORDER | NUMERIC),
    *("__len__", "__length_hint__", "__iter__", "__next__", "__reversed__", "__contains__"),
    *("__getitem__", "__setitem__", "__delitem__", "__missing__", "__call__", "__bytes__"),
    *("__enter__", "__exit__", "__aenter__", "__aexit__", "__aiter__", "__anext__"),
    "__fspath__",
]
# Every object has these.
COMMON = ["__eq__", "__ne__", "__hash__", "__str__", "__repr__", "__format__", "__dir__"]
_META = ("__len__", "__iter__", "__reversed__", "__contains__", "__getitem__")
_HERE = "__gapjax_here__"  # where the class of a stand-in keeps its link
_DATA = (bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset)


def link_of(remote: Any) -> Any:
    """The link of a stand-in."""
    kind = remote if isinstance(remote, type) else type(remote)
    return type.__getattribute__(kind, _HERE)


def is_remote(value: Any) -> bool:
    """Whether a value stands for one of the other process."""
    kind = type(value)
    return kind is RemoteType or type(kind) is RemoteType


class RemoteMethod:
    """A function of a class of the other process."""

    def __init__(self, name: str) -> None:
        self.__name__ = name
        self.owner: Any = None

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        return types.MethodType(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return link_of(self.owner).request("method", self.owner, self.__name__, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(link_of(self.owner).request("get", self.owner, self.__name__), name)


class RemoteType(type):
    """The class of the classes that stand for those of the other process."""

    def __new__(mcs, name: str, bases: tuple[Any, ...], names: dict[str, Any]) -> Any:
        """A class of this process with a base of the other: it is made there."""
        link = next(link_of(base) for base in bases if isinstance(base, RemoteType))
        cell = names.pop("__classcell__", None)
        made = link.request("subclass", name, bases, [_member(*item) for item in names.items()])
        if cell is not None:
            cell.cell_contents = made
        return made

    def __init__(cls, *_: Any) -> None:
        pass

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return link_of(cls).request("call", cls, args, kwargs)

    def __getattr__(cls, name: str) -> Any:
        return _get(cls, name)

    def __setattr__(cls, name: str, value: Any) -> None:
        if name.startswith("__"):
            type.__setattr__(cls, name, value)
        else:
            link_of(cls).request("set", cls, name, value)

    def __repr__(cls) -> str:
        return f"<class {cls.__qualname__!r}>"

    def __hash__(cls) -> int:
        return type.__hash__(cls)

    def __bool__(cls) -> bool:
        return True

    def __dir__(cls) -> Any:
        return link_of(cls).request("special", cls, "__dir__", ())

    def __instancecheck__(cls, instance: Any) -> bool:
        if type.__instancecheck__(cls, instance):
            return True
        return is_remote(instance) and bool(link_of(cls).request("isinstance", cls, instance))

    @property
    def __annotations__(cls) -> Any:  # type: ignore[override]
        return link_of(cls).request("get", cls, "__annotations__")

    @property
    def __doc__(cls) -> Any:  # type: ignore[override]
        return link_of(cls).request("get", cls, "__doc__")


def _forwarding(name: str) -> Any:
    def forward(self: Any, *args: Any) -> Any:
        return link_of(self).special(self, name, args)

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return link_of(self).request("call", self, args, kwargs)

    forward.__name__ = name
    return call if name == "__call__" else forward


_FORWARDS = {name: _forwarding(name) for name in (*SPECIAL, *COMMON)}
for _name in _META:
    type.__setattr__(RemoteType, _name, _FORWARDS[_name])


def _get(self: Any, name: str) -> Any:
    found = link_of(self).request("get", self, name)
    return actions.signature_of(found) if name == "__signature__" else found


def _set(self: Any, name: str, value: Any) -> None:
    if name.startswith("__"):  # as `__traceback__` of an exception
        object.__setattr__(self, name, value)
    else:
        link_of(self).request("set", self, name, value)


def _delete(self: Any, name: str) -> None:
    link_of(self).request("del", self, name)


def _eq(self: Any, other: Any) -> Any:
    return link_of(self).equal(self, other)


def _hash(self: Any) -> int:
    return link_of(self).hash(self)


def _class(self: Any) -> Any:
    return type(self).__dict__.get("__gapjax_like__") or type(self)


def _no_pickle(self: Any, *_: Any) -> Any:
    raise TypeError(f"{type(self).__name__} objects are in another process")


_EVERY = {name: _FORWARDS[name] for name in COMMON} | {
    "__getattr__": _get,
    "__setattr__": _set,
    "__delattr__": _delete,
    "__eq__": _eq,
    "__hash__": _hash,
    "__copy__": lambda self: link_of(self).request("copy", self, False),
    "__deepcopy__": lambda self, _: link_of(self).request("copy", self, True),
    "__reduce_ex__": _no_pickle,
    "__class__": property(_class),
    "__dict__": property(lambda self: _get(self, "__dict__")),
    "__doc__": property(lambda self: _get(self, "__doc__")),
    "__await__": lambda self: link_of(self).wait_for(self).__await__(),
}
del _EVERY["__ne__"]  # the opposite of `__eq__`, which Python does


def describe(kind: type) -> dict[str, Any]:
    """What the other process needs to know of a class to make one that stands for it."""
    above = kind.__mro__[:-1]
    own = [each for each in above if each.__module__ != "builtins"]
    special = [n for n in SPECIAL if any(n in vars(each) for each in above)]
    plain = next((each for each in above if each in _DATA), None)
    like = plain or next((each for each in above if values.name_of(each)), None)
    unhashable = kind.__hash__ is None
    # What a class of data does itself, rather than leave it to the data.
    does = [n for n in special if any(n in vars(each) for each in own)]
    return {
        "name": kind.__name__,
        "qualname": kind.__qualname__,
        "module": str(kind.__module__),
        "special": special,
        "does": does,
        "hash": any("__hash__" in vars(each) for each in above) and not unhashable,
        "unhashable": unhashable,
        "awaitable": any("__await__" in vars(each) for each in above),
        "methods": [n for n, each in vars(kind).items() if type(each) is types.FunctionType],
        "plain": plain is not None,
        "like": like and values.name_of(like),
        "abstract": [n for n in _abstract() if isinstance(kind, type) and _under(kind, n)],
        "error": issubclass(kind, BaseException),
    }


def _abstract() -> list[str]:
    return ["abc.ABC", *(f"collections.abc.{n}" for n in ("Sequence", "Mapping", "Set"))]


def _under(kind: type, name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    base = getattr(sys.modules.get(module), attribute, None)
    return base is not None and base in kind.__mro__


def make_class(link: Any, info: dict[str, Any], bases: Sequence[Any]) -> Any:
    """A class here that stands for one of the other process."""
    names: dict[str, Any] = {
        "__module__": str(info["module"]),
        "__qualname__": str(info["qualname"]),
        _HERE: link,
        "__gapjax_info__": info,
    }
    # None that would take the place of what is defined here, whatever the other process says.
    names |= {n: RemoteMethod(n) for n in info["methods"] if n == "__init__" or not _reserved(n)}
    names |= {n: _FORWARDS[n] for n in info["special"] if n in SPECIAL}
    if info["unhashable"]:
        names["__hash__"] = None
    like = values.type_of(info["like"]) if info["like"] else None
    names["__gapjax_like__"] = None
    real = [b for b in bases if isinstance(b, type) and issubclass(b, BaseException)]
    bases = [b for b in bases if isinstance(b, RemoteType) or b in real]
    if not any(isinstance(b, RemoteType) for b in bases):
        every = names | {n: f for n, f in _EVERY.items() if n not in names}
        if not info["awaitable"]:
            del every["__await__"]
        names = every
    elif info["awaitable"]:
        names["__await__"] = _EVERY["__await__"]
    made = type.__new__(RemoteType, str(info["name"]), tuple(bases), names)
    for member in names.values():
        if isinstance(member, RemoteMethod):
            member.owner = made
    if like is not None and not info["error"]:
        made.__gapjax_like__ = _like(made, like)
    for name in info["abstract"]:
        module, _, attribute = name.rpartition(".")
        if name in _abstract() and module in sys.modules:
            getattr(sys.modules[module], attribute).register(made)
    return made


def _reserved(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _like(made: type, like: type) -> type:
    """What `isinstance` is told: a class that is one of lists, say, without being one."""
    if like is bool or made.__name__ == like.__name__:
        return like
    try:
        return type(made.__name__, (like,), {})
    except TypeError:  # that type has no subclasses
        return like


def make_instance(kind: Any, args: Sequence[Any] = ()) -> Any:
    """An object here that stands for one of the other process."""
    error = issubclass(kind, BaseException)
    return BaseException.__new__(kind, *args) if error else object.__new__(kind)


def info_of(remote: Any) -> dict[str, Any]:
    """What was said of a stand-in's class."""
    return type.__getattribute__(type(remote), "__gapjax_info__")


def _member(name: str, value: Any) -> tuple[Any, ...]:
    if isinstance(value, staticmethod | classmethod):
        return name, type(value).__name__, value.__func__
    if isinstance(value, property):
        return name, "property", value.fget, value.fset, value.fdel
    return name, "function" if isinstance(value, types.FunctionType) else "value", value


def make_subclass(name: str, bases: tuple[Any, ...], members: Sequence[tuple[Any, ...]]) -> type:
    """What `RemoteType.__new__` asks for, in the process that has the base."""
    wrap = {"staticmethod": staticmethod, "classmethod": classmethod, "property": property}
    names = {}
    for member, how, *parts in members:
        functions = [part and _function(part) if how != "value" else part for part in parts]
        names[member] = wrap[how](*functions) if how in wrap else functions[0]
    return types.new_class(name, bases, {}, lambda space: space.update(names))


def _function(remote: Any) -> Any:
    def function(*args: Any, **kwargs: Any) -> Any:
        return remote(*args, **kwargs)

    return function
