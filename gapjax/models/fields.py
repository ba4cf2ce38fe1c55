"""The fields of a configuration that others wrote: which there may be, and of what type.

Every reader of such a file has a list of what it honours and of what it may pass over, and why.
Anything else is refused by name: what it would have changed, nobody would see.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping
from numbers import Integral, Real
from typing import Any

from gapjax.errors import UserError

_MOST = 2**31 - 1  # of anything that counts what is in a model


@dataclasses.dataclass(frozen=True)
class Known:
    """What is known of the fields of a kind of file.

    - `honoured`: they are read.
    - `harmless`: they change nothing that gapjax computes; by name, the reason.
    - `neutral`: they change nothing as long as they have one of these values.
    - `instead`: what to do about another value of one of these, where that is known.
    """

    honoured: Collection[str]
    harmless: Mapping[str, str]
    neutral: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    instead: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def check(self, raw: Mapping[str, Any], *, where: object, within: str = "") -> None:
        """Refuse what is not known. A null says nothing, whatever its name.

        **Arguments:**

        - `within`: the name of the field that holds these, for messages.

        **Raises:** `UserError` that names the field.
        """
        for name, value in raw.items():
            if value is None or name in self.honoured or name in self.harmless:
                continue
            said = f"{within}{name} = {value!r:.200}"
            if name not in self.neutral:
                raise UserError(
                    f"{said} is not known",
                    where=where,
                    hint="if it does not change what the model computes, take it out of the file",
                )
            allowed = self.neutral[name]
            if not any(value == each for each in allowed):
                only = " or ".join(map(repr, allowed)) or "null"
                hint = self.instead.get(name, f"only {only} is")
                raise UserError(f"{said} is not supported", where=where, hint=hint)


class Fields:
    """The fields of an object, read by name and type.

    **Arguments:**

    - `raw`: the object; a null counts as absent.
    - `where`, `within`: the file, and the field that holds the object, for messages.

    Its methods raise `UserError` for a value of another type or size, and for one that is missing
    and has no default.
    """

    def __init__(self, raw: Mapping[str, Any], *, where: object, within: str = "") -> None:
        self._raw, self._where, self._within = raw, where, within

    def __contains__(self, name: str) -> bool:
        return self._raw.get(name) is not None

    def _get(self, name: str, default: Any) -> Any:
        if name in self:
            return self._raw[name]
        if default is None:
            raise UserError(f"key {self._within}{name!r} is missing", where=self._where)
        return default

    def _refuse(self, name: str, what: str) -> UserError:
        value = f"{self._raw[name]!r:.200}"
        return UserError(f"{self._within}{name} = {value} is not {what}", where=self._where)

    def whole(self, name: str, default: int | None = None, *, least: int = 1) -> int:
        """A whole number that something is counted with."""
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise self._refuse(name, "a whole number")
        if not least <= int(value) <= _MOST:
            raise self._refuse(name, f"between {least} and {_MOST}")
        return int(value)

    def number(self, name: str, default: float | None = None) -> float:
        """A positive number."""
        return self._positive(name, self._get(name, default))

    def numbers(self, name: str) -> tuple[float, ...]:
        """A list of positive numbers."""
        values = self._get(name, None)
        if not isinstance(values, list | tuple) or not values:
            raise self._refuse(name, "a list of numbers")
        return tuple(self._positive(name, value) for value in values)

    def _positive(self, name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, Real):
            raise self._refuse(name, "a number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not 0 < number < math.inf:
            raise self._refuse(name, "a positive, finite number")
        return number

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self._get(name, default)
        if not isinstance(value, bool):
            raise self._refuse(name, "true or false")
        return value

    def text(self, name: str, default: str) -> str:
        """A text."""
        value = self._get(name, default)
        if not isinstance(value, str):
            raise self._refuse(name, "a text")
        return value

    def texts(self, name: str, default: list[str]) -> list[str]:
        """A list of texts."""
        value = self._get(name, default)
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self._refuse(name, "a list of texts")
        return value

    def table(self, name: str) -> Mapping[str, Any]:
        """An object; an empty one if there is none."""
        value = self._get(name, {})
        if not isinstance(value, Mapping):
            raise self._refuse(name, "a table of fields")
        return value
