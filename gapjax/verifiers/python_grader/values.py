"""Values as JSON: plain data whole, everything else as the link's references.

A message is a table of nodes `[tag, data, children]`. A child is `None`, a bool, int, float or
text itself, or `[index]` of a node; so aliases and cycles keep, and depth costs no stack. Reading
constructs the types below and nothing else, whatever the sender writes.
"""

from __future__ import annotations

import builtins
import collections
import datetime
import importlib
import operator
import sys
import types
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:  # the module takes long to import
    from typing import Any, Protocol

    Child = Any  # None, bool, int, float, str, or [index]
    Node = list[Any]
    _Written = tuple[str, Any, Sequence[Any]]
else:
    Protocol = object

_SIMPLE = {type(None), bool, float, str}
_LARGEST = 2**63  # of integers in JSON itself; Python reads longer ones in quadratic time

# What may be named instead of sent.
TYPES: dict[str, type] = {
    f"{kind.__module__}.{kind.__qualname__}": kind
    for kind in (
        *(each for each in vars(builtins).values() if isinstance(each, type)),
        *(collections.deque, collections.Counter, collections.defaultdict),
        *(collections.OrderedDict, type(None), type(...), type(NotImplemented)),
        *(datetime.date, datetime.time, datetime.datetime, datetime.timedelta, datetime.timezone),
        *(types.FunctionType, types.BuiltinFunctionType, types.GeneratorType, types.MethodType),
        *(types.CoroutineType, types.AsyncGeneratorType, types.ModuleType),
    )
}
_NAMES = {kind: name for name, kind in TYPES.items()}
# Others, whose modules take long to import.
_LATE = [
    *("decimal.Decimal", "fractions.Fraction", "uuid.UUID"),
    *("pathlib.PurePosixPath", "pathlib.PosixPath"),
]

# Containers that both processes keep the same, see `link`.
SHARED: tuple[type, ...] = (
    *(list, dict, set, bytearray, collections.deque),
    *(collections.defaultdict, collections.OrderedDict, collections.Counter),
)
_ABSTRACT = type(Sequence)  # the type of `Fraction`
_VIEWS = {type({}.keys()): "keys", type({}.values()): "values", type({}.items()): "items"}


def name_of(kind: type) -> str | None:
    """The name of a type that need not be sent."""
    if (name := _NAMES.get(kind)) is not None:
        return name
    for name in _LATE:
        module, _, attribute = name.partition(".")
        if getattr(sys.modules.get(module), attribute, None) is kind:
            return name
    return None


def type_of(name: str) -> type:
    """The type of a name. **Raises:** `KeyError` for any that is not to be named."""
    if name not in _LATE:
        return TYPES[name]
    module, _, attribute = name.partition(".")
    found: type = getattr(importlib.import_module(module), attribute)
    return found


class References(Protocol):
    """What the link does for values that are not plain."""

    packages: bool

    def shared_key(self, value: Any) -> tuple[str, bool]:
        """A container's key, and whether the other process has it."""

    def shared_value(self, key: str) -> Any:
        """The container of a key."""

    def share(self, key: str, value: Any) -> None:
        """Remember a container that was received."""

    def node(self, value: Any, writer: Writer) -> Node:
        """A reference."""

    def referred(self, tag: str, data: Any, children: Sequence[Any]) -> Any:
        """What a reference refers to."""


class Writer:
    """Collects the nodes of one message."""

    def __init__(self, references: References) -> None:
        self.nodes: list[Node] = []
        self._references = references
        self._index: dict[int, int] = {}
        self._waiting: list[tuple[int, Any]] = []
        self._kept: list[Any] = []  # so that no `id` is used twice

    def child(self, value: Any) -> Child:
        """A value as a child; `finish` makes its node."""
        kind = type(value)
        if kind in _SIMPLE or (kind is int and -_LARGEST < value < _LARGEST):
            return value
        if (index := self._index.get(id(value))) is None:
            index = self._index[id(value)] = len(self.nodes)
            self.nodes.append([])
            self._kept.append(value)
            self._waiting.append((index, value))
        return [index]

    def children(self, values: Sequence[Any]) -> list[Child]:
        """Many, fast if they are numbers or texts."""
        kinds = set(map(type, values))
        if kinds <= _SIMPLE:
            return list(values)
        if kinds == {int} and min(values) > -_LARGEST and max(values) < _LARGEST:
            return list(values)
        return [self.child(value) for value in values]

    def finish(self) -> None:
        """Make the nodes of all that was mentioned."""
        while self._waiting:
            index, value = self._waiting.pop()
            self.nodes[index] = self._node(value)

    def _node(self, value: Any) -> Node:
        kind = type(value)
        if kind in SHARED or is_array(value):
            key, known = self._references.shared_key(value)
            return ["shared", key] if known else [*contents(value, self), key]
        named = name_of(kind)
        if (write := _WRITERS.get(kind) or _LATE_WRITERS.get(named)) is not None:
            tag, data, children = write(value)
            return [tag, data, self.children(children)]
        if kind in (type, _ABSTRACT) and (name := name_of(value)) is not None:
            return ["type", name]
        if kind in _VIEWS:
            flat = list(value) if kind is not type({}.items()) else [x for xy in value for x in xy]
            return [_VIEWS[kind], None, self.children(flat)]
        if kind is datetime.datetime and type(value.tzinfo) in (type(None), datetime.timezone):
            return ["datetime", [value.isoformat(), value.fold], []]
        if kind is datetime.time and value.tzinfo is None:
            return ["time", [value.isoformat(), value.fold], []]
        if _is_scalar(value):
            return ["scalar", [value.dtype.str, _text(value.tobytes())], []]
        return self._references.node(value, self)


def contents(value: Any, writer: Writer) -> Node:
    """A shared container with what is in it: `[tag, data, children]`."""
    kind = type(value)
    if kind is bytearray:
        return ["bytearray", _text(bytes(value)), []]
    if is_array(value):
        return ["array", [value.dtype.str, list(value.shape), _text(value.tobytes())], []]
    if isinstance(value, dict):
        flat = [*value.keys(), *value.values()]
        if isinstance(value, collections.defaultdict):
            flat.append(value.default_factory)
        return [kind.__name__, None, writer.children(flat)]
    data = value.maxlen if kind is collections.deque else None
    return [kind.__name__, data, writer.children(list(value))]


def snapshot(value: Any) -> Any:
    """What a container holds now, for `unchanged`."""
    if isinstance(value, dict):
        return list(value), list(value.values())
    if isinstance(value, set):
        return set(value)
    if isinstance(value, bytearray):
        return bytes(value)
    return value.copy() if is_array(value) else list(value)


def unchanged(value: Any, before: Any) -> bool:
    """Whether a container still holds the very same objects."""
    if isinstance(value, dict):
        return _same(value, before[0]) and _same(value.values(), before[1])
    if isinstance(value, set | bytearray):
        return bool(value == before)
    if is_array(value):
        same = value.shape == before.shape and value.dtype == before.dtype
        return same and value.tobytes() == before.tobytes()
    return _same(value, before)


def _same(now: Any, before: list[Any]) -> bool:
    return len(now) == len(before) and all(map(operator.is_, now, before))


class Reader:
    """Makes the values of one message.

    **Raises:** `ValueError`, `TypeError` or another for what no `Writer` writes.
    """

    def __init__(self, references: References, nodes: list[Node]) -> None:
        self._references = references
        self._nodes = nodes
        self._values: dict[int, Any] = {}
        self._unfilled: list[tuple[Any, Node]] = []

    def value(self, child: Child) -> Any:
        """The value of a child."""
        value = self._shell(child)
        while self._unfilled:
            container, node = self._unfilled.pop()
            fill(container, node, [self._shell(each) for each in node[2]])
        return value

    def update(self, key: str, node: Node) -> None:
        """Replace what is in a container."""
        container = self._references.shared_value(key)
        if _kind(container) != node[0]:
            raise ValueError("a container cannot change its type")
        fill(container, node, [self.value(each) for each in node[2]])

    def _shell(self, child: Child) -> Any:
        """A value whose containers may yet have to be filled."""
        if not isinstance(child, list):
            return child
        (wanted,) = child
        stack, begun = [wanted], set()
        while stack:
            index = stack[-1]
            if index in self._values:
                stack.pop()
                continue
            node = self._nodes[index]
            if node[0] in _EMPTY and len(node) == 4:
                container = _EMPTY[node[0]](node)
                self._references.share(node[3], container)
                self._values[index] = container
                self._unfilled.append((container, node))
                continue
            below = [each[0] for each in node[2] if isinstance(each, list)] if node[2:] else []
            missing = [each for each in below if each not in self._values]
            if not missing:
                self._values[index] = self._made(node)
            elif index in begun:
                raise ValueError("a value that contains itself")
            else:
                begun.add(index)
                stack += missing
        return self._values[wanted]

    def _made(self, node: Node) -> Any:
        tag, data = node[:2]
        children = [
            self._values[each[0]] if isinstance(each, list) else each
            for each in (node[2] if node[2:] else [])
        ]
        if tag == "shared":
            return self._references.shared_value(data)
        if tag == "type":
            return type_of(data)
        if tag == "array" or tag == "scalar":
            array = _array(self._references, tag, data)
            if tag == "array":
                self._references.share(node[3], array)
            return array
        if tag in _LATE:
            return type_of(tag)(*children or [str(data)])
        if (read := _READERS.get(tag)) is not None:
            return read(data, children)
        return self._references.referred(tag, data, children)


def fill(container: Any, node: Node, children: list[Any]) -> None:
    """Let a container hold what a node says."""
    if isinstance(container, list):
        container[:] = children
    elif isinstance(container, dict):
        if isinstance(container, collections.defaultdict):
            container.default_factory = children.pop()
        half = len(children) // 2
        container.clear()
        dict.update(container, zip(children[:half], children[half:], strict=True))
    elif isinstance(container, bytearray):
        container[:] = b64decode(node[1])
    elif isinstance(container, set):
        container.clear()
        container.update(children)
    elif isinstance(container, collections.deque):
        container.clear()
        container.extend(children)
    else:  # an array
        container[...] = _array(None, "array", node[1])


def is_array(value: Any) -> bool:
    """Whether it is an array of NumPy that is plain data."""
    numpy = sys.modules.get("numpy")
    array = getattr(numpy, "ndarray", None)
    return array is not None and type(value) is array and _plain(value.dtype)


def _is_scalar(value: Any) -> bool:
    generic = getattr(sys.modules.get("numpy"), "generic", None)
    return generic is not None and isinstance(value, generic) and _plain(value.dtype)


def _plain(dtype: Any) -> bool:
    return dtype.kind in "biufcSUmM"


def _array(references: References | None, tag: str, data: Any) -> Any:
    if references is not None and not references.packages:
        raise ValueError("arrays need site-packages")
    import numpy

    dtype = numpy.dtype(str(data[0]))
    if not _plain(dtype):
        raise ValueError("no plain data")
    flat = numpy.frombuffer(b64decode(data[-1]), dtype)
    return flat.reshape([int(n) for n in data[1]]).copy() if tag == "array" else flat[0]


def _kind(container: Any) -> str:
    return "array" if is_array(container) else type(container).__name__


def _text(data: bytes) -> str:
    return b64encode(data).decode()


_WRITERS: dict[type, Callable[[Any], _Written]] = {
    int: lambda x: ("int", hex(x), ()),
    complex: lambda x: ("complex", [x.real, x.imag], ()),
    bytes: lambda x: ("bytes", _text(x), ()),
    tuple: lambda x: ("tuple", None, x),
    frozenset: lambda x: ("frozenset", None, list(x)),
    range: lambda x: ("range", None, (x.start, x.stop, x.step)),
    slice: lambda x: ("slice", None, (x.start, x.stop, x.step)),
    type(...): lambda x: ("ellipsis", None, ()),
    type(NotImplemented): lambda x: ("not_implemented", None, ()),
    types.TracebackType: lambda x: ("none", None, ()),
    datetime.date: lambda x: ("date", x.isoformat(), ()),
    datetime.timedelta: lambda x: ("timedelta", [x.days, x.seconds, x.microseconds], ()),
    datetime.timezone: lambda x: ("timezone", None, (x.utcoffset(None),)),
}
_LATE_WRITERS: dict[str | None, Callable[[Any], _Written]] = {
    "decimal.Decimal": lambda x: ("decimal.Decimal", str(x), ()),
    "fractions.Fraction": lambda x: ("fractions.Fraction", None, (x.numerator, x.denominator)),
    "uuid.UUID": lambda x: ("uuid.UUID", str(x), ()),
    "pathlib.PurePosixPath": lambda x: ("pathlib.PurePosixPath", str(x), ()),
    "pathlib.PosixPath": lambda x: ("pathlib.PosixPath", str(x), ()),
}
_READERS: dict[str, Callable[[Any, list[Any]], Any]] = {
    "int": lambda data, _: int(data, 16),
    "complex": lambda data, _: complex(*data),
    "bytes": lambda data, _: b64decode(data),
    "tuple": lambda _, children: tuple(children),
    "frozenset": lambda _, children: frozenset(children),
    "range": lambda _, children: range(*children),
    "slice": lambda _, children: slice(*children),
    "ellipsis": lambda *_: ...,
    "not_implemented": lambda *_: NotImplemented,
    "none": lambda *_: None,
    "date": lambda data, _: datetime.date.fromisoformat(data),
    "time": lambda data, _: datetime.time.fromisoformat(data[0]).replace(fold=data[1]),
    "datetime": lambda data, _: datetime.datetime.fromisoformat(data[0]).replace(fold=data[1]),
    "timedelta": lambda data, _: datetime.timedelta(*data),
    "timezone": lambda _, children: datetime.timezone(*children),
    "keys": lambda _, children: dict.fromkeys(children).keys(),
    "values": lambda _, children: dict(enumerate(children)).values(),
    "items": lambda _, children: dict(zip(children[::2], children[1::2], strict=True)).items(),
}
_EMPTY: dict[str, Callable[[Node], Any]] = {
    "list": lambda _: [],
    "dict": lambda _: {},
    "set": lambda _: set(),
    "bytearray": lambda _: bytearray(),
    "deque": lambda node: collections.deque(maxlen=node[1]),
    "defaultdict": lambda _: collections.defaultdict(),
    "OrderedDict": lambda _: collections.OrderedDict(),
    "Counter": lambda _: collections.Counter(),
}
