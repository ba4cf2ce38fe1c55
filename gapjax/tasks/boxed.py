"""The answer that a solution puts in a box, as in MATH (arXiv:2103.03874)."""

from __future__ import annotations

import re

_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # an escaped brace is a character like others
_BARE = re.compile(r"(?:\\[^)\]]|[^$\\\n])*+")  # to the end of the formula or line


def last_boxed(text: str) -> str | None:
    """What stands inside the last `\\boxed{}` (or `\\fbox{}`), braces balanced.

    Without braces (`\\boxed 2`, `\\boxed\\frac12`) it goes to the end of the formula or line.

    **Returns:** None if nothing is boxed; an empty text if the box is empty or never closed.
    """
    boxes = list(_BOX.finditer(text))
    if not boxes:
        return None
    begin = boxes[-1].end()
    if not text.startswith("{", begin):
        bare = _BARE.match(text, begin)
        assert bare is not None
        return bare.group().strip().rstrip(".,;").rstrip()
    depth = 0
    for brace in _BRACE.finditer(text, begin):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return text[begin + 1 : brace.start()].strip()
    return ""
