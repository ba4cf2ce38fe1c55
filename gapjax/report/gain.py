"""Did the run learn new answers, or did it concentrate on answers it already gave?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from gapjax.paired import Change, change_error

Kind = Literal["learning", "sharpening", "worse", "cannot tell"]


class Gain(NamedTuple):
    """The kind of change and a sentence that says so."""

    kind: Kind
    sentence: str


def judge_gain(solver: Change, passes: Change, n: int) -> Gain:
    """Whether a gain is learning or sharpening, by the solver's accuracy and pass@N.

    One sample is right more often in both cases. If fewer problems have a right answer
    among N, probability has moved onto answers that were there before (sharpening); if
    more of them do, some are solved that were out of reach (learning). Changes within two
    standard errors count as none.

    **Arguments:**

    - `solver`: the accuracy of one sample.
    - `passes`: the share of problems with a right answer among `n`.
    """
    facts = f"Solver accuracy {solver}, pass@{n} {passes}."
    if solver.direction < 0:
        return Gain("worse", f"Worse: one sample is right less often than before. {facts}")
    if solver.direction == 0:
        return Gain(
            "cannot tell", f"Cannot tell: the solver's accuracy changed within noise. {facts}"
        )
    if passes.direction < 0:
        return Gain(
            "sharpening",
            "Sharpening: one sample is right more often, and yet fewer problems have a right "
            f"answer among {n}. The model concentrates on answers it already gave. {facts}",
        )
    if passes.direction > 0:
        return Gain(
            "learning",
            "Learning: one sample is right more often, and problems are solved for which no right "
            f"answer was among {n} before. {facts}",
        )
    return Gain(
        "cannot tell",
        f"Cannot tell learning from sharpening: one sample is right more often, but pass@{n} "
        f"changed within noise. The answers were within reach before. {facts}",
    )


def gain_of(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> tuple[Change, Change, int] | None:
    """Solver accuracy, pass@N and N from the same problems' samples before and after.

    Standard errors are over problems, of the paired differences: harder problems are harder
    both times. None where the problems differ or fewer than two have known answers.
    """
    if [row["prompt"] for row in before] != [row["prompt"] for row in after]:
        return None
    pairs = [(_right(a), _right(b)) for a, b in zip(before, after, strict=True) if _graded(a, b)]
    if len(pairs) < 2:
        return None
    n = len(pairs[0][0])
    if any(len(right) != n for pair in pairs for right in pair):
        return None
    return _paired(pairs, np.mean), _paired(pairs, np.any), n


def _graded(*rows: Mapping[str, Any]) -> bool:
    return all(row["candidates"][0].get("grade") for row in rows)


def _right(row: Mapping[str, Any]) -> list[bool]:
    return [candidate.get("grade") == "correct" for candidate in row["candidates"]]


def _paired(
    pairs: Sequence[tuple[list[bool], list[bool]]], statistic: Callable[[list[bool]], Any]
) -> Change:
    first, last = np.array([[statistic(each) for each in pair] for pair in pairs], dtype=float).T
    return Change(float(first.mean()), float(last.mean()), change_error(first, last))
