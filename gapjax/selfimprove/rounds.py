"""The loop: sample, verify, select, fine-tune, measure; then again.

`self_improve` is a generator of events. It does no I/O: the shell writes what it
yields, and a notebook may do with it what it likes.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key

from gapjax.errors import UserError
from gapjax.generation.batching import bucketed
from gapjax.models import LoadedModel
from gapjax.models.lora import attach, merge
from gapjax.models.prompts import encode_prompt
from gapjax.selfimprove.candidates import Candidates, make_candidates
from gapjax.selfimprove.measure import summarise
from gapjax.selfimprove.problems import make_splits
from gapjax.selfimprove.recipe import Recipe, TrainConfig
from gapjax.selfimprove.sft import Batch, Dataset, Trainer, TrainState
from gapjax.selfimprove.stopping import Outlook, cautions, look_ahead, make_policy


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


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """Training has come to a point where it is measured: the moment to save its state.

    The next step gives the memory of `state` away, so it is to be saved or copied at once.
    """

    round: int
    steps: int  # optimizer steps of this round
    state: TrainState


@dataclasses.dataclass(frozen=True)
class Finished:
    """The run is over."""

    epoch: float
    model: LoadedModel  # adapters merged
    reason: str  # why it ended here


@dataclasses.dataclass(frozen=True)
class Judged:
    """What the measurements so far say about the rest of the run."""

    epoch: float
    outlook: Outlook | None  # None while there are too few of them, and at the end
    cautions: tuple[str, ...]
    stop: str | None  # why to stop; None to go on


Event = Measured | Judged | Selected | Trained | Snapshot | Finished


@dataclasses.dataclass(frozen=True)
class Start:
    """The phases that are done already; by default none."""

    round: int = 0
    steps: int = 0  # optimizer steps of this round
    state: TrainState | None = None  # None: the initial one
    measured: bool = False  # whether the model of `state` has been measured
    learns: Dataset | None = None  # the answers selected in this round, if they have been
    history: tuple[tuple[float, dict[str, float]], ...] = ()  # epoch, metrics of measurements


def self_improve(
    loaded: LoadedModel, recipe: Recipe, start: Start | Callable[[TrainState], Start] = Start()
) -> Iterator[Event]:
    """Improve a model on its own verified answers, measuring the gap as it goes.

    **Arguments:**

    - `loaded`: the model to start from; it is left as it was.
    - `recipe`: everything else.
    - `start`: where to go on; on the same machine the events that follow are those of a run
        that was never cut short. A function of the initial state (whose structure loading a
        checkpoint takes) may give it.

    **Yields:** `Measured` before training, every `measure_every` epochs and at the end, each
    followed by `Judged`;
    `Selected` once a round; `Trained` after each step; `Snapshot` before each but the first
    `Measured`; `Finished` at the end.

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
    if not isinstance(start, Start):
        start = start(state)
    if start.state is not None:
        state = start.state

    def current(state: TrainState) -> LoadedModel:
        return dataclasses.replace(loaded, model=merge(trainer.model(state)))

    def measure(epoch: float, state: TrainState) -> Measured:
        began = time.perf_counter()
        model = current(state)
        # The same key each time: common random numbers, so that the difference between
        # two checkpoints is not drowned in the difference between two draws.
        candidates = make_candidates(model, splits.probe, recipe, probe_key)
        seconds = time.perf_counter() - began
        return Measured(epoch, summarise(candidates), candidates, model, seconds)

    def epochs(round_index: int, steps: int, dataset: Dataset | None) -> float:
        within = 0.0 if dataset is None else steps / dataset.steps_per_epoch(config.batch_size)
        return round_index * config.epochs_per_round + within

    history = list(start.history)
    policy = make_policy(recipe.stop)
    end = float(config.rounds * config.epochs_per_round)

    def judge() -> Judged:
        now, metrics = history[-1]
        outlook = look_ahead(history, end, every=config.measure_every, seed=recipe.seed)
        stop = policy(outlook) if outlook is not None else None
        return Judged(now, outlook, tuple(cautions(history[0][1], metrics)), stop)

    now = epochs(start.round, start.steps, start.learns)
    if not start.measured:
        measured = measure(now, state)
        history.append((now, measured.metrics))
        yield measured
    # A selection was made only because the judgement before it was to go on.
    if not (start.measured and start.learns is not None and start.steps == 0):
        judged = judge()
        yield judged
        if judged.stop is not None:
            yield Finished(now, current(state), judged.stop)
            return
    for round_index in range(start.round, config.rounds):
        resumed = round_index == start.round
        dataset = start.learns if resumed else None
        if dataset is None:
            began = time.perf_counter()
            key = jax.random.fold_in(sample_key, round_index)
            candidates = make_candidates(current(state), splits.train, recipe, key)
            dataset = _selected_answers(candidates, recipe)
            seconds = time.perf_counter() - began
            yield Selected(
                round_index, summarise(candidates), candidates, len(dataset.prompts), seconds
            )
        steps = dataset.steps_per_epoch(config.batch_size)
        measure_at = _measure_steps(steps, config.epochs_per_round, config.measure_every)
        batches = _batches(dataset, config, jax.random.fold_in(order_key, round_index))
        for done, batch in enumerate(batches, start=1):
            if resumed and done <= start.steps:
                continue
            began = time.perf_counter()
            state, metrics = trainer.step(state, batch)
            now = epochs(round_index, done, dataset)
            loss, norm = float(metrics["loss"]), float(metrics["gradient_norm"])
            step = int(state.step)
            if not np.isfinite(loss):
                raise UserError(
                    f"the loss is {loss} at step {step}", hint="lower train.learning_rate"
                )
            yield Trained(now, step, loss, norm, time.perf_counter() - began)
            if done in measure_at:
                yield Snapshot(round_index, done, state)
                measured = measure(now, state)
                history.append((now, measured.metrics))
                yield measured
                judged = judge()
                yield judged
                if judged.stop is not None:
                    yield Finished(now, measured.model, judged.stop)
                    return
    yield Finished(end, current(state), "the budget of epochs is spent")


def selected_answers(
    loaded: LoadedModel, recipe: Recipe, records: Sequence[Mapping[str, Any]]
) -> Dataset:
    """The answers of a round from what `Candidates.records` wrote about it.

    **Raises:** `KeyError` or `TypeError` for records that are not of that kind.
    """
    if recipe.verifier.when_none_pass == "skip":
        records = [row for row in records if not row["fell_back"]]
    assert loaded.tokenizer is not None
    return Dataset(
        prompts=[encode_prompt(loaded.tokenizer, row["prompt"]) for row in records],
        answers=[row["candidates"][row["chosen"]]["tokens"] for row in records],
        answer_width=bucketed(recipe.sampling.max_new_tokens),
    )


def _batches(dataset: Dataset, config: TrainConfig, key: Key[Array, ""]) -> Iterator[Batch]:
    """The batches of a round, epoch after epoch."""
    for epoch in range(config.epochs_per_round):
        yield from dataset.batches(config.batch_size, jax.random.fold_in(key, epoch))


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
