"""The process of the code that is graded: runs it as a module and does what the tests ask."""

from __future__ import annotations

import importlib
import io
import os
import socket
import sys
import types

from . import values
from .link import Link, LinkBroken

TYPE_CHECKING = False
if TYPE_CHECKING:  # the module takes long to import
    from typing import Any

NAME = "solution"
_PRINTED = 1 << 20  # characters that are kept until the tests have them


def main(end: socket.socket, code: int, *, packages: bool) -> None:
    """Serve until the tests have ended."""
    with open(code, "rb") as file:
        source = file.read()
    link = AnswerLink(end, source, packages=packages)
    try:
        while True:
            link.serve_one()
    except LinkBroken:
        os._exit(0)


class AnswerLink(Link):
    """The end of the answer, which may believe what the tests say."""

    def __init__(self, end: socket.socket, source: bytes, *, packages: bool) -> None:
        super().__init__(end, "a", packages=packages)
        self._source = source
        self._module = types.ModuleType(NAME)
        self._wanted: list[str] = []
        self._told: dict[str, Any] = {}
        self._printed: _Printed | None = None
        self._own: dict[str, Any] = {}

    def perform(self, what: str, roots: list[Any]) -> Any:
        """Also: run the code, and take over what the tests changed in their process."""
        match what:
            case "load":
                (self._wanted,) = roots
                sys.modules[NAME] = self._module
                if b"unittest" in self._source:
                    import unittest

                    # Its own tests are not those that count, and must not end the process.
                    unittest.main = lambda *_, **__: None  # type: ignore[assignment]
                code = compile(self._source, "<answer>", "exec", dont_inherit=True)
                return exec(code, self._module.__dict__)
            case "name":
                return self._name(roots[0])
            case "world":
                return self._change(*roots)
            case "define":
                name, value, anyway = roots
                if anyway or name not in vars(self._module):
                    setattr(self._module, name, value)
                return None
            case "undefine":
                return delattr(self._module, roots[0])
            case "dataclass":
                import dataclasses

                target, name, args, kwargs = roots
                return getattr(dataclasses, name)(target, *args, **kwargs)
        return super().perform(what, roots)

    def _name(self, name: str) -> Any:
        if name == "__all__" and not hasattr(self._module, name):
            return [each for each in vars(self._module) if not each.startswith("_")]
        return getattr(self._module, name)

    def _change(self, name: str, own: bool, value: Any) -> None:
        if name == "random":
            import random

            random.setstate(value)
        elif name == "numpy.random":
            import numpy

            numpy.random.set_state(value)  # noqa: NPY002
        elif name == "environ":
            os.environ.clear()
            os.environ.update(value)
        elif name == "recursion":
            sys.setrecursionlimit(value)
        else:
            if name == "sys.stdout":
                value = self._printed = None if own else _Printed()
            place, _, attribute = name.rpartition(".")
            module = importlib.import_module(place)
            before = self._own.setdefault(name, getattr(module, attribute, None))
            setattr(module, attribute, before if own else value)

    def more_to_send(self, writer: values.Writer) -> Any:
        """What was printed for the tests, and names of the module that have changed."""
        names = {}
        for name in self._wanted:
            value = vars(self._module).get(name, self)
            if value is not self._told.get(name, self):
                self._told[name] = value
                names[name] = writer.child(value)
        return [self._printed.taken() if self._printed else "", names]


class _Printed(io.StringIO):
    def taken(self) -> str:
        text = self.getvalue()[:_PRINTED]
        self.seek(0)
        self.truncate()
        return text
