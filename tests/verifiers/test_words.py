"""Answers of one word."""

from __future__ import annotations

import pytest

from gapjax.verifiers import grade
from gapjax.verifiers.words import final_word

CASES = [
    ("False", "False", "correct"),
    (" false\n", "False", "correct"),
    ("FALSE", "False", "correct"),
    ("False.", "False", "correct"),
    ("**False.**", "False", "correct"),
    ("**False**.", "False", "correct"),
    ("*False*", "False", "correct"),
    ("_False_", "False", "correct"),
    ("`False`", "False", "correct"),
    ('"False"', "False", "correct"),
    ("“False.”", "False", "correct"),
    ("(False)", "False", "correct"),
    ("<answer>False</answer>", "False", "correct"),
    ("<b>False</b>.", "False", "correct"),
    ("\\boxed{\\text{False}}", "False", "correct"),
    ("$\\text{False}$", "False", "correct"),
    ("so it cannot be true\n#### False", "False", "correct"),
    ("The answer is: false", "False", "correct"),
    ("The answer is **False**.", "False", "correct"),
    ("**Answer:** False", "False", "correct"),
    ("Answer: False\nas true would mean more", "False", "correct"),
    ("the answer is false because it is not true", "False", "correct"),
    ("<think>True?</think>False", "False", "correct"),
    ("False, as Max is no cat", "False", "correct"),
    ("The statement is false.", "False", "correct"),
    ("True", "False", "incorrect"),
    ("The statement is true.", "False", "incorrect"),
    ("The answer is true", "False", "incorrect"),
    ("", "False", "incorrect"),
    ("maybe", "False", "incorrect"),
    ("<think>False", "False", "incorrect"),
    ("Falsehood", "False", "incorrect"),
    # both, or a denial: which is it?
    ("True or False", "False", "error"),
    ("True. Wait, false.", "False", "error"),
    ("It is not true.", "False", "error"),
    ("It isn't true", "True", "error"),
    ("not necessarily true", "True", "error"),
    ("The answer is not true", "True", "error"),
    ("Yes.", "yes", "correct"),
    ("No, it is not.", "No", "correct"),
    ("yes and no", "no", "error"),
    # any other word
    ("Paris", "paris", "correct"),
    ("**Paris**!", "Paris", "correct"),
    ("The answer is Paris, the capital.", "Paris", "correct"),
    ("The answer is New York.", "New", "incorrect"),
    ("It is Paris.", "Paris", "incorrect"),
    ("¡Sí!", "sí", "correct"),
    ("ДА.", "да", "correct"),
    # options
    ("B", "B", "correct"),
    ("(b)", "B", "correct"),
    ("B) Paris", "B", "correct"),
    ("(B) Paris", "B", "correct"),
    ("B. Paris", "B", "correct"),
    ("The answer is (B).", "B", "correct"),
    ("A) Paris", "B", "incorrect"),
    ("Bonn", "B", "incorrect"),
    # several words, or what is no word, letter by letter
    ("New York ", "New York", "correct"),
    ("new york", "New York", "incorrect"),
    ("7.", "7", "incorrect"),
    ("a+b", "a+b", "correct"),
]


@pytest.mark.fast
@pytest.mark.parametrize(("response", "answer", "expected"), CASES)
def test_words(response: str, answer: str, expected: str) -> None:
    assert grade(response, answer, "exact") == expected


@pytest.mark.fast
def test_final_words() -> None:
    assert final_word("**True.**") == final_word("The answer is true!") == "true"
    assert final_word("neither of them") is None
