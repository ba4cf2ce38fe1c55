"""Whether an answer can be what responses are compared with."""

from __future__ import annotations

import ast
import warnings

from gapjax.tasks.fields import Fault, shown
from gapjax.tasks.numbers import read_number
from gapjax.tasks.problem import Grading


def check_reference(answer: str, grading: Grading) -> None:
    """Refuse what `grading` could only judge wrongly.

    **Raises:** `Fault`.
    """
    if not answer.strip():
        raise Fault("the answer is empty; leave it out, or null, where none is known")
    if grading == "numeric" and read_number(answer) is None:
        raise Fault(
            f"the answer {shown(answer)} is not one number, which numeric grading needs: choose "
            "task.grading math or exact, or another task.answer_field"
        )
    if grading == "python":
        _check_tests(answer)


def _check_tests(code: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in texts
            tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Fault(f"the tests {shown(code)} are no Python code ({error})") from error
    if not any(isinstance(node, ast.Assert | ast.Raise | ast.Call) for node in ast.walk(tree)):
        raise Fault(f"the answer {shown(code)} tests nothing, which python grading needs")
