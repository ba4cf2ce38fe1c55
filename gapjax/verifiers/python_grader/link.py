"""Two processes that use each other's objects: one asks, the other answers, and may ask meanwhile.

Mutable containers that both have are kept the same: whoever sends a message tells what it
changed since the last one.
"""

from __future__ import annotations

import copy
import json
import socket
import struct
import sys
import threading
import types
from collections.abc import Sequence

from . import actions, mirrors, values
from .mirrors import is_remote

TYPE_CHECKING = False
if TYPE_CHECKING:  # the module takes long to import
    from typing import Any

_LIMIT = 1 << 26  # bytes of a message
_DEEPER = 30  # frames that a nested request needs by itself
_REFERENCES = 2  # to a container that only its entry refers to


class LinkBroken(BaseException):
    """The other process has ended, or sends what cannot be read. Not for `except Exception`."""


class _Entry:
    def __init__(self, value: Any) -> None:
        self.value = value
        self.before: Any = None


class _ClassOf:
    """A class as that of an object, although it could be named."""

    def __init__(self, kind: type) -> None:
        self.kind = kind


class Link:
    """One end.

    **Arguments:**

    - `end`: the socket.
    - `side`: a letter that the other end does not have.
    - `packages`: NumPy's arrays may come.
    """

    def __init__(self, end: socket.socket, side: str, *, packages: bool) -> None:
        self.packages = packages
        self.broken = False
        self._end, self._side = end, side
        self._lock = threading.RLock()
        self._entries: dict[str, _Entry] = {}
        self._keys: dict[int, str] = {}
        self._fresh: list[_Entry] = []
        self._count = 0
        self._mine: dict[int, Any] = {}
        self._mine_ids: dict[int, int] = {}
        self._theirs: dict[int, Any] = {}
        self._theirs_ids: dict[int, int] = {}
        self._classes_of: dict[type, _ClassOf] = {}

    # Asking

    def request(self, what: str, *roots: Any) -> Any:
        """Ask, and serve what the other asks until it answers.

        **Raises:** what was raised there, or `LinkBroken`.
        """
        with self._lock:
            self.before_request()
            self._send(what, roots)
            while True:
                what, found = self._receive()
                if what == "return":
                    return found[0]
                if what == "raise":
                    raise found[0]
                self._serve(what, found)

    def before_request(self) -> None:
        """For what else has to be told."""

    def serve_one(self) -> None:
        """Wait for a request, and answer it."""
        with self._lock:
            what, roots = self._receive()
        self._serve(what, roots)

    def _serve(self, what: str, roots: list[Any]) -> None:
        sys.setrecursionlimit(sys.getrecursionlimit() + _DEEPER)
        try:
            reply, value = "return", self.perform(what, roots)
        except LinkBroken:
            raise
        except BaseException as error:
            reply, value = "raise", error
        roots.clear()
        sys.setrecursionlimit(max(sys.getrecursionlimit() - _DEEPER, 200))
        with self._lock:
            try:
                self._send(reply, (value,))
            except (TypeError, ValueError, RecursionError, MemoryError) as error:
                self._send("raise", (TypeError(f"cannot be sent: {type(error).__name__}"),))

    def special(self, remote: Any, name: str, args: tuple[Any, ...]) -> Any:
        """A special method of an object of the other process."""
        return self.request("special", remote, name, args)

    def equal(self, remote: Any, other: Any) -> Any:
        """`remote == other`."""
        return self.special(remote, "__eq__", (other,))

    def hash(self, remote: Any) -> int:
        """`hash(remote)`."""
        if mirrors.info_of(remote)["hash"]:
            return hash(self.special(remote, "__hash__", ()))
        return object.__hash__(remote)

    async def wait_for(self, remote: Any) -> Any:
        """`await remote`: it runs to its end in the other process meanwhile."""
        return self.request("wait", remote)

    # Answering

    def perform(self, what: str, roots: list[Any]) -> Any:
        """Do what was asked."""
        target, *rest = roots
        match what:
            case "call":
                return target(*rest[0], **rest[1])
            case "method":
                return getattr(target, rest[0])(*rest[1], **rest[2])
            case "special":
                return actions.special(target, *rest)
            case "get":
                return actions.get(target, rest[0])
            case "set":
                return setattr(target, *rest)
            case "del":
                return delattr(target, rest[0])
            case "copy":
                return copy.deepcopy(target) if rest[0] else copy.copy(target)
            case "isinstance":
                return isinstance(rest[0], target)
            case "view":
                return actions.view(target)
            case "wait":
                return actions.run_coroutine(target)
            case "subclass":
                return mirrors.make_subclass(target, *rest)
        raise ValueError(f"unknown request {what!r}")

    # Messages

    def _send(self, what: str, roots: Sequence[Any]) -> None:
        if self.broken:
            raise LinkBroken
        writer = values.Writer(self)
        children = [writer.child(root) for root in roots]
        more = self.more_to_send(writer)
        updates, dropped = self._changes(writer)
        writer.finish()
        message = [what, children, writer.nodes, updates, dropped, more]
        data = json.dumps(message).encode()
        if len(data) > _LIMIT:
            raise ValueError("too large")
        try:
            self._end.sendall(struct.pack("!I", len(data)) + data)
        except OSError as error:
            self._break(error)

    def more_to_send(self, writer: values.Writer) -> Any:
        """What else goes with a message."""
        return None

    def more_received(self, more: Any, reader: values.Reader) -> None:
        """What else came with a message."""

    def _receive(self) -> tuple[str, list[Any]]:
        if self.broken:
            raise LinkBroken
        try:
            (length,) = struct.unpack("!I", self._bytes(4))
            if length > _LIMIT:
                raise ValueError("too large")
            what, children, nodes, updates, dropped, more = json.loads(self._bytes(length))
            reader = values.Reader(self, nodes)
            for key, node in updates:
                reader.update(key, node)
                self._fresh.append(self._entries[key])
            roots = [reader.value(child) for child in children]
            self.more_received(more, reader)
            for entry in self._fresh:
                entry.before = values.snapshot(entry.value)
            self._fresh.clear()
            for key in dropped:
                del self._keys[id(self._entries.pop(key).value)]
        # Whatever is wrong with a message, it is the sender's fault.
        except Exception as error:
            self._break(error)
        return what, roots

    def _break(self, error: Exception) -> None:
        self.broken = True
        raise LinkBroken(f"{type(error).__name__}: {error}") from None

    def _bytes(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            part = self._end.recv(min(count - len(data), 1 << 20))
            if not part:
                raise EOFError("the other process has ended")
            data += part
        return bytes(data)

    # Containers that both have

    def _changes(self, writer: values.Writer) -> tuple[list[Any], list[str]]:
        updates, dropped = [], []
        for key, entry in list(self._entries.items()):
            if not values.unchanged(entry.value, entry.before):
                entry.before = values.snapshot(entry.value)
                updates.append([key, values.contents(entry.value, writer)])
            if sys.getrefcount(entry.value) <= _REFERENCES:
                # Nobody here can change it any more.
                dropped.append(key)
                del self._entries[key], self._keys[id(entry.value)]
        return updates, dropped

    def shared_key(self, value: Any) -> tuple[str, bool]:
        """See `values.References`."""
        if (key := self._keys.get(id(value))) is not None:
            return key, True
        self._count += 1
        key = f"{self._side}{self._count}"
        self.share(key, value)
        self._fresh.pop().before = values.snapshot(value)
        return key, False

    def shared_value(self, key: str) -> Any:
        """See `values.References`."""
        return self._entries[key].value

    def share(self, key: str, value: Any) -> None:
        """See `values.References`."""
        if key in self._entries:
            raise ValueError("a key twice")
        entry = self._entries[key] = _Entry(value)
        self._keys[id(value)] = key
        self._fresh.append(entry)

    # Objects that only one has

    def node(self, value: Any, writer: values.Writer) -> values.Node:
        """See `values.References`."""
        if isinstance(value, _ClassOf):
            return self._class_node(value, value.kind, writer)
        if (known := self._theirs_ids.get(id(value))) is not None:
            return ["yours", known]
        if (known := self._mine_ids.get(id(value))) is not None:
            return ["theirs", known]
        if type(value) is types.ModuleType:
            return ["module", value.__name__]
        if isinstance(value, mirrors.RemoteMethod):
            method = self.request("get", value.owner, value.__name__)
            return ["yours", self._theirs_ids[id(method)]]
        self.check_shown(value)
        if isinstance(value, type):
            if named := self._importable(value):
                return ["class_of", [named, _builtin(value)], []]
            return self._class_node(value, value, writer)
        kind = type(value)
        if isinstance(value, BaseException):
            args, cause = value.args, value.__cause__
            if isinstance(value, BaseExceptionGroup):
                args = (value.message, tuple(value.exceptions))
            if kind.__module__ == "builtins" or self._importable(kind):
                simple = (type(None), bool, int, float, str)
                state = {k: v for k, v in vars(value).items() if type(v) in simple}
                name = f"{kind.__module__}.{kind.__qualname__}"
                return ["error", [name, _builtin(kind), state], writer.children([cause, *args])]
            return ["object", self._number(value), writer.children([kind, cause, *args])]
        if kind.__module__ == "builtins" or values.name_of(kind):
            kind = self._classes_of.setdefault(kind, _ClassOf(kind))  # type: ignore[assignment]
        return ["object", self._number(value), [writer.child(kind)]]

    def check_shown(self, value: Any) -> None:
        """**Raises:** `TypeError` for what the other process must not have."""

    def _class_node(self, value: Any, kind: type, writer: values.Writer) -> values.Node:
        info = mirrors.describe(kind) | {"id": self._number(value)}
        bases = [b for b in kind.__bases__ if b.__module__ != "builtins" or info["error"]]
        return ["class", info, writer.children(bases)]

    def _importable(self, kind: type) -> str | None:
        """The name of an exception of the standard library, which the other may have too."""
        module = str(kind.__module__).partition(".")[0]
        known = module in sys.stdlib_module_names and issubclass(kind, BaseException)
        return f"{kind.__module__}.{kind.__qualname__}" if known else None

    def _number(self, value: Any) -> int:
        self._count += 1
        self._mine[self._count] = value
        self._mine_ids[id(value)] = self._count
        return self._count

    def referred(self, tag: str, data: Any, children: Sequence[Any]) -> Any:
        """See `values.References`."""
        match tag:
            case "yours":
                return self._mine[data]
            case "theirs":
                return self._theirs[data]
            case "module":
                return self.module(data)
            case "class_of":
                return self._error_class(*data)
            case "error":
                return _caused(self._error(*data, args=children[1:]), children[0])
            case "class":
                return self._keep(data["id"], mirrors.make_class(self, data, children))
            case "object":
                return self._keep(data, self._instance(data, children))
        raise ValueError(f"unknown tag {tag!r}")

    def _instance(self, number: int, children: Sequence[Any]) -> Any:
        remote = mirrors.make_instance(children[0], children[2:])
        if children[1:]:
            return _caused(remote, children[1])
        if mirrors.info_of(remote)["like"] != "builtins.coroutine":
            return remote
        # Event loops take nothing but what Python itself made.
        self._theirs_ids[id(remote)] = number
        return self.wait_for(remote)

    def _keep(self, number: int, remote: Any) -> Any:
        if number in self._theirs:
            raise ValueError("a number twice")
        self._theirs[number] = remote
        self._theirs_ids[id(remote)] = number
        return remote

    def module(self, name: str) -> Any:
        """A module that the other process has."""
        root = name.partition(".")[0]
        if not self.packages and root not in sys.stdlib_module_names:
            raise ValueError("not a module of the standard library")
        __import__(name)
        return sys.modules[name]

    def _error(
        self, name: str, base: str, state: dict[str, Any], *, args: Sequence[Any]
    ) -> BaseException:
        kind = self._error_class(name, base)
        if kind.__module__ == "builtins":
            try:
                return kind(*args)
            except TypeError:
                return RuntimeError(name, *args)
        error = kind.__new__(kind, *args)
        error.__dict__.update(state)
        return error

    def _error_class(self, name: str, base: str) -> type[BaseException]:
        """Of the standard library if its module was imported here, or nobody can name it."""
        module, _, attribute = name.rpartition(".")
        known = module.partition(".")[0] in sys.stdlib_module_names
        found = getattr(sys.modules.get(module), attribute, None) if known else None
        # A skipped test is no failed one.
        if not isinstance(found, type) or module.startswith("unittest"):
            found = values.type_of(base)
        if not issubclass(found, BaseException):
            raise ValueError("not an exception")
        return found


def _caused(error: BaseException, cause: BaseException | None) -> BaseException:
    if cause is not None:
        error.__cause__ = cause
    return error


def _builtin(kind: type) -> str:
    return next(f"builtins.{k.__name__}" for k in kind.__mro__ if k.__module__ == "builtins")


__all__ = ["Link", "LinkBroken", "is_remote"]
