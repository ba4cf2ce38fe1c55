"""Text that others wrote, as it may be shown to people.

A label, a model's answer or a server's complaint may hold what a terminal obeys, or what makes
a reader see other than what is there: escape sequences, carriage returns, marks that turn the
direction of reading, characters without a width, halves of characters, hills of accents.
"""

from __future__ import annotations

import json
import unicodedata

_HIDING = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})  # Unicode's general categories
# Letters and marks that are drawn as nothing.
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u3164\uffa0")
_JOINERS = frozenset("\u200c\u200d")  # between letters of some scripts, and in compound emoji
_MARKS = frozenset({"Mn", "Me"})
_MOST_MARKS = 4  # on one letter; more are a picture that covers other lines


def shown(text: object, limit: int = 200, *, lines: bool = False) -> str:
    """Text of others on one line, such that all of it is seen and nothing of it is obeyed.

    Letters of all scripts, emoji and spaces stay; a control character becomes its picture
    (an escape `␛`), what else cannot be seen becomes its number (`⟨U+202E⟩`).

    **Arguments:**

    - `limit`: characters of the text that are shown; how many more there are is said.
    - `lines`: leave line feeds and tabs as they are.
    """
    whole = str(text)
    cut = whole[:limit]
    # Nearly every text is harmless, and many are long.
    if not cut.isascii() or not cut.isprintable():
        cut = _visible(cut, kept="\n\t" if lines else "")
    if len(whole) > limit:
        cut += f" … [{len(whole) - limit} more characters]"
    return cut


def shown_ends(text: object, limit: int = 1000) -> str:
    """`shown` with what is too long cut in its middle, for what is only known to begin and end."""
    whole = str(text)
    if len(whole) <= limit:
        return shown(whole, limit)
    half = limit // 2
    begin, end = shown(whole[:half], half), shown(whole[-half:], half)
    return f"{begin} … [{len(whole) - 2 * half} more characters] … {end}"


def in_picture(text: object, limit: int = 60) -> str:
    """`shown` as Matplotlib draws it to the letter: a dollar begins no formula.

    A name that begins with an underscore, which Matplotlib leaves out of legends, is set in quotes.
    """
    name = shown(text, limit).replace("$", r"\$")
    # Its fonts lack most pictures of control characters.
    name = "".join("\ufffd" if 0x2400 <= ord(each) < 0x2440 else each for each in name)
    return f"“{name}”" if name.startswith("_") else name


def hidden(character: str) -> bool:
    """Whether one sees nothing of a character where it stands, or a terminal may obey it."""
    return unicodedata.category(character) in _HIDING or character in _INVISIBLE


def json_line(value: object) -> str:
    """JSON on one line, in which what is hidden is escaped and all other letters stay."""
    line = json.dumps(value, ensure_ascii=False)
    if line.isascii():
        return line.replace("\x7f", "\\u007f")
    return "".join(json.dumps(each)[1:-1] if hidden(each) else each for each in line)


def _visible(text: str, *, kept: str) -> str:
    pieces, marks = [], 0
    for i, character in enumerate(text):
        category = unicodedata.category(character)
        marks = marks + 1 if category in _MARKS else 0
        if character in kept:
            safe = True
        elif character in _JOINERS:
            safe = _joins(text[i - 1 : i], text[i + 1 : i + 2])
        else:
            safe = not hidden(character) and marks <= _MOST_MARKS
        pieces.append(character if safe else _picture(character))
    return "".join(pieces)


def _joins(before: str, after: str) -> bool:
    """Whether a joiner between these two has something to join."""
    return all(
        each and not each.isascii() and unicodedata.category(each)[0] in "LMS"
        for each in (before, after)
    )


def _picture(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if 0xD800 <= code < 0xE000:  # no file can hold it, and no terminal
        return "\ufffd"
    return "\u2421" if code == 0x7F else f"⟨U+{code:04X}⟩"
