"""How sure a change since a run's first measurement is, by the problems both have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from jaxtyping import Float

from gapjax.paired import change_error
from gapjax.selfimprove.learning import Record

# By name: a number a problem, NaN where no answer of it is known.
PerProblem = Mapping[str, Float[np.ndarray, " P"]]

# Of a metric's change since the first measurement, in its unit.
ERRORS = {
    "solver_uncertainty": "solver_change_sem",
    "solver_accuracy": "solver_accuracy_change_sem",
    "verifier_accuracy": "verifier_accuracy_change_sem",
}


def per_problem(rows: Iterable[Record]) -> PerProblem:
    """What the rows of a measurement say of each problem.

    From the rows and not from what they were made of, which a run that goes on does not have.
    """
    found = []
    for row in rows:
        candidates = row["candidates"]
        known = candidates[0]["grade"] is not None
        right = [each["grade"] == "correct" if known else np.nan for each in candidates]
        found.append(
            (
                -np.mean([each["logprob"] for each in candidates]),
                np.mean(right),
                right[row["chosen"]],
            )
        )
    return dict(zip(ERRORS, np.array(found, dtype=float).T, strict=True))


def joined(parts: Iterable[PerProblem]) -> PerProblem:
    """Of all problems, from those of some of them."""
    parts = list(parts)
    return {name: np.concatenate([part[name] for part in parts]) for name in ERRORS}


def change_errors(first: PerProblem, now: PerProblem) -> dict[str, float]:
    """Standard errors of the changes, as metrics of the later measurement.

    Paired, as the same problems are sampled with the same random numbers. None of accuracies
    where fewer than two problems have known answers.
    """
    errors = {ERRORS[name]: change_error(first[name], now[name]) for name in ERRORS}
    return {name: error for name, error in errors.items() if not np.isnan(error)}


class SinceFirst:
    """Takes in the rows of one measurement after the other, and remembers the first."""

    def __init__(self) -> None:
        self._first: PerProblem | None = None
        self._parts: list[PerProblem] = []

    def note(self, _: int, rows: list[Record]) -> list[Record]:
        """Take in some of the problems of a measurement; the rows are returned."""
        self._parts.append(per_problem(rows))
        return rows

    def errors(self, find_first: Callable[[PerProblem], PerProblem | None]) -> dict[str, float]:
        """The measurement is over: its `change_errors`; none if the first is not known.

        **Arguments:**

        - `find_first`: gives the first measurement as long as it is not known, from this one.
        """
        now, self._parts = joined(self._parts), []
        if self._first is None:
            self._first = find_first(now)
        return {} if self._first is None else change_errors(self._first, now)
