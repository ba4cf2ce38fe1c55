"""The embedded default really improves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gapjax
from gapjax.selfimprove import FinalTest, Measured, read_recipe, self_improve

RECIPE = Path(gapjax.__file__).parent / "recipes" / "adder.yaml"


def outcome(adder, recipe):
    """Metrics of the measurements, and those of the test problems."""
    events = list(self_improve(adder, recipe))
    (tested,) = (event for event in events if isinstance(event, FinalTest))
    return [event.metrics for event in events if isinstance(event, Measured)], tested.metrics


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_accuracy_on_unseen_problems_rises_and_the_gap_closes(adder, seed: int) -> None:
    # `seed` leaves the split alone: the embedded model was not pre-trained on its problems.
    recipe = read_recipe(RECIPE, {"seed": str(seed)})
    measured, tested = outcome(adder, recipe)
    accuracy, gap = (
        np.array([metrics[name] for metrics in measured]) for name in ("solver_accuracy", "gap")
    )
    assert accuracy[-5:].mean() > accuracy[0] + 0.05
    gain = tested["after"]["solver_accuracy"] - tested["before"]["solver_accuracy"]
    assert gain > 0.05
    # It is the verification that does it: random candidates teach next to nothing.
    by_chance = read_recipe(RECIPE, {"seed": str(seed), "verifier.learn_from": "random"})
    _, control = outcome(adder, by_chance)
    assert gain > control["after"]["solver_accuracy"] - control["before"]["solver_accuracy"] + 0.05
    assert gap[-5:].mean() < 0.7 * gap[0]
    # Sharpening is part of the truth about this run.
    assert measured[-1]["answer_entropy"] < measured[0]["answer_entropy"]
