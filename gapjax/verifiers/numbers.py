"""The final number of a text, exactly."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from gapjax.tasks.jsonl import last_boxed

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d{{1,3}}(?!\d))?"
# A sign counts only where it cannot be a subtraction: "3-4" holds 3 and 4. Digits that
# belong to a word or an exponent ("m2", "m^2") are no numbers.
_NUMBER = re.compile(
    r"(?P<sign>(?<![\w.)}\]])-)?(?P<currency>[$€£¥]\s?)?(?P<late_sign>(?<=[$€£¥])-)?"
    rf"(?<![\w.^])(?:(?P<whole>\d+)\s+(?P<mixed>\d+/\d+)(?![\w/])"
    rf"|(?P<top>{_DECIMAL})\s?/\s?(?P<bottom>{_DECIMAL})(?![\w/])|(?P<plain>{_DECIMAL}))"
    r"(?P<percent>\s?\\?%)?"
)
_FRACTION = re.compile(r"\\[dt]?frac\{(-?[\d.,]+)\}\{(-?[\d.,]+)\}")
_MARKED = re.compile(r"####[^\S\n]*(\S.*)")  # GSM8K's final answer
_LONGEST = 1000  # characters of a number; Python refuses to convert very long ones


class Number(NamedTuple):
    """A number as it was written."""

    value: Fraction
    percent: bool

    def agrees_with(self, other: Number) -> bool:
        """Equal; where only one of both has a percent sign it may be a unit or a hundredth."""
        if self.value == other.value:
            return True
        if self.percent == other.percent:
            return False
        hundredth, plain = (self, other) if self.percent else (other, self)
        return hundredth.value / 100 == plain.value


def final_number(text: str) -> Number | None:
    """The number a text ends in.

    That is the first one after `#### ` (after the last `=` in that line), else that inside the
    last `\\boxed{}`, else the last number of the text. Thousands separators, currency and
    percent signs, units, signs (ASCII or U+2212), decimals, fractions, mixed numbers and
    exponents are understood.
    """
    text = text.replace("−", "-").replace("{,}", ",").replace(r"\$", "$")
    if marked := _MARKED.search(text):
        found = _numbers(marked.group(1).rpartition("=")[2])
        return found[0] if found else None
    if (boxed := last_boxed(text)) is not None and (found := _numbers(boxed)):
        return found[-1]
    found = _numbers(text)
    return found[-1] if found else None


def _numbers(text: str) -> list[Number]:
    text = _FRACTION.sub(r"\1/\2", text)
    found = (_number(match) for match in _NUMBER.finditer(text))
    return [number for number in found if number is not None]


def _number(match: re.Match[str]) -> Number | None:
    if len(match.group()) > _LONGEST:
        return None
    part = {name: text and text.replace(",", "") for name, text in match.groupdict().items()}
    try:
        if part["mixed"]:
            value = Fraction(part["whole"]) + Fraction(part["mixed"])
        elif part["top"]:
            value = Fraction(part["top"]) / Fraction(part["bottom"])
        else:
            value = Fraction(part["plain"])
    except ZeroDivisionError:
        return None
    negative = bool(part["sign"]) != bool(part["late_sign"])
    return Number(-value if negative else value, bool(part["percent"]))
