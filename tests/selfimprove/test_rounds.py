"""The loop as a Python user sees it: a stream of events."""

from __future__ import annotations

import dataclasses
import weakref

import jax
import numpy as np
import pytest
from flax import nnx

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
    Verified,
    candidates,
    parse_recipe,
    self_improve,
)
from gapjax.selfimprove.problems import make_splits
from gapjax.selfimprove.recipe import TrainConfig
from gapjax.selfimprove.schedule import measure_steps
from gapjax.selfimprove.sft import Trainer

RECIPE = parse_recipe(
    {
        "model": "adder",
        "task": {"digits": 2, "template": "{a}+{b}=", "train": 24, "probe": 24},
        "sampling": {"n": 4, "max_new_tokens": 5},
        "adapter": {"rank": 2},
        "train": {"rounds": 2, "epochs_per_round": 1, "batch_size": 8, "learning_rate": 1e-3},
    }
)


LETTERS = {
    Sampled: "a",
    Verified: "v",
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


def verified(events, what: str) -> list[Verified]:
    """The parts of a kind of phase."""
    return [event for event in events if isinstance(event, Verified) and event.what == what]


@pytest.fixture(scope="module")
def events(adder):
    return list(self_improve(adder, RECIPE))


@pytest.mark.fast
def test_the_order_of_events(events) -> None:
    kinds = "".join(LETTERS[type(event)] for event in events)
    assert kinds == "avMJavSttCavMJtCavMJ" + "avSttCavMJtCavMJ" + "F"
    epochs = [event.epoch for event in events if isinstance(event, Measured)]
    assert epochs == pytest.approx([0, 2 / 3, 1, 5 / 3, 2])


def test_the_same_seed_gives_the_same_run_and_another_another(adder, events) -> None:
    def numbers(run):
        return [event.metrics for event in run if isinstance(event, Measured)]

    assert numbers(self_improve(adder, RECIPE)) == numbers(events)
    other = dataclasses.replace(RECIPE, seed=1)
    assert numbers(self_improve(adder, other)) != numbers(events)


def test_the_second_round_samples_the_model_that_the_first_one_made(adder, events) -> None:
    _, second = verified(events, "round")
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
    measured = verified(self_improve(adder, still), "probe")
    np.testing.assert_array_equal(
        measured[0].candidates.samples.tokens, measured[-1].candidates.samples.tokens
    )


def test_metrics_follow_from_the_candidates(events) -> None:
    found, event = events[1].candidates, events[2]
    samples, index = found.samples, found.outcomes.chosen
    total = -samples.logprobs.sum(-1)
    assert event.metrics["solver_uncertainty"] == pytest.approx(total.mean(), rel=1e-6)
    best = [min(range(4), key=lambda n: total[p, n] / samples.lengths[p, n]) for p in range(24)]
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
        task={"test": 24},
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
        return measure_steps(per_epoch, config)

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
        rows = [event.records for event in verified(events, "round")]
        return new, [[row["candidates"] for row in records] for records in rows]

    once, first = drawn(0)
    assert once == "n--"
    assert first[0] == first[1] == first[2]
    every_two, later = drawn(2)
    assert every_two == "n-n"
    assert later[0] == later[1] == first[0]
    assert later[2] != later[0]


def test_the_test_problems_are_looked_at_once_and_are_others(adder) -> None:
    recipe = changed(task={"test": 24}, train={"rounds": 1, "measure_every": 1.0})
    events = list(self_improve(adder, recipe))
    tested, finished = events[-2:]
    assert isinstance(tested, FinalTest)
    assert isinstance(finished, Finished)
    splits = make_splits(recipe)
    (after,) = verified(events, "test-after")
    prompts = {row["prompt"] for row in after.records}
    assert len(prompts) == 24
    assert not prompts & {p.prompt for p in splits.train + splits.probe}
    assert tested.metrics["before"] != tested.metrics["after"]


def test_many_problems_go_through_in_parts_and_come_out_the_same(
    adder, events, monkeypatch
) -> None:
    monkeypatch.setattr(candidates, "_MOST_PROBLEMS", 5)
    recipe = changed(sampling={"sequences_at_once": 8}, train={"refresh_every": 2})
    parted = list(self_improve(adder, recipe))
    assert [event.first for event in verified(parted, "round")][:5] == [0, 5, 10, 15, 20]

    def told(run) -> list:
        return [
            {k: row[k] for k in ("prompt", "chosen", "learned")}
            for event in verified(run, "round")
            for row in event.records
        ]

    first_round = told(events)[:24]
    assert told(parted) == first_round * 2  # the second learns from the rows of the first
    metrics = [
        next(event.metrics for event in run if isinstance(event, Measured))
        for run in (events, parted)
    ]
    assert metrics[1] == pytest.approx(metrics[0], rel=1e-5)


def test_no_part_outlives_the_next_one(adder, monkeypatch) -> None:
    monkeypatch.setattr(candidates, "_MOST_PROBLEMS", 4)
    recipe = changed(sampling={"sequences_at_once": 8}, train={"rounds": 1, "measure_every": 1.0})
    parts = []
    for event in self_improve(adder, recipe):
        if isinstance(event, Verified):
            parts.append(weakref.ref(event.candidates))
            assert sum(part() is not None for part in parts) <= 2
    assert len(parts) == 3 * 6  # of a probe, a round and a probe of 24 problems


def test_a_loss_that_is_not_finite_stops_the_run(adder) -> None:
    wild = dataclasses.replace(
        RECIPE,
        adapter=dataclasses.replace(RECIPE.adapter, rank=0),
        train=dataclasses.replace(RECIPE.train, learning_rate=1e30, rounds=3),
    )
    with pytest.raises(UserError, match=r"at step .*learning_rate"):
        list(self_improve(adder, wild))


def test_a_model_that_was_given_broken_is_not_blamed_on_the_learning_rate(adder) -> None:
    model = nnx.clone(adder.model)
    model.norm.scale[...] = model.norm.scale[...].at[0].set(np.nan)
    with pytest.raises(UserError, match="logits in float32 are NaN") as error:
        list(self_improve(dataclasses.replace(adder, model=model), RECIPE))
    assert "learning_rate" not in str(error.value)


def test_a_first_loss_that_is_no_number_is_the_models(adder, monkeypatch) -> None:
    step = Trainer.step

    def overflows(self, state, batch):
        state, metrics = step(self, state, batch)
        return state, metrics | {"loss": np.float32(np.nan)}

    monkeypatch.setattr(Trainer, "step", overflows)
    with pytest.raises(UserError, match="loss is nan at step 1; nothing was learnt yet"):
        list(self_improve(adder, RECIPE))
