"""Ground truth: is an answer right? For measurement only, never for selection."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from gapjax.errors import UserError
from gapjax.tasks import Grading
from gapjax.tasks.boxed import last_boxed
from gapjax.tasks.numbers import Number, read_number
from gapjax.verifiers.numbers import final_number
from gapjax.verifiers.python_code import extract_code
from gapjax.verifiers.python_tests import run_tests
from gapjax.verifiers.words import compare_words, final_word
from gapjax.workers import Crashed, TimedOut, WorkerPool

Grade = Literal["correct", "incorrect", "timeout", "error"]

_SECONDS = 5.0  # for one answer
_PROCESSES = max(1, min(4, os.cpu_count() or 1))


def grade(
    response: str,
    answer: str,
    method: Grading = "numeric",
    *,
    run_code: bool = False,
    site_packages: bool = False,
) -> Grade:
    """Compare a response with the reference answer.

    **Arguments:**

    - `response`: free text.
    - `answer`: the reference; for `"python"` the code of the tests.
    - `method`: `"numeric"` compares the final number (see `gapjax.verifiers.numbers`) with the
        answer, one number and nothing else (see `gapjax.tasks.numbers`), exactly; `"exact"` the
        texts without surrounding space, or words if the answer is one (see
        `gapjax.verifiers.words`); `"math"` expressions by math-verify in a process of its own;
        `"python"` runs the tests on the response's code (see `gapjax.verifiers.python_code`).
    - `run_code`: `"python"` runs nothing without it: the process has limits but is **no
        sandbox**, see `gapjax.verifiers.python_tests`.
    - `site_packages`: `"python"` lets code and tests import installed packages.

    **Returns:** what could not be judged is an outcome of its own: `"timeout"`; `"error"` where
    the answer is not what the method compares with, the response ends in something that is not
    one number, units differ, or a worker crashed.

    **Raises:** `UserError` if math-verify is not installed, or `run_code` is missing.
    """
    options = {"run_code": run_code, "site_packages": site_packages}
    return grade_all([response], [answer], method, **options)[0]


def grade_all(
    responses: Sequence[str],
    answers: Sequence[str],
    method: Grading = "numeric",
    *,
    run_code: bool = False,
    site_packages: bool = False,
    free: bool = False,
) -> list[Grade]:
    """`grade` for many pairs; what needs processes uses several at once.

    **Arguments:**

    - `free`: the answers are responses themselves, such as a stronger model's: their final
        number, expression or word counts.
    """
    pairs = list(zip(responses, answers, strict=True))
    match method:
        case "exact":
            return [compare_words(r, (free and final_word(a)) or a) for r, a in pairs]
        case "numeric":
            return [_numeric(*pair, free=free) for pair in pairs]
        case "math":
            return _expressions(pairs, free=free)
        case "python":
            if not run_code:
                raise UserError(
                    "grading by unit tests runs code that a model wrote",
                    hint="allow it with run_code; it is no sandbox",
                )
            run = functools.partial(_unit_tests, site_packages=site_packages)
            with ThreadPoolExecutor(_PROCESSES) as threads:
                return list(threads.map(run, responses, answers))
    raise UserError(f"unknown grading method {method!r}", hint="numeric, exact, math or python")


def _numeric(response: str, answer: str, *, free: bool) -> Grade:
    reference = final_number(answer) if free else read_number(answer)
    if not isinstance(reference, Number):
        return "error"
    found = final_number(response)
    if found is None:
        return "incorrect"
    agrees = found.agrees_with(reference) if isinstance(found, Number) else None
    return "error" if agrees is None else "correct" if agrees else "incorrect"


def _expressions(pairs: Sequence[tuple[str, str]], *, free: bool) -> list[Grade]:
    """By math-verify. Which box counts, and how it is written, is the same for all methods."""
    asked = [
        (_boxed(r), _boxed(a) if free else f"\\boxed{{{last_boxed(a) or a}}}") for r, a in pairs
    ]
    readable = [i for i, (response, answer) in enumerate(asked) if response and answer]
    requests = [dict(zip(("response", "answer"), asked[i], strict=True)) for i in readable]
    grades: list[Grade] = ["error"] * len(pairs)
    for i, reply in zip(readable, _math_pool().ask_all(requests), strict=True):
        grades[i] = _outcome(reply)
    return [g if r.strip() else "incorrect" for g, (r, _) in zip(grades, pairs, strict=True)]


def _boxed(text: str) -> str:
    """The last box of a text, which is empty if it was never closed, else the text."""
    text = text.rpartition("</think>")[2].partition("<think>")[0]
    boxed = last_boxed(text)
    return text if boxed is None else boxed and f"\\boxed{{{boxed}}}"


def _unit_tests(response: str, tests: str, *, site_packages: bool) -> Grade:
    code = extract_code(response, tests)
    return run_tests(code, tests, timeout=_SECONDS, site_packages=site_packages)


def _outcome(reply: dict[str, bool] | TimedOut | Crashed) -> Grade:
    if isinstance(reply, TimedOut):
        return "timeout"
    if isinstance(reply, Crashed) or "error" in reply:
        return "error"
    return "correct" if reply["correct"] else "incorrect"


def check_method(method: Grading | None) -> None:
    """**Raises:** `UserError` if a method of grading needs a package that is not installed."""
    if method == "math" and find_spec("math_verify") is None:
        raise UserError(
            "grading mathematical expressions needs math-verify", hint="pip install 'gapjax[math]'"
        )


@functools.cache
def _math_pool() -> WorkerPool:
    check_method("math")
    script = Path(__file__).with_name("math_worker.py")
    return WorkerPool(script, workers=_PROCESSES, timeout=_SECONDS)
