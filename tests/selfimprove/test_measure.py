from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from gapjax.generation import Samples
from gapjax.selfimprove.candidates import Outcomes, answer_entropy
from gapjax.selfimprove.measure import (
    auc,
    expected_calibration_error,
    pass_at_k,
    summarise,
)
from gapjax.selfimprove.select import best_of_n


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_pass_at_k_is_the_mean_over_all_subsets(k: int) -> None:
    correct = np.array([[0, 0, 0, 0, 0], [1, 0, 0, 0, 0], [1, 1, 0, 1, 0], [1] * 5], bool)
    expected = np.mean(
        [
            [any(row[i] for i in chosen) for chosen in itertools.combinations(range(5), k)]
            for row in correct
        ]
    )
    assert pass_at_k(correct, k) == pytest.approx(expected)


def test_entropy_of_answers() -> None:
    assert answer_entropy(("7", "7 ", "7", "7")) == 0
    assert answer_entropy(("1", "2", "3", "4")) == pytest.approx(math.log(4))
    assert answer_entropy(("1", "1", "1", "2")) == pytest.approx(math.log(4) - 0.75 * math.log(3))


def test_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    rng = np.random.default_rng(0)
    scores, correct = rng.integers(0, 4, 40) / 3, rng.random(40) < 0.4
    pairs = list(itertools.product(scores[correct], scores[~correct]))
    expected = np.mean([(right > wrong) + (right == wrong) / 2 for right, wrong in pairs])
    assert auc(scores, correct) == pytest.approx(expected)


def test_calibration_error_of_known_cases() -> None:
    correct = np.array([True, False, True, False])
    assert expected_calibration_error(np.full(4, 0.5), correct) == 0
    assert expected_calibration_error(np.ones(4), correct) == pytest.approx(0.5)
    assert expected_calibration_error(correct.astype(float), correct) == 0
    # Two bins: one of three answers at 0.25 with one right, one of one answer at 0.95, wrong.
    scores = np.array([0.25, 0.25, 0.95, 0.25])
    wrong_last = np.array([True, False, False, False])
    expected = 3 / 4 * abs(0.25 - 1 / 3) + 1 / 4 * 0.95
    assert expected_calibration_error(scores, wrong_last) == pytest.approx(expected)


def outcomes_with(grades) -> Outcomes:
    """Three candidates of each problem; the first one is the surest."""
    shape = np.shape(grades)
    logprobs = -np.broadcast_to(np.arange(1.0, shape[1] + 1)[:, None], (*shape, 1))
    lengths = np.ones(shape, int)
    samples = Samples(lengths[..., None], logprobs, lengths, lengths == 1)
    scores = np.ones(shape)
    eligible = samples.finished
    selection = best_of_n(scores, samples.uncertainties, lengths, threshold=0.5, eligible=eligible)
    return Outcomes(
        uncertainties=samples.uncertainties,
        lengths=lengths,
        finished=samples.finished,
        eligible=eligible,
        grades=np.array(grades),
        scores=scores,
        chosen=selection.index,
        fell_back=selection.fell_back,
        entropies=np.zeros(shape[0]),
    )


def test_failures_of_grading_are_counted_and_the_unknown_left_out() -> None:
    grades = [["timeout", "correct", "error"], ["correct"] * 2 + ["incorrect"], [""] * 3]
    metrics = summarise(outcomes_with(grades))
    assert metrics["solver_accuracy"] == pytest.approx(3 / 6)
    assert metrics["verifier_accuracy"] == pytest.approx(1 / 2)
    assert metrics["grading_timeouts"] == metrics["grading_errors"] == pytest.approx(1 / 6)
    assert metrics["oracle_uncertainty"] == pytest.approx((2 + 1) / 2)
    assert metrics["verifier_uncertainty"] == 1
    assert metrics["pass_at_3"] == 1
    assert metrics["ungraded"] == pytest.approx(1 / 3)
    failed = summarise(outcomes_with([["error"] * 3, ["timeout", "error", "error"]]))
    assert failed["grading_errors"] == pytest.approx(5 / 6)
    assert not {"solver_accuracy", "pass_at_1", "ungraded", "verifier_brier"} & failed.keys()
    unknown = summarise(outcomes_with([[""] * 3] * 2))
    assert "solver_accuracy" not in unknown
    assert unknown["solver_uncertainty"] == 2
