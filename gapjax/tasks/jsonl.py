"""Problems from JSONL files: one object a line.

| format | fields of a line | prompt | answer |
| --- | --- | --- | --- |
| `jsonl` | `prompt`, optional `answer` (or any other names) | as it is | as it is |
| `gsm8k` | `question`, `answer` | the question | what follows `#### ` |
| `math` | `problem`, `solution` | the problem | inside the last `\\boxed{}` |
| `mbpp` | `text` or `prompt`, `test_list`, optional `test_imports` and `test_setup_code` | text, tests | imports, setup, tests |
| `prontoqa` | `question`, `query`, `answer` | facts and query | `True` or `False` |

Sources: arXiv:2110.14168 (GSM8K), arXiv:2103.03874 (MATH), arXiv:2108.07732 (MBPP),
arXiv:2210.01240 (PrOntoQA).
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gapjax import json_files
from gapjax.errors import UserError
from gapjax.paths import Path
from gapjax.tasks.boxed import last_boxed
from gapjax.tasks.fields import Fault, Written, listed, look_up, meant, optional, shown, text
from gapjax.tasks.formats import GRADING, PARSERS, Format
from gapjax.tasks.problem import Grading, Problem
from gapjax.tasks.references import check_reference

__all__ = ["GRADING", "Format", "last_boxed", "read_problems", "read_rows"]

_Row = Mapping[str, Any]
_USUAL = "answer"


def read_problems(
    path: Path,
    format: Format = "jsonl",
    *,
    prompt_field: str = "prompt",
    answer_field: str = _USUAL,
    template: str = "{prompt}",
    grading: Grading | None = None,
) -> tuple[Problem, ...]:
    """Read the problems of a file, in its order; blank lines are skipped.

    **Arguments:**

    - `path`: the file.
    - `format`: see the table above.
    - `prompt_field`, `answer_field`: names of the fields, for the format `jsonl` (`a.b` for the
        field `b` of an object `a`); a line without an answer (or with `null`) makes a problem
        that cannot be graded. A name other than `answer` has to occur.
    - `template`: the prompt that the model sees, `{prompt}` standing for the problem's.
    - `grading`: how responses will be graded; an answer that cannot be used for that is refused.

    **Raises:** `UserError` that names file and line.
    """
    if "{prompt}" not in template:
        raise UserError(f"template {template!r} lacks {{prompt}}", where="task.template")

    def plain(row: _Row) -> tuple[str, str | None]:
        return text(row, prompt_field), optional(row, answer_field)

    parse = plain if format == "jsonl" else PARSERS[format]
    rows = read_rows(path)
    problems: dict[int, Problem] = {}
    for number, row in rows:
        try:
            prompt, answer = parse(row)
            if grading is not None and answer is not None:
                check_reference(answer, grading)
        except Fault as fault:
            raise UserError(str(fault), where=f"{path}, line {number}") from fault
        where = f"{path}, line {number}"
        problems[number] = Problem(template.replace("{prompt}", prompt), answer, where)
    if format == "jsonl":
        if not any(_has(row, answer_field) for _, row in rows):
            _refuse_absent(answer_field, rows, path, graded=grading is not None)
        _refuse_contradictions(problems, path)
    return tuple(problems.values())


def read_rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """The objects of a JSONL file with their line numbers, blank lines left out.

    **Raises:** `UserError` that names file and line, also for a file without any object.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise UserError("is not a file", where=path)  # a device may never end
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
            row = json_files.parse(line, parse_float=Written)
        except json_files.BadJSON as error:
            raise UserError(str(error), where=f"{path}, line {number}") from error
        if not isinstance(row, dict):
            raise UserError("not a JSON object", where=f"{path}, line {number}")
        rows.append((number, row))
    if not rows:
        raise UserError("holds no problems", where=path)
    return rows


def _has(row: _Row, name: str) -> bool:
    try:
        look_up(row, name)
    except KeyError:
        return False
    return True


def _refuse_absent(
    name: str, rows: Sequence[tuple[int, _Row]], path: Path, *, graded: bool
) -> None:
    """Answers that no line has: right if there are to be none, else a name that was mistyped."""
    known = dict.fromkeys(field for _, row in rows for field in row)
    near = meant(name, known)
    if name != _USUAL or (graded and near):
        raise UserError(
            f"no line has the field {name!r} of task.answer_field",
            where=path,
            hint=f"did you mean {shown(near)}?" if near else f"there are: {listed(known)}",
        )


def _refuse_contradictions(problems: Mapping[int, Problem], path: Path) -> None:
    first: dict[str, int] = {}
    for number, problem in problems.items():
        earlier = first.setdefault(problem.prompt.strip(), number)
        if problems[earlier].answer != problem.answer:
            raise UserError(
                f"has the prompt of line {earlier} with another answer",
                where=f"{path}, line {number}",
            )
