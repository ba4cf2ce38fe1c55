"""Problems from JSONL files: one object a line.

| format | fields of a line | prompt | answer |
| --- | --- | --- | --- |
| `jsonl` | `prompt`, optional `answer` (or any other names) | as it is | as it is |
| `gsm8k` | `question`, `answer` | the question | what follows `#### ` |
| `math` | `problem`, `solution` | the problem | inside the last `\\boxed{}` |
| `mbpp` | `text` or `prompt`, `test_list`, optional `test_setup_code` | text, tests | the tests |
| `prontoqa` | `question`, `query`, `answer` | facts and query | `True` or `False` |

Sources: arXiv:2110.14168 (GSM8K), arXiv:2103.03874 (MATH), arXiv:2108.07732 (MBPP),
arXiv:2210.01240 (PrOntoQA).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NoReturn

from gapjax.errors import UserError
from gapjax.paths import Path
from gapjax.tasks.problem import Grading, Problem

Format = Literal["jsonl", "gsm8k", "math", "mbpp", "prontoqa"]

GRADING: Mapping[Format, Grading] = {
    "jsonl": "numeric",
    "gsm8k": "numeric",
    "math": "math",
    "mbpp": "python",
    "prontoqa": "exact",
}


class _Fault(Exception):
    """What is wrong with a line."""


def read_problems(
    path: Path,
    format: Format = "jsonl",
    *,
    prompt_field: str = "prompt",
    answer_field: str = "answer",
    template: str = "{prompt}",
) -> tuple[Problem, ...]:
    """Read the problems of a file, in its order; blank lines are skipped.

    **Arguments:**

    - `path`: the file.
    - `format`: see the table above.
    - `prompt_field`, `answer_field`: names of the fields, for the format `jsonl`; a line
        without an answer (or with `null`) makes a problem that cannot be graded.
    - `template`: the prompt that the model sees, `{prompt}` standing for the problem's.

    **Raises:** `UserError` that names file and line.
    """
    if "{prompt}" not in template:
        raise UserError(f"template {template!r} lacks {{prompt}}", where="task.template")

    def plain(row: dict[str, Any]) -> tuple[str, str | None]:
        return _text(row, prompt_field), _optional(row, answer_field)

    parse = plain if format == "jsonl" else _PARSERS[format]
    problems = []
    for number, row in read_rows(path):
        try:
            prompt, answer = parse(row)
        except _Fault as fault:
            raise UserError(str(fault), where=f"{path}, line {number}") from fault
        problems.append(Problem(template.replace("{prompt}", prompt), answer))
    return tuple(problems)


def read_rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """The objects of a JSONL file with their line numbers, blank lines left out.

    **Raises:** `UserError` that names file and line, also for a file without any object.
    """
    try:
        # Only "\n" ends a line: U+2028 may occur within a JSON text.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", where=path) from error
    except UnicodeDecodeError as error:
        raise UserError("is not UTF-8 text", where=path) from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise UserError(f"not JSON ({error})", where=f"{path}, line {number}") from error
        if not isinstance(row, dict):
            raise UserError("not a JSON object", where=f"{path}, line {number}")
        rows.append((number, row))
    if not rows:
        raise UserError("holds no problems", where=path)
    return rows


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


def last_boxed(text: str) -> str | None:
    """What stands inside the last `\\boxed{}` (or `\\fbox{}`), braces balanced."""
    start = max(text.rfind("\\boxed{"), text.rfind("\\fbox{"))
    if start < 0:
        return None
    begin = text.index("{", start) + 1
    depth = 1
    for end in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth == 0:
            return text[begin:end].strip()
    return None


def _gsm8k(row: dict[str, Any]) -> tuple[str, str]:
    _, mark, answer = _text(row, "answer").rpartition("####")
    if not mark or not answer.strip():
        raise _Fault("field 'answer' has no final answer after '#### '")
    return _text(row, "question"), answer.strip()


def _math(row: dict[str, Any]) -> tuple[str, str]:
    answer = last_boxed(_text(row, "solution"))
    if not answer:
        raise _Fault("field 'solution' has no \\boxed{} answer")
    return _text(row, "problem"), answer


def _mbpp(row: dict[str, Any]) -> tuple[str, str]:
    tests = row.get("test_list")
    if not isinstance(tests, list) or not tests or not all(isinstance(t, str) for t in tests):
        raise _Fault("field 'test_list' is not a list of tests")
    text = _text(row, "text" if "text" in row else "prompt")
    listed = "\n".join(tests)
    prompt = f"{text}\nYour code should pass these tests:\n\n{listed}\n"
    setup = _optional(row, "test_setup_code") or ""
    return prompt, f"{setup}\n{listed}".strip()


def _prontoqa(row: dict[str, Any]) -> tuple[str, str]:
    answer = _text(row, "answer").strip()
    if answer not in ("True", "False"):
        raise _Fault(f"field 'answer' is {answer!r}, neither 'True' nor 'False'")
    facts, query = (_text(row, name).strip() for name in ("question", "query"))
    return f"{facts}\n{query}\nReply with one word: True or False.", answer


_PARSERS: Mapping[Format, Callable[[dict[str, Any]], tuple[str, str | None]]] = {
    "gsm8k": _gsm8k,
    "math": _math,
    "mbpp": _mbpp,
    "prontoqa": _prontoqa,
}


def _text(row: dict[str, Any], name: str) -> str:
    if name not in row:
        raise _Fault(f"no field {name!r}; there are: {', '.join(map(repr, row)) or 'none'}")
    value = row[name]
    if not isinstance(value, str) or not value.strip():
        raise _Fault(f"field {name!r} is not a text: {json.dumps(value)[:80]}")
    return _encodable(value, name)


def _optional(row: dict[str, Any], name: str) -> str | None:
    """An answer; numbers are taken as they are written."""
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, str):
        return _encodable(value, name)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf:
        return str(value)
    raise _Fault(f"field {name!r} is neither a text nor a number: {json.dumps(value)[:80]}")


def _encodable(text: str, name: str) -> str:
    """JSON can express half a character (a lone surrogate), which no tokenizer takes."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _Fault(f"field {name!r} holds a lone surrogate: {json.dumps(text)[:80]}") from error
    return text
