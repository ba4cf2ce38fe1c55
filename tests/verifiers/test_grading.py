from __future__ import annotations

import pytest

from gapjax.verifiers import grade


@pytest.mark.fast
@pytest.mark.parametrize(
    ("response", "answer", "expected"),
    [
        ("7", "7", "correct"),
        ("3 + 4 = 7.", "7", "correct"),
        ("The answer is 7, I think", "7", "correct"),
        ("7, no, 8", "7", "incorrect"),
        ("so it costs 1,234 dollars", "1234", "correct"),
        ("1,234", "1.234", "incorrect"),
        ("7.0", "7", "correct"),
        ("0.10", "0.1", "correct"),
        ("3-4", "4", "correct"),
        ("3 - 4 = -1", "-1", "correct"),
        ("-1", "1", "incorrect"),
        ("#### 42\nThat took 3 steps", "42", "correct"),
        ("it is 5", "she has 3 left\n#### 5", "correct"),
        ("seven", "7", "incorrect"),
        ("", "7", "incorrect"),
        ("17", "7", "incorrect"),
    ],
)
def test_numeric(response: str, answer: str, expected: str) -> None:
    assert grade(response, answer) == expected


def test_exact() -> None:
    assert grade(" yes\n", "yes", method="exact") == "correct"
    assert grade("yes.", "yes", method="exact") == "incorrect"
