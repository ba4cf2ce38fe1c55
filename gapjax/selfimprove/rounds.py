"""The loop: sample, verify, select, fine-tune, measure; then again.

`self_improve` is a generator of events. It does no I/O: the shell writes what it
yields, and a notebook may do with it what it likes.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator

import jax
import numpy as np

from gapjax.errors import UserError
from gapjax.generation.batching import bucketed
from gapjax.models import LoadedModel
from gapjax.models.lora import attach, merge
from gapjax.selfimprove.candidates import Candidates, make_candidates
from gapjax.selfimprove.measure import summarise
from gapjax.selfimprove.problems import make_splits
from gapjax.selfimprove.recipe import Recipe
from gapjax.selfimprove.sft import Dataset, Trainer, TrainState


@dataclasses.dataclass(frozen=True)
class Measured:
    """The probe set was sampled and verified."""

    epoch: float  # passes over selected answers so far
    metrics: dict[str, float]
    candidates: Candidates
    model: LoadedModel  # the model that was measured, adapters merged
    seconds: float


@dataclasses.dataclass(frozen=True)
class Selected:
    """A round has chosen the answers it will learn from."""

    round: int
    metrics: dict[str, float]
    candidates: Candidates
    learned: int  # problems with an answer to learn from
    seconds: float


@dataclasses.dataclass(frozen=True)
class Trained:
    """One optimizer step was made."""

    epoch: float
    step: int
    loss: float  # nats an answer token
    gradient_norm: float
    seconds: float


Event = Measured | Selected | Trained


def self_improve(loaded: LoadedModel, recipe: Recipe) -> Iterator[Event]:
    """Improve a model on its own verified answers, measuring the gap as it goes.

    **Arguments:**

    - `loaded`: the model to start from; it is left as it was.
    - `recipe`: everything else.

    **Yields:** `Measured` before training, every `measure_every` epochs and at the end;
    `Selected` once a round; `Trained` after each step.

    **Raises:** `UserError` for a recipe that cannot be run, or a loss that is not finite.
    """
    config = recipe.train
    splits = make_splits(recipe)
    adapter_key, probe_key, sample_key, order_key = jax.random.split(jax.random.key(recipe.seed), 4)
    model = loaded.model
    if recipe.adapter.rank:
        model = attach(model, **dataclasses.asdict(recipe.adapter), key=adapter_key)
    trainer = Trainer(model, config)
    state = trainer.init()

    def measure(epoch: float, state: TrainState) -> Measured:
        start = time.perf_counter()
        current = dataclasses.replace(loaded, model=merge(trainer.model(state)))
        # The same key each time: common random numbers, so that the difference between
        # two checkpoints is not drowned in the difference between two draws.
        candidates = make_candidates(current, splits.probe, recipe, probe_key)
        seconds = time.perf_counter() - start
        return Measured(epoch, summarise(candidates), candidates, current, seconds)

    measured = measure(0.0, state)
    yield measured
    for round_index in range(config.rounds):
        start = time.perf_counter()
        candidates = make_candidates(
            measured.model, splits.train, recipe, jax.random.fold_in(sample_key, round_index)
        )
        dataset = _selected_answers(candidates, recipe)
        seconds = time.perf_counter() - start
        yield Selected(
            round_index, summarise(candidates), candidates, len(dataset.prompts), seconds
        )
        steps = dataset.steps_per_epoch(config.batch_size)
        measure_at = _measure_steps(steps, config.epochs_per_round, config.measure_every)
        done = 0
        for epoch in range(config.epochs_per_round):
            key = jax.random.fold_in(jax.random.fold_in(order_key, round_index), epoch)
            for batch in dataset.batches(config.batch_size, key):
                start = time.perf_counter()
                state, metrics = trainer.step(state, batch)
                done += 1
                now = round_index * config.epochs_per_round + done / steps
                loss, norm = float(metrics["loss"]), float(metrics["gradient_norm"])
                step = int(state.step)
                if not np.isfinite(loss):
                    raise UserError(
                        f"the loss is {loss} at step {step}", hint="lower train.learning_rate"
                    )
                yield Trained(now, step, loss, norm, time.perf_counter() - start)
                if done in measure_at:
                    measured = measure(now, state)
                    yield measured


def _measure_steps(steps_per_epoch: int, epochs: int, every: float) -> set[int]:
    """Steps of a round after which to measure: the nearest to each multiple of `every`."""
    total = steps_per_epoch * epochs
    marks = np.arange(1, int(epochs / every + 1e-9) + 1) * every * steps_per_epoch
    return {int(step) for step in np.rint(marks) if step >= 1} | {total}


def _selected_answers(candidates: Candidates, recipe: Recipe) -> Dataset:
    selection = candidates.selection
    kept = list(range(len(candidates.problems)))
    if recipe.verifier.when_none_pass == "skip":
        kept = [p for p in kept if not selection.fell_back[p]]
    if not kept:
        raise UserError(
            f"no candidate of any of {len(candidates.problems)} problems scored at least "
            f"{recipe.verifier.threshold}",
            where="verifier",
            hint="lower verifier.threshold or set when_none_pass: choose_among_all",
        )
    return Dataset(
        prompts=[candidates.prompts[p] for p in kept],
        answers=[candidates.samples.answer(p, int(selection.index[p])) for p in kept],
        answer_width=bucketed(recipe.sampling.max_new_tokens),
    )
