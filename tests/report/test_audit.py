"""The audit's numbers against plain counting."""

from __future__ import annotations

import numpy as np
import pytest

from gapjax.report.audit import Scored, auc, auc_within, reliability, scored


def made(seed: int = 0) -> Scored:
    rng = np.random.default_rng(seed)
    right = rng.random(60) < 0.5
    score = np.round(np.clip(rng.normal(0.4 + 0.2 * right, 0.2), 0, 1), 1)  # with ties
    return Scored(np.repeat(np.arange(12), 5), right, score, 1 - score)


def auc_by_counting(right, score) -> float:
    pairs = [(a > b) + 0.5 * (a == b) for a in score[right] for b in score[~right]]
    return float(np.mean(pairs))


def test_auc_counts_pairs() -> None:
    found = made()
    assert auc(found.right, found.score) == pytest.approx(auc_by_counting(found.right, found.score))
    assert auc(np.ones(3, bool), np.arange(3.0)) is None


def test_auc_within_ignores_differences_between_problems() -> None:
    # The score tells problem 0 from problem 1 perfectly, and within each it errs.
    problem = np.array([0, 0, 0, 1, 1, 1])
    right = np.array([True, True, False, True, False, False])
    score = np.array([0.8, 0.8, 0.9, 0.1, 0.2, 0.2])
    found = Scored(problem, right, score, 1 - score)
    assert auc_within(found, score) == 0.0
    assert auc(right, score) == pytest.approx(4 / 9)


def test_reliability_of_scores_that_are_probabilities() -> None:
    rng = np.random.default_rng(1)
    score = rng.random(40_000)
    right = rng.random(40_000) < score
    bins = reliability(Scored(np.zeros(40_000, int), right, score, score))
    assert bins.size.sum() == 40_000
    assert bins.error < 0.015
    np.testing.assert_allclose(bins.score, np.arange(0.05, 1, 0.1), atol=0.01)
    surer = reliability(Scored(np.zeros(40_000, int), right, score**0.25, score))
    assert surer.error == pytest.approx(np.mean(score**0.25 - score), abs=0.02)


def test_candidates_without_score_or_grade_are_left_out() -> None:
    each = {"score": 0.5, "logprob": -3.0, "length": 2, "grade": "correct"}
    row = {"candidates": [each, {**each, "score": None}, {**each, "grade": None}]}
    found = scored([row])
    assert found is not None
    assert found.surprise.tolist() == [1.5]
    assert scored([{"candidates": [{**each, "grade": None}]}]) is None
