"""The grammar of one number, exactly: what people write, and nothing that has to be guessed.

| written | value |
| --- | --- |
| `1080`, `+7`, `-7`, `−7`, `–7`, `.5`, `5.`, `٣`, `７` | as it says; any decimal digits |
| `1,080`, `1 080`, `1\\,080`, `1{,}080`, `1_080`, `1'080` | 1080: groups of three behind one to three |
| `3/4`, `\\frac{3}{4}`, `\\frac34`, `¾` | 3/4 |
| `2 1/2`, `2\\frac{1}{2}`, `2½` | 5/2, the fraction being less than 1 |
| `3e8`, `3 \\times 10^8`, `3×10⁸`, `3*10**8`, `10^8` | 300000000; exponents of three digits at most |
| `1.5 million`, `2 thousand`, `3k`, `$2M` | 1500000, 2000, 3000, 2000000 |
| `42%`, `42\\%`, `42 percent` | 42, or 42/100, whichever the other number is |
| `$18`, `18 dollars`, `5 m^2`, `60 km/h`, `9 (apples)` | with a unit of `gapjax.tasks.units`, or words in brackets |

Around it may stand `$…$`, `\\(…\\)`, `**…**`, `\\text{…}`, quotes, brackets and a full stop. Everything else
(`(1, 2)`, `3:30`, `3-5`, `2^10`, `\\sqrt{3}`, `3\\pi`, `1,5`, `1.2.3`, `0.3…`, `5!`, `3 or 4`) is no number.
"""  # noqa: E501

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from gapjax.tasks.boxed import last_boxed
from gapjax.tasks.notation import normalised
from gapjax.tasks.units import MULTIPLIERS, SHORT, SHORT_MONEY, unit_named

LONGEST = 1000  # characters of a number; Python's own conversion of very long ones is quadratic


class Number(NamedTuple):
    """A number as it was written; `unit` is empty where none was, or one that may be two."""

    value: Fraction
    percent: bool = False
    unit: str = ""

    def agrees_with(self, other: Number) -> bool | None:
        """Equal; where only one of both has a percent sign it may be a unit or a hundredth.

        **Returns:** None where both have units, and different ones: nothing is converted.
        """
        if self.unit and other.unit and self.unit != other.unit:
            return None
        if self.value == other.value:
            return True
        if self.percent == other.percent:
            return False
        hundredth, plain = (self, other) if self.percent else (other, self)
        return hundredth.value / 100 == plain.value


# Digits with what may separate them, taken whole: each is looked at once, however long it is.
NUMERAL = (
    r"(?:\.?\d(?:\d|[.,_'](?=\d)|[ ](?=\d{3}(?![\d/])))*+"
    r"(?:[eE][-+]?\d++(?![^\W_]))?)"
)
CURRENCY = r"(?:(?:US|A|C)?\$|[€£¥₹])"
_GROUPED = re.compile(r"[1-9]\d{0,2}([,_' ])\d{3}(?:\1\d{3})*(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+")
QUANTITY = re.compile(
    rf"(?P<sign>[-+])?\s?(?P<currency>{CURRENCY})?\s?(?P<late_sign>[-+])?(?:"
    rf"(?P<ten>10)\s?\^\s?\{{?(?P<power>[-+]?\d{{1,3}})\}}?"
    rf"|(?P<whole>{NUMERAL})\s{{1,3}}(?P<top>[1-9]\d{{0,8}})/(?P<bottom>\d{{1,9}})(?![\d.,])"
    rf"|(?P<above>{NUMERAL})\s?/\s?(?P<below>{NUMERAL})"
    rf"|(?P<plain>{NUMERAL})(?:\s?[×*]\s?10\s?\^\s?\{{?(?P<exponent>[-+]?\d{{1,3}})\}}?)?"
    r")(?:\s?(?P<after>[%°]|[$€£¥₹¢](?![\d$])))?"
)
_WORD = re.compile(r"\s*([^\W\d_]+)")
_NAME = r"[^\W\d_]+(?:\^?\{?[23]\}?(?!\d))?"
_MORE = rf"(?P<more>(?:\s*/\s*|\s+(?:per|an?)\s+){_NAME}(?![^\W_]))"
_PER = re.compile(_MORE, re.IGNORECASE)
_UNIT = re.compile(
    rf"(?P<one>\s*(?:(?:square|cubic|sq|cu)\b\.?\s*)?(?:°[CF]|[$¢€£¥₹°]|{_NAME}))(?![^\W_])"
    rf"{_MORE}?",
    re.IGNORECASE,
)
_IN_BRACKETS = re.compile(r"\s*\(\s*[^\W\d_]+(?:[ -][^\W\d_]+){0,3}\s*\)")


def read_number(text: str) -> Number | None:
    """The number that a text is, whole; None if it is anything else.

    As a solution's last line may be the answer (`#### 18`, `\\boxed{18}`), so may a reference.
    """
    if "####" in text:
        text = text.rpartition("####")[2]
    elif boxed := last_boxed(text):
        text = boxed
    if len(text) > LONGEST:
        return None
    text = normalised(text).strip().removesuffix(".").rstrip()
    inner = text
    while inner[:1] + inner[-1:] in ("()", "[]", "{}"):
        inner = inner[1:-1].strip()
    match = QUANTITY.match(inner)
    if match is None or (inner != text and "," in match.group()):  # (1,080) may be a pair
        return None
    number, rest = with_words(match, inner[match.end() :])
    return number if not rest or _IN_BRACKETS.fullmatch(rest) else None


def with_words(match: re.Match[str], behind: str) -> tuple[Number | None, str]:
    """The number of a match of `QUANTITY` with the multiplier and unit behind it, and the rest.

    None if the match is no number, or is glued to letters that are neither.
    """
    value = _value(match)
    if value is None:
        return None, behind
    glued = _WORD.match(behind) if behind[:1].isalpha() else None
    short = SHORT_MONEY if match["currency"] else SHORT
    if glued and glued[1].lower() in short and (match["currency"] or glued[1] in short):
        value *= short[glued[1].lower()]
        behind, glued = behind[glued.end() :], None
    while (word := _WORD.match(behind)) and word[1].lower() in MULTIPLIERS:
        value *= MULTIPLIERS[word[1].lower()]
        behind, glued = behind[word.end() :], None
    percent = match["after"] == "%"
    if word := re.match(r"\s*per\s?cent\b", behind, re.IGNORECASE):
        percent, behind, glued = True, behind[word.end() :], None
    sign = match["currency"] or (match["after"] if not percent else None)
    name = sign[-1] if sign else ""
    if not percent and (found := (_PER if sign else _UNIT).match(behind)):
        for end in (found.end("more"), found.end("one") if not sign else 0):
            if end > 0 and unit_named(name + behind[:end]) is not None:
                name, behind, glued = name + behind[:end], behind[end:], None
                break
    unit = unit_named(name) or ""
    return None if glued else Number(value, percent, unit), behind


def _value(match: re.Match[str]) -> Fraction | None:
    part = match.groupdict()
    if len(match.group()) > LONGEST or (part["sign"] and part["late_sign"]):
        return None
    try:
        if part["ten"]:
            value = Fraction(10) ** int(part["power"])
        elif part["whole"]:
            top, bottom = int(part["top"]), int(part["bottom"])
            if not 0 < top < bottom or "." in part["whole"] or "e" in part["whole"].lower():
                return None
            value = _plain(part["whole"]) + Fraction(top, bottom)
        elif part["above"]:
            value = _plain(part["above"]) / _plain(part["below"])
        else:
            value = _plain(part["plain"]) * Fraction(10) ** int(part["exponent"] or 0)
    except (ValueError, ZeroDivisionError):
        return None
    return -value if "-" in (part["sign"], part["late_sign"]) else value


def _plain(numeral: str) -> Fraction:
    """**Raises:** `ValueError` if its separators are not those of thousands."""
    mantissa, _, exponent = numeral.lower().partition("e")
    if _GROUPED.fullmatch(mantissa) is None or len(exponent) > 4:
        raise ValueError(numeral)
    return Fraction(re.sub("[,_' ]", "", mantissa)) * Fraction(10) ** int(exponent or 0)
