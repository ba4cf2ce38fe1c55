"""Learning, sharpening, or neither."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from gapjax.paired import Change
from gapjax.report.gain import gain_of, judge_gain

UP, DOWN = Change(0.4, 0.6, 0.03), Change(0.6, 0.4, 0.03)
UNSURE = Change(0.5, 0.55, 0.03)


@pytest.mark.parametrize(
    ("solver", "passes", "kind"),
    [
        (UP, UP, "learning"),
        (UP, DOWN, "sharpening"),
        (UP, UNSURE, "cannot tell"),
        (UP, Change(1.0, 1.0, 0.0), "cannot tell"),
        (UNSURE, UP, "cannot tell"),
        (UNSURE, DOWN, "cannot tell"),
        (DOWN, UP, "worse"),
        (DOWN, DOWN, "worse"),
    ],
)
def test_the_rule(solver, passes, kind) -> None:
    gain = judge_gain(solver, passes, 16)
    assert gain.kind == kind
    assert "pass@16" in gain.sentence


def rows(right) -> list[dict]:
    return [
        {
            "prompt": str(p),
            "candidates": [{"grade": "correct" if r else "incorrect"} for r in row],
        }
        for p, row in enumerate(right)
    ]


def test_errors_are_those_of_paired_differences() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.random((2, 50, 8)) < np.array([0.2, 0.3])[:, None, None]
    found = gain_of(rows(before), rows(after))
    assert found is not None
    solver, passes, n = found
    assert n == 8
    for change, of in ((solver, np.mean), (passes, np.any)):
        first, last = of(before, axis=1).astype(float), of(after, axis=1).astype(float)
        assert (change.first, change.last) == pytest.approx((first.mean(), last.mean()))
        assert change.error == pytest.approx(stats.sem(last - first))


def test_nothing_is_said_of_other_or_ungraded_problems() -> None:
    right = np.ones((4, 3), bool)
    assert gain_of(rows(right), rows(right)[::-1]) is None
    ungraded = [{**row, "candidates": [{"grade": None}]} for row in rows(right)]
    assert gain_of(ungraded, ungraded) is None
    assert gain_of([], []) is None
