"""The loop as a Python user sees it: a stream of events."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from gapjax.errors import UserError
from gapjax.generation import score
from gapjax.models.prompts import encode_prompt
from gapjax.selfimprove import (
    FinalTest,
    Finished,
    Judged,
    Measured,
    Recipe,
    Sampled,
    Selected,
    Snapshot,
    Trained,
    parse_recipe,
    self_improve,
)
from gapjax.selfimprove.problems import make_splits
from gapjax.selfimprove.recipe import TrainConfig
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


LETTERS = {
    Sampled: "a",
    Measured: "M",
    Judged: "J",
    Selected: "S",
    Trained: "t",
    Snapshot: "C",
    FinalTest: "T",
    Finished: "F",
}


def changed(**sections) -> Recipe:
    """The recipe with some fields of its sections changed."""
    raw = dataclasses.asdict(RECIPE)
    for name, fields in sections.items():
        raw[name] = raw[name] | fields
    return parse_recipe(raw)


@pytest.fixture(scope="module")
def events(adder):
    return list(self_improve(adder, RECIPE))


@pytest.mark.fast
def test_the_order_of_events(events) -> None:
    kinds = "".join(LETTERS[type(event)] for event in events)
    assert kinds == "aMJaSttCaMJtCaMJ" + "aSttCaMJtCaMJ" + "F"
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
    prompts = [encode_prompt(adder.tokenizer, row["prompt"]) for row in second.records]
    answers = [[c["tokens"] for c in row["candidates"]] for row in second.records]
    sampled = np.array([[-c["logprob"] for c in row["candidates"]] for row in second.records])

    def uncertainties(model) -> np.ndarray:
        return np.array([[-row.sum() for row in rows] for rows in score(model, prompts, answers)])

    np.testing.assert_allclose(uncertainties(made), sampled, atol=1e-3)
    assert np.abs(uncertainties(adder.model) - sampled).max() > 1e-2


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
    event = events[1]
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


@pytest.mark.parametrize("method", ["likelihood", "self_consistency"])
def test_nothing_compiles_after_the_first_round(adder, method) -> None:
    compiled = []

    def listen(event: str, duration: float, **_) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    recipe = changed(
        verifier={"method": method, "threshold": 0.2, "when_none_pass": "skip"},
        train={"rounds": 4, "measure_every": 1.0},
        task={"test": 4},
    )
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        jax.jit(lambda x: x + 1)(0)
        assert compiled  # this is how one hears of it
        for event in self_improve(adder, recipe):
            if isinstance(event, Selected) and event.round == 3:
                compiled.clear()  # the first fit of the posterior comes before round 3
            if isinstance(event, Judged) and event.epoch == 4:
                assert not compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_measure_steps() -> None:
    def steps(per_epoch: int, epochs: int, every: float, by_step: int | None = None) -> set[int]:
        config = TrainConfig(
            epochs_per_round=epochs, measure_every=every, measure_every_steps=by_step
        )
        return _measure_steps(per_epoch, config)

    assert steps(8, 2, 0.5) == {4, 8, 12, 16}
    assert steps(3, 1, 0.5) == {2, 3}
    assert steps(1, 3, 0.5) == {1, 2, 3}
    assert steps(4, 3, 2.0) == {8, 12}
    assert steps(4, 3, 2.0, by_step=5) == {5, 10, 12}


def test_answers_made_once_or_refreshed_every_few_rounds(adder) -> None:
    def drawn(refresh: int) -> tuple[str, list[list]]:
        train = {"rounds": 3, "refresh_every": refresh, "measure_every": 1.0}
        events = list(self_improve(adder, changed(train=train)))
        selected = [event for event in events if isinstance(event, Selected)]
        new = "".join("n" if event.metrics else "-" for event in selected)
        return new, [[row["candidates"] for row in event.records] for event in selected]

    once, first = drawn(0)
    assert once == "n--"
    assert first[0] == first[1] == first[2]
    every_two, candidates = drawn(2)
    assert every_two == "n-n"
    assert candidates[0] == candidates[1] == first[0]
    assert candidates[2] != candidates[0]


def test_the_test_problems_are_looked_at_once_and_are_others(adder) -> None:
    recipe = changed(task={"test": 6}, train={"rounds": 1, "measure_every": 1.0})
    *_, tested, finished = self_improve(adder, recipe)
    assert isinstance(tested, FinalTest)
    assert isinstance(finished, Finished)
    splits = make_splits(recipe)
    prompts = {problem.prompt for problem in tested.candidates["after"].problems}
    assert len(prompts) == 6
    assert not prompts & {p.prompt for p in splits.train + splits.probe}
    assert tested.metrics["before"] != tested.metrics["after"]


def test_a_loss_that_is_not_finite_stops_the_run(adder) -> None:
    wild = dataclasses.replace(
        RECIPE,
        adapter=dataclasses.replace(RECIPE.adapter, rank=0),
        train=dataclasses.replace(RECIPE.train, learning_rate=1e30, rounds=3),
    )
    with pytest.raises(UserError, match=r"at step .*learning_rate"):
        list(self_improve(adder, wild))
