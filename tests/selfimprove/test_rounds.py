"""The loop as a Python user sees it: a stream of events."""

from __future__ import annotations

import dataclasses

import chex
import jax
import numpy as np
import pytest

from gapjax.errors import UserError
from gapjax.generation import sampler, score
from gapjax.selfimprove import (
    Finished,
    Judged,
    Measured,
    Selected,
    Snapshot,
    Trained,
    parse_recipe,
    self_improve,
    sft,
)
from gapjax.selfimprove.rounds import _measure_steps

RECIPE = parse_recipe(
    {
        "model": "adder",
        "task": {"digits": 2, "template": "{a}+{b}=", "train": 24, "probe": 16},
        "sampling": {"n": 4, "max_new_tokens": 5},
        "adapter": {"rank": 2},
        "train": {"rounds": 2, "epochs_per_round": 1, "batch_size": 8, "learning_rate": 1e-3},
    }
)


LETTERS = {Measured: "M", Judged: "J", Selected: "S", Trained: "t", Snapshot: "C", Finished: "F"}


@pytest.fixture(scope="module")
def events(adder):
    return list(self_improve(adder, RECIPE))


@pytest.mark.fast
def test_the_order_of_events(events) -> None:
    kinds = "".join(LETTERS[type(event)] for event in events)
    assert kinds == "MJSttCMJtCMJ" + "SttCMJtCMJ" + "F"
    epochs = [event.epoch for event in events if isinstance(event, Measured)]
    assert epochs == pytest.approx([0, 2 / 3, 1, 5 / 3, 2])


def test_the_same_seed_gives_the_same_run_and_another_another(adder, events) -> None:
    def numbers(run):
        return [event.metrics for event in run if isinstance(event, Measured)]

    assert numbers(self_improve(adder, RECIPE)) == numbers(events)
    other = dataclasses.replace(RECIPE, seed=1)
    assert numbers(self_improve(adder, other)) != numbers(events)


def test_the_second_round_samples_the_model_that_the_first_one_made(adder, events) -> None:
    _, second = (event for event in events if isinstance(event, Selected))
    made = [event for event in events if isinstance(event, Measured)][2].model.model
    candidates = second.candidates

    def uncertainties(model) -> np.ndarray:
        logprobs = score(model, candidates.prompts, candidates.samples.answers())
        return np.array([[-row.sum() for row in rows] for rows in logprobs])

    np.testing.assert_allclose(uncertainties(made), candidates.samples.uncertainties, atol=1e-3)
    assert np.abs(uncertainties(adder.model) - candidates.samples.uncertainties).max() > 1e-2


def test_measurement_uses_common_random_numbers(adder) -> None:
    # A model that does not change is measured the same, twice.
    still = dataclasses.replace(
        RECIPE, train=dataclasses.replace(RECIPE.train, learning_rate=1e-30, rounds=1)
    )
    measured = [e for e in self_improve(adder, still) if isinstance(e, Measured)]
    np.testing.assert_array_equal(
        measured[0].candidates.samples.tokens, measured[-1].candidates.samples.tokens
    )


def test_metrics_follow_from_the_candidates(events) -> None:
    event = events[0]
    samples, index = event.candidates.samples, event.candidates.selection.index
    total = -samples.logprobs.sum(-1)
    assert event.metrics["solver_uncertainty"] == pytest.approx(total.mean(), rel=1e-6)
    best = [min(range(4), key=lambda n: total[p, n] / samples.lengths[p, n]) for p in range(16)]
    assert index.tolist() == best
    chosen = np.mean([total[p, n] for p, n in enumerate(best)])
    assert event.metrics["verifier_uncertainty"] == pytest.approx(chosen, rel=1e-6)
    assert event.metrics["gap"] == pytest.approx(total.mean() - chosen, rel=1e-5)
    assert event.metrics["pass_at_1"] == pytest.approx(event.metrics["solver_accuracy"])
    assert event.metrics["pass_at_4"] >= event.metrics["verifier_accuracy"]


def test_nothing_compiles_after_the_first_round(adder, monkeypatch) -> None:
    chex.clear_trace_counter()
    for module, name, static in ((sampler, "_sample", (0, 1, 2, 3)), (sft, "_step", (0, 1))):
        # Two shapes of sampling: the training problems and the probe set.
        allowed = 2 if name == "_sample" else 1
        traced = chex.assert_max_traces(getattr(module, name).__wrapped__, n=allowed)
        monkeypatch.setattr(module, name, jax.jit(traced, static_argnums=static))
    list(self_improve(adder, RECIPE))


def test_measure_steps() -> None:
    assert _measure_steps(8, 2, 0.5) == {4, 8, 12, 16}
    assert _measure_steps(3, 1, 0.5) == {2, 3}
    assert _measure_steps(1, 3, 0.5) == {1, 2, 3}
    assert _measure_steps(4, 3, 2.0) == {8, 12}


def test_a_loss_that_is_not_finite_stops_the_run(adder) -> None:
    wild = dataclasses.replace(
        RECIPE,
        adapter=dataclasses.replace(RECIPE.adapter, rank=0),
        train=dataclasses.replace(RECIPE.train, learning_rate=1e30, rounds=3),
    )
    with pytest.raises(UserError, match=r"at step .*learning_rate"):
        list(self_improve(adder, wild))
