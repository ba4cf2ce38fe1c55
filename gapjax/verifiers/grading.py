"""Ground truth: is an answer right? For measurement only, never for selection."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Literal

Grade = Literal["correct", "incorrect"]

# A minus sign counts only where it cannot be a subtraction: "3-4" holds 3 and 4.
_NUMBER = re.compile(r"(?<![\w.)])-?\d[\d,]*(?:\.\d+)?|\d[\d,]*(?:\.\d+)?")
_MARKED = re.compile(r"####\s*(.+)")  # GSM8K's final answer


def grade(response: str, answer: str, method: Literal["numeric", "exact"] = "numeric") -> Grade:
    """Compare a response with the reference answer.

    **Arguments:**

    - `response`: free text.
    - `answer`: the reference.
    - `method`: `"exact"` compares the texts without surrounding space; `"numeric"` the
        number after `####` or else the last number of the response, exactly (in decimal,
        thousands separators allowed), with that of the reference.
    """
    if method == "exact":
        return "correct" if response.strip() == answer.strip() else "incorrect"
    found = _final_number(response)
    return "correct" if found is not None and found == _final_number(answer) else "incorrect"


def _final_number(text: str) -> Decimal | None:
    if marked := _MARKED.search(text):
        text = marked.group(1)
    numbers = _NUMBER.findall(text)
    return Decimal(numbers[-1].replace(",", "")) if numbers else None
