"""The fields of a JSON object, taken strictly."""

from __future__ import annotations

import difflib
import itertools
import math
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any


class Fault(Exception):
    """What is wrong with a line."""


class Written(float):
    """A number of a JSON file that remembers its digits: 2.50, or more than a float holds."""

    text: str

    def __new__(cls, text: str) -> Written:
        """From the literal."""
        self = super().__new__(cls, text)
        self.text = text
        return self


def look_up(row: Mapping[str, Any], name: str) -> Any:
    """The value of a field; `a.b` is the field `b` of the object `a`, unless a field has that name.

    **Raises:** `KeyError` if it is not there.
    """
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        if not isinstance(value, Mapping):
            raise KeyError(name)
        value = value[part]
    return value


def text(row: Mapping[str, Any], name: str) -> str:
    """A text that is there and not blank. **Raises:** `Fault`."""
    try:
        value = look_up(row, name)
    except KeyError:
        raise Fault(f"no field {name!r}; there are: {listed(row)}") from None
    if not isinstance(value, str) or not value.strip():
        raise Fault(f"field {name!r} is not a text: {shown(value)}")
    return _encodable(value, name)


def optional(row: Mapping[str, Any], name: str) -> str | None:
    """A text, or a number as it is written; None if the field is null or not there.

    **Raises:** `Fault`.
    """
    try:
        value = look_up(row, name)
    except KeyError:
        return None
    if value is None:
        return None
    if isinstance(value, str):
        return _encodable(value, name)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf:
        return value.text if isinstance(value, Written) else str(value)
    raise Fault(f"field {name!r} is neither a text nor a number: {shown(value)}")


def texts(row: Mapping[str, Any], name: str) -> list[str]:
    """A list of texts; empty if the field is null or not there. **Raises:** `Fault`."""
    value = row.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise Fault(f"field {name!r} is not a list of texts: {shown(value)}")
    return [_encodable(each, name) for each in value]


def shown(value: object) -> str:
    """A value of somebody's file, short and printable, however long or deep it is."""
    return reprlib.repr(value)[:80]


def listed(names: Iterable[str]) -> str:
    """Names of fields for a message."""
    known = list(names)
    several = ", ".join(map(shown, known[:12])) or "none"
    return several + (f" and {len(known) - 12} more" if len(known) > 12 else "")


def meant(name: str, names: Iterable[str]) -> str | None:
    """Which of the names may have been meant by one that is none of them."""
    few = itertools.islice(names, 1000)
    by_lower = {each.lower(): each for each in few}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.7)
    return by_lower[close[0]] if close else None


def _encodable(value: str, name: str) -> str:
    """JSON can express half a character (a lone surrogate), which no tokenizer takes."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Fault(f"field {name!r} holds a lone surrogate: {shown(value)}") from error
    return value
