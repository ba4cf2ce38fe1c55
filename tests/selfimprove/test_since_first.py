"""Changes since the first measurement, with errors over the same problems."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_rel

from gapjax.paired import change_error
from gapjax.selfimprove.since_first import change_errors, joined, per_problem


def rows(right: np.ndarray, logprobs: np.ndarray, known: bool = True) -> list[dict]:
    grades = np.where(right, "correct", "incorrect")
    return [
        {
            "chosen": 1,
            "candidates": [
                {"logprob": float(logprob), "grade": str(grade) if known else None}
                for logprob, grade in zip(*each, strict=True)
            ],
        }
        for each in zip(logprobs, grades, strict=True)
    ]


def measurement(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((40, 4)) < np.linspace(0.05, 0.95, 40)[:, None], -rng.gamma(2, size=(40, 4))


def test_errors_are_those_of_paired_differences() -> None:
    first, now = measurement(0), measurement(1)
    found = change_errors(per_problem(rows(*first)), per_problem(rows(*now)))
    for name, before, after in (
        ("solver_change_sem", -first[1].mean(1), -now[1].mean(1)),
        ("solver_accuracy_change_sem", first[0].mean(1), now[0].mean(1)),
        ("verifier_accuracy_change_sem", first[0][:, 1] * 1.0, now[0][:, 1] * 1.0),
    ):
        # scipy's statistic is the mean difference in units of its standard error.
        expected = (after - before).mean() / ttest_rel(after, before).statistic
        assert found[name] == pytest.approx(expected)


def test_parts_are_one_measurement_and_a_first_one_has_no_error() -> None:
    all_rows = rows(*measurement(0))
    whole, parts = per_problem(all_rows), joined(map(per_problem, (all_rows[:13], all_rows[13:])))
    assert change_errors(whole, parts) == dict.fromkeys(change_errors(whole, whole), 0.0)


def test_problems_without_known_answers_are_left_out() -> None:
    first, now = measurement(0), measurement(1)
    none = per_problem(rows(*first, known=False))
    assert set(change_errors(none, none)) == {"solver_change_sem"}
    some = joined([per_problem(rows(*now)), none])
    before = joined([per_problem(rows(*first)), none])
    alone = change_errors(per_problem(rows(*first)), per_problem(rows(*now)))
    for name in ("solver_accuracy_change_sem", "verifier_accuracy_change_sem"):
        assert change_errors(before, some)[name] == alone[name]
    assert np.isnan(change_error(np.array([1.0]), np.array([2.0])))
