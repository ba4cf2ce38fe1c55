"""Published formats of problems: what of a line is the prompt, and what the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from gapjax.tasks.boxed import last_boxed
from gapjax.tasks.fields import Fault, optional, shown, text, texts
from gapjax.tasks.problem import Grading

Format = Literal["jsonl", "gsm8k", "math", "mbpp", "prontoqa"]

GRADING: Mapping[Format, Grading] = {
    "jsonl": "numeric",
    "gsm8k": "numeric",
    "math": "math",
    "mbpp": "python",
    "prontoqa": "exact",
}

# What an MBPP file says about tests. Challenge tests are further ones, which the benchmark's own
# accuracy leaves out as well.
_TEST_FIELDS = {"test_list", "test_setup_code", "test_imports", "challenge_test_list"}


def _gsm8k(row: Mapping[str, Any]) -> tuple[str, str]:
    _, mark, answer = text(row, "answer").rpartition("####")
    if not mark or not answer.strip():
        raise Fault("field 'answer' has no final answer after '#### '")
    return text(row, "question"), answer.strip()


def _math(row: Mapping[str, Any]) -> tuple[str, str]:
    answer = last_boxed(text(row, "solution"))
    if not answer:
        raise Fault("field 'solution' has no \\boxed{} answer")
    return text(row, "problem"), answer


def _mbpp(row: Mapping[str, Any]) -> tuple[str, str]:
    for name in row:
        if "test" in name.lower() and name not in _TEST_FIELDS:
            raise Fault(
                f"field {shown(name)} is none of {', '.join(sorted(_TEST_FIELDS))}: "
                "tests in it would not be run"
            )
    tests = texts(row, "test_list")
    if not any(test.strip() for test in tests):
        raise Fault("field 'test_list' is not a list of tests")
    listed = "\n".join(tests)
    prompt = f"{text(row, 'text' if 'text' in row else 'prompt')}\n"
    prompt += f"Your code should pass these tests:\n\n{listed}\n"
    before = [*texts(row, "test_imports"), optional(row, "test_setup_code") or ""]
    return prompt, "\n".join([*filter(str.strip, before), listed]).strip()


def _prontoqa(row: Mapping[str, Any]) -> tuple[str, str]:
    answer = text(row, "answer").strip()
    if answer not in ("True", "False"):
        raise Fault(f"field 'answer' is {shown(answer)}, neither 'True' nor 'False'")
    facts, query = (text(row, name).strip() for name in ("question", "query"))
    return f"{facts}\n{query}\nReply with one word: True or False.", answer


PARSERS: Mapping[Format, Callable[[Mapping[str, Any]], tuple[str, str | None]]] = {
    "gsm8k": _gsm8k,
    "math": _math,
    "mbpp": _mbpp,
    "prontoqa": _prontoqa,
}
