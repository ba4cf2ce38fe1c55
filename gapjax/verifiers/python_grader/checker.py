"""The process of the tests. It runs no line of the answer, and its exit status is the verdict.

What the answer sends is a claim: data is compared here, by Python's own types, and an object of
the answer equals no data, whatever its `__eq__` says.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
import types

from . import mirrors, values
from .actions import run_coroutine
from .answer import NAME
from .link import Link, LinkBroken, is_remote

TYPE_CHECKING = False
if TYPE_CHECKING:  # the module takes long to import
    from typing import Any

PASSED, FAILED, LOST = 41, 42, 43  # exit statuses

_INSIDE: tuple[type, ...] = (
    *(types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.ModuleType),
    *(types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType),
    *(types.FrameType, types.CodeType, types.TracebackType),
)
_NAMING = {"__name__", "__qualname__", "__doc__", "__module__", "__signature__"}
_WATCHED = [
    *("builtins.input", "builtins.print", "builtins.open"),
    *("sys.stdin", "sys.stdout", "sys.argv"),
]
_POWERS = {eval, exec, compile, open, getattr, setattr, delattr, vars, globals, locals, __import__}
_MISSING = object()
_NUMPY = ("__array", "__cuda_array", "__dlpack", "__buffer")


def main(end: socket.socket, job: int, *, packages: bool) -> None:
    """Run the tests and exit."""
    with open(job, "rb") as file:
        tests = json.load(file)
    link = CheckerLink(end, tests, packages=packages)
    status = FAILED
    try:
        link.run()
        status = PASSED
    except BaseException:  # `SystemExit` too: the end of the tests was not reached
        pass
    finally:
        os._exit(LOST if link.broken else status)


def _is_case(value: Any) -> bool:
    unittest = sys.modules.get("unittest")
    return bool(unittest and isinstance(value, type) and issubclass(value, unittest.TestCase))


def _has_module(name: str) -> bool:
    try:
        importlib.import_module(name.rpartition(".")[0])
    except ImportError:  # a class's, as `datetime.datetime.now`
        return False
    return True


def _found(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(sys.modules[module], attribute, _MISSING)


class _Solution(types.ModuleType):
    """The module of the answer, as the tests import it."""

    def __init__(self, link: Link) -> None:
        super().__init__(NAME)
        self.__dict__["__gapjax_link__"] = link

    def __getattr__(self, name: str) -> Any:
        return self.__dict__["__gapjax_link__"].request("name", name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("__"):
            super().__setattr__(name, value)
        else:
            self.__dict__["__gapjax_link__"].request("define", name, value, True)

    def __delattr__(self, name: str) -> None:
        self.__dict__["__gapjax_link__"].request("undefine", name)


class CheckerLink(Link):
    """The end of the tests, which believes nothing.

    **Arguments:**

    - `job`: the `tests`; names that they have from the answer (`wanted`), or that the answer has
        from them (`lacking`); `modules` that they use without importing them; what of modules
        they replace (`watched`); and `functions` that are tests and called by nobody.
    """

    def __init__(self, end: socket.socket, job: dict[str, Any], *, packages: bool) -> None:
        super().__init__(end, "t", packages=packages)
        self._job = job
        self._module = types.ModuleType("__main__")
        self._given: dict[str, Any] = {}
        self._defined: dict[str, Any] = {}
        self._watched = [*_WATCHED, *filter(_has_module, job["watched"])]
        self._outer = {name: _found(name) for name in self._watched}
        self._world: dict[str, Any] = dict(self._outer)
        self._world["recursion"] = sys.getrecursionlimit()
        self._informed: set[int] = set()
        self._telling = False

    def run(self) -> None:
        """Load the answer, run all tests. **Raises:** whatever they raise."""
        names = vars(self._module)
        names |= {name: importlib.import_module(name) for name in self._job["modules"]}
        sys.modules["__main__"] = self._module
        sys.modules[NAME] = _Solution(self)
        self.request("load", self._job["wanted"])
        source = self._job["tests"]
        if "unittest" in source:
            import unittest

            unittest.main = lambda *_, **__: None  # type: ignore[assignment]  # see below
        if "dataclasses" in source:
            self._forward_dataclasses()
        exec(compile(source, "<tests>", "exec", dont_inherit=True), names)
        for name in self._job["functions"]:
            result = names[name]()
            if isinstance(result, types.CoroutineType):
                run_coroutine(result)
        if "unittest" in sys.modules:
            self._run_cases(names)
        if self.broken:
            raise LinkBroken

    def _run_cases(self, names: dict[str, Any]) -> None:
        import unittest

        cases = [
            each
            for name, each in names.items()
            if _is_case(each) and name == each.__name__ and each.__module__ == "__main__"
        ]
        load = unittest.defaultTestLoader.loadTestsFromTestCase
        result = unittest.TestResult()
        unittest.TestSuite(load(case) for case in cases).run(result)
        if not result.wasSuccessful():
            raise AssertionError

    # What else is the same in both processes

    def before_request(self) -> None:
        """Tell what the tests have replaced since: input, seeds, and names that are lacking."""
        if self._telling:
            return
        self._telling = True
        try:
            for name in self._watched:
                if (value := _found(name)) is not self._world[name]:
                    self._world[name] = value
                    own = value is self._outer[name]
                    # What is printed comes with the answers.
                    told = None if own or name == "sys.stdout" else value
                    self.request("world", name, own, told)
            self._tell_numbers()
            names = vars(self._module)
            for name in self._job["lacking"]:
                if name in names and name not in self._defined and not _is_case(names[name]):
                    self._defined[name] = names[name]
                    self.request("define", name, names[name], False)
        finally:
            self._telling = False

    def _tell_numbers(self) -> None:
        tests = self._job["tests"]
        if "setrecursionlimit" in tests:
            self._tell_state("recursion", sys.getrecursionlimit())
        if "environ" in tests:
            self._tell_state("environ", dict(os.environ))
        if "seed" not in tests:
            return
        if (random := sys.modules.get("random")) is not None:
            self._tell_state("random", random.getstate())
        numpy = sys.modules.get("numpy.random")
        if numpy is not None:
            name, keys, *rest = numpy.get_state()
            self._tell_state("numpy.random", (name, tuple(keys.tolist()), *rest))

    def _tell_state(self, name: str, state: Any) -> None:
        before = self._world.get(name)
        if before != state:
            self._world[name] = state
            self.request("world", name, False, state)

    def more_received(self, more: Any, reader: values.Reader) -> None:
        """What the answer printed, and its names that the tests want."""
        printed, names = more
        if printed and sys.stdout is not self._outer["sys.stdout"]:
            sys.stdout.write(printed)
        ours = vars(self._module)
        for name, child in names.items():
            if name not in self._job["wanted"]:
                raise ValueError("a name that is not wanted")
            value = reader.value(child)
            if ours.get(name, _MISSING) is self._given.get(name, _MISSING):
                ours[name] = self._given[name] = value

    def _forward_dataclasses(self) -> None:
        import dataclasses

        def forwarding(name: str) -> Any:
            plain = getattr(dataclasses, name)

            def function(target: Any, *args: Any, **kwargs: Any) -> Any:
                if is_remote(target):
                    return self.request("dataclass", target, name, args, kwargs)
                return plain(target, *args, **kwargs)

            return function

        for name in ("asdict", "astuple", "replace", "fields"):
            setattr(dataclasses, name, forwarding(name))

    # What the answer says of its objects

    def equal(self, remote: Any, other: Any) -> Any:
        """Objects of the answer among themselves as it likes; data by its own value."""
        if is_remote(other):
            return self.request("special", remote, "__eq__", (other,))
        return self._view(remote) == other if self._has_data(remote) else NotImplemented

    def hash(self, remote: Any) -> int:
        """That of the data if it is data."""
        return hash(self._view(remote)) if self._has_data(remote) else super().hash(remote)

    def special(self, remote: Any, name: str, args: tuple[Any, ...]) -> Any:
        """No data may come of an operator that was told data: it might be the expected one."""
        told = name in mirrors.INFORMED | mirrors.ORDER and not all(map(is_remote, args))
        if not told and not (id(remote) in self._informed and name in mirrors.NUMERIC):
            return self.request("special", remote, name, args)
        if self._has_data(remote) and name not in mirrors.info_of(remote)["does"]:
            data = self._view(remote)
            return getattr(type(data), name)(data, *args)
        if name in mirrors.ORDER:
            return NotImplemented
        result = self.request("special", remote, name, args)
        if result is NotImplemented:
            return result
        if not is_remote(result):
            raise TypeError(f"{name} of the answer's {type(remote).__name__} is not believed")
        self._informed |= {id(remote), id(result)}
        return result

    def request(self, what: str, *roots: Any) -> Any:
        """As `Link.request`; only an iterator may say that it has ended.

        NumPy would let an object do its functions, which are told the expected data, or take a
        pointer from it. Only arrays count.
        """
        if what == "get" and roots[1].startswith(_NUMPY) and roots[1] != "__array__":
            raise AttributeError(roots[1])
        try:
            return super().request(what, *roots)
        except (StopIteration, StopAsyncIteration) as error:
            if what == "wait" or (what == "special" and roots[1] == "__next__"):
                raise
            raise RuntimeError(f"the answer raised {type(error).__name__}") from None

    def _has_data(self, remote: Any) -> bool:
        return not isinstance(remote, type) and mirrors.info_of(remote)["plain"] is True

    def _view(self, remote: Any) -> Any:
        data = self.request("view", remote)
        if is_remote(data):
            raise TypeError("no data")
        return data

    # What the answer may do with objects of the tests

    def check_shown(self, value: Any) -> None:
        """No way to the inside of this process."""
        kind = type(value)
        if kind in (types.FrameType, types.CodeType) or value is self:
            raise TypeError(f"{kind.__name__} stays in the process of the tests")
        if kind is types.BuiltinFunctionType and value in _POWERS:
            raise TypeError(f"{value.__name__} stays in the process of the tests")

    def perform(self, what: str, roots: list[Any]) -> Any:
        """**Raises:** `AttributeError` or `TypeError` for what is not the answer's business."""
        target, *rest = roots
        if what in ("get", "set", "del"):
            name = rest[0]
            allowed = what == "get" and name in _NAMING
            if not isinstance(name, str) or (
                not allowed and (name.startswith("_") or isinstance(target, _INSIDE))
            ):
                raise AttributeError(f"no attribute {name!r} for the answer")
            if what != "get" and (
                isinstance(target, type) or callable(getattr(type(target), name, None))
            ):
                raise AttributeError(f"no attribute {name!r} for the answer")
        elif what == "special":
            if rest[0] not in (*mirrors.SPECIAL, *mirrors.COMMON):
                raise TypeError("no special method for the answer")
        elif what == "method":
            if type(vars(target).get(rest[0])) is not types.FunctionType:
                raise TypeError("no method for the answer")
        elif what not in ("call", "copy", "view", "wait", "isinstance"):
            raise TypeError(f"no {what} for the answer")
        if what == "special" and rest[0] == "__call__":
            what, rest = "call", [rest[1], {}]
        return super().perform(what, [target, *rest])
