"""The live posterior, the rules that stop a run, and the cautions."""

from __future__ import annotations

import numpy as np
import pytest

from gapjax.selfimprove import Finished, Judged, parse_recipe, self_improve
from gapjax.selfimprove.stopping import (
    Outlook,
    Price,
    SmallGain,
    SpendBudget,
    cautions,
    look_ahead,
    make_policy,
)

RATE, LIMIT = 0.8, 3.0


def history(checkpoints: int, noise: float = 0.005) -> list[tuple[float, dict[str, float]]]:
    rng = np.random.default_rng(0)
    rows = []
    for epoch in 0.5 * np.arange(checkpoints):
        left = np.exp(-RATE * epoch)
        pair = np.array([LIMIT + 2 * left, 2.8 + 0.6 * left])
        solver, verifier = pair + noise * rng.normal(size=2)
        rows.append((epoch, {"solver_uncertainty": solver, "verifier_uncertainty": verifier}))
    return rows


def test_the_outlook_against_the_curve_it_was_made_from() -> None:
    for checkpoints in (6, 8):
        outlook = look_ahead(history(checkpoints), 10.0, every=0.5, seed=0)
        now = 0.5 * (checkpoints - 1)
        assert abs(outlook.limit["mean"] - LIMIT) < 4 * outlook.limit["sd"]
        assert outlook.limit["sd"] < 0.2
        np.testing.assert_allclose(outlook.epochs, np.arange(now + 0.5, 10.1, 0.5))
        truth = 2 * (np.exp(-RATE * now) - np.exp(-RATE * 10.0))
        low, high = np.quantile(outlook.gains[:, -1], [0.005, 0.995])
        assert low < truth < high
        assert outlook.expected_gain == pytest.approx(truth, rel=0.25)


def test_no_outlook_too_early_or_at_the_end() -> None:
    assert look_ahead(history(3), 10.0, every=0.5, seed=0) is None
    assert look_ahead(history(5), 2.0, every=0.5, seed=0) is None


def test_measurements_further_apart_than_the_run_is_long() -> None:
    outlook = look_ahead(history(4), 10.0, every=100.0, seed=0)
    assert outlook is not None
    assert outlook.epochs.tolist() == [10.0]
    assert outlook.gains.shape[1] == 1


def outlook(gains, epochs=(1.0, 2.0), converged=True) -> Outlook:
    none = dict.fromkeys(("mean", "sd", "q05", "q25", "q50", "q75", "q95"), 0.0)
    return Outlook(0.0, none, True, "", converged, np.array(epochs), np.array(gains))


@pytest.mark.fast
def test_rules() -> None:
    small, large = [[0.005, 0.005]], [[0.5, 0.5]]
    rule = SmallGain(gain=0.01, probability=0.3)
    assert rule(outlook(small * 8 + large * 2)) is not None
    assert rule(outlook(small * 6 + large * 4)) is None
    assert rule(outlook(small, converged=False)) is None
    price = Price(0.1)
    assert price(outlook([[0.05, 0.15]])) is not None  # 0.05 and 0.075 an epoch
    assert price(outlook([[0.15, 0.15]])) is None  # the first epoch alone is worth it
    assert price(outlook([[0.0, 0.25]])) is None  # so are both together
    assert price(outlook(small, converged=False)) is None
    assert SpendBudget()(outlook(small)) is None
    recipe = parse_recipe({"stop": {"rule": "small_gain", "gain": 0.2, "probability": 0.1}})
    assert make_policy(recipe.stop) == SmallGain(0.2, 0.1)


BASE = {
    "gap": 1.0,
    "solver_uncertainty": 4.0,
    "solver_sem": 0.1,
    "solver_tokens": 10.0,
    "verifier_uncertainty_per_token": 0.3,
    "verifier_score": 0.6,
    "verifier_accuracy": 0.7,
    "verifier_accuracy_sem": 0.03,
    "solver_accuracy": 0.5,
    "solver_accuracy_sem": 0.03,
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"gap": -0.1}, ["no better"]),
        ({"grading_errors": 0.05, "grading_timeouts": 0.05}, []),
        ({"grading_errors": 0.1, "grading_timeouts": 0.05}, ["count as not right: 15.0%"]),
        ({"grading_errors": 1.0}, ["none could"]),
        ({"verifier_score": 0.9, "verifier_accuracy": 0.5}, ["model is surer of them"]),
        ({"verifier_uncertainty_per_token": 0.1, "verifier_accuracy": 0.5}, ["surer of them"]),
        ({"verifier_accuracy": 0.5}, ["70.0% → 50.0% (-20.0 ± 4.2 points)"]),
        ({"verifier_score": 0.9, "verifier_accuracy": 0.68}, []),  # within the error
        ({"verifier_score": 0.9, "verifier_accuracy": 0.9}, []),
        # 8 points are within twice the error of two samples, and not within that of one in pairs.
        ({"verifier_accuracy": 0.62}, []),
        ({"verifier_accuracy": 0.62, "verifier_accuracy_change_sem": 0.02}, ["-8.0 ± 2.0"]),
        ({"verifier_accuracy": 0.5, "verifier_accuracy_change_sem": 0.15}, []),
        ({"solver_accuracy": 0.33}, ["one sample is right less often than at first: 50.0%"]),
        ({"solver_accuracy": 0.45, "solver_accuracy_change_sem": 0.01}, ["one sample is right"]),
        ({"solver_uncertainty": 2.0, "solver_tokens": 5.0}, ["lengths drive"]),
        ({"solver_uncertainty": 2.0}, []),
        ({"solver_uncertainty": 2.0, "solver_tokens": 15.0}, []),
        ({"solver_cut_off": 0.05}, []),
        ({"solver_cut_off": 0.25}, ["cut off at max_new_tokens: 25.0%"]),
    ],
)
def test_cautions(changes, expected) -> None:
    found = cautions(BASE, BASE | changes)
    assert len(found) == len(expected)
    assert all(part in text for part, text in zip(expected, found, strict=True))


def test_no_caution_about_scores_that_are_not_there() -> None:
    unscored = {name: value for name, value in BASE.items() if name != "verifier_score"}
    assert cautions(unscored, BASE) == cautions(BASE, unscored) == []


def test_a_run_stops_by_its_rule_and_says_why(adder) -> None:
    recipe = parse_recipe(
        {
            "model": "adder",
            "task": {"digits": 2, "template": "{a}+{b}=", "train": 8, "probe": 8},
            "sampling": {"n": 4, "max_new_tokens": 5},
            "adapter": {"rank": 2},
            "train": {"epochs_per_round": 4, "batch_size": 4, "measure_every": 0.5},
            "stop": {"rule": "price", "price": 1000.0},
        }
    )
    events = list(self_improve(adder, recipe))
    judged = [event for event in events if isinstance(event, Judged)]
    assert [event.outlook is None for event in judged[:4]] == [True, True, True, False]
    assert judged[3].outlook.converged
    assert judged[-1].stop is not None
    assert isinstance(events[-1], Finished)
    assert events[-1].epoch == 1.5
    assert "less than the price" in events[-1].reason
