"""The final number of a response, by rules; what they do not settle is not guessed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gapjax.tasks.boxed import last_boxed
from gapjax.tasks.notation import normalised
from gapjax.tasks.numbers import CURRENCY, NUMERAL, QUANTITY, Number, with_words
from gapjax.tasks.units import CHANGING, MULTIPLIERS, ORDINALS, unit_named

_MARK = re.compile(r"(?<!#)####(?!#)([^\n]*)")
_ENUMERATION = re.compile(r"[\s*_]*\d+[.):]\s+\S*?[^\W\d_]")
_BEGINNING = re.compile(r"(?:[^\W\d_]\s*=)?[-+(\[{$€£¥₹\s]{0,20}(?:US\$)?\.?\d")
_PHRASE = re.compile(
    r"\banswer\s*+(?:(?:is|=|would be|will be|must be)\b\s*+:?|[:=])\s*+(?:(?:about|approximately|"
    r"exactly|simply|just|therefore|thus|then|equal to|the number)\s++)*+",
    re.IGNORECASE,
)
# What an expression may be made of: no words, no ends of sentences, no lines.
_EXPRESSION = re.compile(
    rf"(?:{NUMERAL}|\\[A-Za-z]++|(?<=[\d)\]}}%])[,;:][ ]?(?=[-+]?(?:{CURRENCY})?[-+]?\.?\d)"
    r"|(?<=\d)[ ]:[ ](?=\d)|[^\w\s.,;:?\\]|[_\\ \t])++"
)
_POWER_OR_INDEX = re.compile(r"(?:[_^]\s?\{?[-+]?)?\d+\}?[)\]}\s]*")
_ASSIGNED = re.compile(r"([^\W\d_])\s*=\s*[-+$]?[\d.,]*\d(?=\s*(?:[,;)]|and\b|$))")
# Two numbers as one answer: "3 or 4", "3 apples and 4 pears", "5 times 3", "from 3 km to 5 km".
_JOIN = r"(?P<join>or|and|to|plus|minus|times|over|by|of|out of|divided by|through|versus|vs|mod)"
_BEFORE = re.compile(rf"\d[^\w\n]{{0,3}}(?:(?P<word>[^\W\d_]+)\s+)?{_JOIN}\s+$", re.IGNORECASE)
_BEHIND = re.compile(
    rf"[^\w\n]{{0,3}}(?:(?P<word>[^\W\d_]+)\s+)?{_JOIN}\s+(?:{CURRENCY})?[-+]?\d", re.IGNORECASE
)
_ITEM = re.compile(r"\.[ \t]+\S*[^\W\d_]")  # "2. Add" is one of a list, or an answer and a sentence
# "2 h 30 min"
_COMPOUND_BEFORE = re.compile(r"\d\s?([^\W\d_]+),?\s*$")
_COMPOUND_BEHIND = re.compile(r",?\s*(?:and\s+)?\d")
_LAST_WORD = re.compile(r"([^\W\d_]+)(\s*)$")
_NEXT_WORD = re.compile(r"\s*([^\W\d_]+)")
_NEGATIVE = frozenset({"minus", "negative"})
_FUNCTION = re.compile(r"(?:\b(?:sqrt|log|ln|lg|exp|sin|cos|tan)|root of)\s*$", re.IGNORECASE)
_VARIABLES = frozenset("xyznXYZNπ")
_BRACKETS = " \t()[]{}"
_WINDOW = 80  # characters to either side that decide what an expression belongs to


class Unread(NamedTuple):
    """A final answer that is not one number of the grammar."""

    text: str


def final_number(text: str) -> Number | Unread | None:
    """The number that a response ends in; of a chain as `3 + 4 = 7` what stands last.

    After `</think>`, if that is there:

    1. in the first line with `####` (GSM8K's mark). One that does not begin with a number, or
       begins as `1. Add` does, is a heading if there is text below it;
    2. else inside the last `\\boxed{}`;
    3. else right after the last "answer is" or "answer:" that a number follows;
    4. else the last number of the text.

    Numbers are those of `gapjax.tasks.numbers`. Words behind one are prose, unless they are
    multipliers or units, or would make it another number (`3 dozen`). Digits of a word or of a
    unit's power (`H2O`, `m^2`) are no numbers.

    **Returns:** None if there is no number; `Unread` if there is an answer with digits that is not
    one number: an expression (`2^10`, `3\\pi`, `3 + 4`), a pair, a range, a time, numbers joined by
    words, a decimal comma, a number of more than 1000 characters, a box that is never closed.
    """
    text = text.rpartition("</think>")[2].partition("<think>")[0]
    text = text.rstrip()
    for mark in _MARK.finditer(text):
        line = mark[1] if (boxed := last_boxed(mark[1])) is None else boxed
        content = normalised(line).strip()
        if _BEGINNING.match(content) and not _ENUMERATION.match(mark[1]):
            return _first(content.rpartition("=")[2])
        if content and mark.end() == len(text):
            return _after_phrase(content) or _undecided(content)
    if (boxed := last_boxed(text)) is not None:
        return _only(normalised(boxed)) if boxed else Unread("\\boxed{")
    text = normalised(text)
    return _after_phrase(text) or _last(text)


def _after_phrase(text: str) -> Number | Unread | None:
    for phrase in reversed(list(_PHRASE.finditer(text))):
        if _BEGINNING.match(text, phrase.end()):
            return _first(text[phrase.end() :])
    return None


def _undecided(text: str) -> Unread | None:
    return Unread(text[:_WINDOW]) if re.search(r"\d", text) else None


def _first(text: str) -> Number | Unread | None:
    return next((_read(text, each) for each in _expressions(text)), None)


def _only(text: str) -> Number | Unread | None:
    found = [_read(text, each, prose=False) for each in _expressions(text)]
    return found[0] if len(found) == 1 else _undecided(text)


def _last(text: str) -> Number | Unread | None:
    last = next(_expressions(text, backwards=True), None)
    if last is None:
        return None
    line_begins = not text[: last.start()].rpartition("\n")[2].strip()
    if line_begins and _ITEM.match(text, last.end()):
        return _undecided(text[last.start() : last.end() + _WINDOW])
    return _read(text, last)


def _expressions(text: str, *, backwards: bool = False) -> Iterator[re.Match[str]]:
    """Those with digits, but for the digits of words, indices and powers of units."""
    found = (each for each in _EXPRESSION.finditer(text) if re.search(r"\d", each[0]))
    for match in reversed(list(found)) if backwards else found:
        word = _LAST_WORD.search(text[max(0, match.start() - _WINDOW) : match.start()])
        of_word = word and not word[2] and _POWER_OR_INDEX.fullmatch(match[0])
        if not (word and of_word) or (match[0][0] == "^" and unit_named(word[1]) is None):
            yield match


def _read(text: str, match: re.Match[str], *, prose: bool = True) -> Number | Unread:
    """One expression with the words around it.

    **Arguments:**

    - `prose`: an exclamation mark is one, and no factorial.
    """
    unread = Unread(" ".join(match[0].split())[:_WINDOW])
    begin = match.start() + len(match[0]) - len(match[0].lstrip(" \t"))
    left = text[max(0, begin - _WINDOW) : begin].rpartition("\n")[2]
    right = text[match.end() : match.end() + _WINDOW].partition("\n")[0]
    *earlier, last = text[begin : match.end()].split("=")
    if not re.search(r"\d", last):  # "5 = x"; but what is 5 = \pi?
        if last.strip(" \t()[]{}"):
            return unread
        earlier, last, right = earlier[:-1], earlier[-1], ""
    if len(set(_ASSIGNED.findall(left + match[0]))) > 1:  # x = 3, y = 4
        return unread
    if not earlier and _bound(left, last):
        return unread
    core = last.strip(_BRACKETS)
    if prose and core.endswith("!") and right[:1] in ("", " ", "."):
        core, right = core[:-1], ""
    elif core.endswith(("-", "/")) and _NEXT_WORD.match(right):  # 5-minute, 5 – so, $5/hour
        core, right = core[:-1].rstrip(), core[-1].replace("-", " ") + right
    elif last.rstrip()[-1:] in _BRACKETS:
        right = ""
    else:
        right = last[len(last.rstrip()) :] + right
    elliptic = "." in core and text[match.end() : match.end() + 2] == ".."  # 0.333...
    quantity = None if elliptic else QUANTITY.fullmatch(core)
    # (1,080) may be a pair.
    if quantity is None or ("," in core and last.lstrip()[:1] in "([{" and core[0].isdigit()):
        return unread
    if right[:2].lower() in ORDINALS and not right[2:3].isalpha():
        right = right[2:]
    number, rest = with_words(quantity, right)
    if number is None or _changed(rest, measured=rest != right):
        return unread
    negative = not earlier and (word := _LAST_WORD.search(left)) and word[1].lower() in _NEGATIVE
    return number._replace(value=-number.value) if negative else number


def _bound(left: str, expression: str) -> bool:
    """Whether an expression belongs to what stands before it."""
    word = _LAST_WORD.search(left)
    inner = expression.lstrip(_BRACKETS)
    spaced = not word or bool(word[2])
    if _FUNCTION.search(left) or not (spaced or inner[:1] in "$€£¥₹:"):
        return True
    if inner[:1] in ("-", "+"):
        if inner[1:2].isspace() or (word and word[1] in _VARIABLES):
            return True
    elif word and word[1] in _VARIABLES:
        return True
    if (joined := _BEFORE.search(left)) and _is_join(joined):
        return True
    compound = _COMPOUND_BEFORE.search(left)
    return compound is not None and _measures(compound[1])


def _changed(rest: str, *, measured: bool) -> bool:
    """Whether the words behind a number make it another one, or part of one."""
    word = _NEXT_WORD.match(rest)
    if word and (word[1].lower() in CHANGING or word[1] in _VARIABLES):
        return True
    if (joined := _BEHIND.match(rest)) and _is_join(joined):
        return True
    return measured and _COMPOUND_BEHIND.match(rest.lstrip()) is not None


def _is_join(match: re.Match[str]) -> bool:
    """Things may be counted on both sides of "and" and "or"; "3 is added to 4" joins nothing."""
    word = match["word"]
    return word is None or match["join"].lower() in ("or", "and", "of") or _measures(word)


def _measures(word: str) -> bool:
    return unit_named(word) is not None or word.lower() in MULTIPLIERS
