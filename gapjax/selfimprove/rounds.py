"""The loop: sample, verify, select, fine-tune, measure; then again.

`self_improve` is a generator of events. It writes nothing: the shell writes what it
yields, and a notebook may do with it what it likes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Generator, Iterator, Sequence

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Key

from gapjax.errors import UserError
from gapjax.generation import Samples
from gapjax.generation.limits import NotFinite
from gapjax.models import LoadedModel
from gapjax.models.lora import attach, merge
from gapjax.models.transformer import Transformer, spread
from gapjax.parallel import any_process, from_first, is_first
from gapjax.selfimprove.candidates import (
    Effort,
    Outcomes,
    part_size,
    sample_answers,
    verify_answers,
)
from gapjax.selfimprove.events import (
    Event,
    FinalTest,
    Finished,
    Judged,
    Measured,
    Sampled,
    Selected,
    Snapshot,
    Trained,
    Verified,
)
from gapjax.selfimprove.framing import framed
from gapjax.selfimprove.learning import (
    Lessons,
    Record,
    choose,
    external_problems,
    mix_external,
)
from gapjax.selfimprove.measure import summarise
from gapjax.selfimprove.overlong import fit_context
from gapjax.selfimprove.problems import (
    check,
    make_external,
    make_source,
    make_splits,
    make_verifier,
)
from gapjax.selfimprove.recipe import Recipe
from gapjax.selfimprove.schedule import batches, measure_steps
from gapjax.selfimprove.sft import Trainer, TrainState
from gapjax.selfimprove.since_first import PerProblem, SinceFirst, per_problem
from gapjax.selfimprove.start import Kept, Start
from gapjax.selfimprove.stopping import cautions, look_ahead, make_policy
from gapjax.tasks import Problem
from gapjax.verifiers import AnswerFile, AskedByOne, Source

# Bytes of weights up to which every device samples by itself: an eighth of the smallest TPU's.
_SMALL = 2 * 2**30

# Why what a model computes may be no number.
_LEARNT_WRONG = "lower train.learning_rate"
_GIVEN_WRONG = "nothing was learnt yet: the model itself overflows or is damaged"


def self_improve(
    loaded: LoadedModel,
    recipe: Recipe,
    start: Start | Callable[[TrainState], Start] | None = None,
    *,
    kept: Callable[[], Kept | None] = lambda: None,
    source: Source | None = None,
    preempted: Callable[[], bool] | None = None,
) -> Iterator[Event]:
    """Improve a model on its own verified answers, measuring the gap as it goes.

    **Arguments:**

    - `loaded`: the model to start from; it is left as it was.
    - `recipe`: everything else.
    - `start`: where to go on; on the same machine the events that follow are those of a run
        that was never cut short. A function of the initial state (whose structure loading a
        checkpoint takes) may give it.
    - `kept`: whoever keeps what is yielded, once there is somebody. Going on needs them; without,
        rounds that use the answers of an earlier one have its rows in memory.
    - `source`: the stronger model, in place of the recipe's.
    - `preempted`: asked after each step whether to end here, with a `Snapshot`.

    In a run of several processes each calls this alike and gets the same events.

    **Yields:** `Overlong` first of all, if problems do not fit the model's context and the recipe
    says what to do with them; `Measured` before training, every `measure_every` epochs and at the
    end, each followed by `Judged`; `Selected` once a round; before either, for one part of the
    problems after the other, `Sampled` and `Verified`; `Trained` after each step; `Snapshot` before
    each but the first measurement; `FinalTest` and `Finished` at the end.

    **Raises:** `UserError` for a recipe that cannot be run, or a loss that is not finite;
    `Preempted` when it is.
    """
    run = _Run(loaded, recipe, kept, source, preempted)
    return run.events(start(run.state) if callable(start) else start or Start())


class Preempted(Exception):
    """The run was asked to end, and can go on from its last snapshot."""


class _Run:
    """What lasts from event to event."""

    def __init__(
        self,
        loaded: LoadedModel,
        recipe: Recipe,
        kept: Callable[[], Kept | None],
        source: Source | None,
        preempted: Callable[[], bool] | None,
    ) -> None:
        loaded = framed(loaded, recipe)
        check(recipe, loaded)
        self.loaded, self.recipe, self.config = loaded, recipe, recipe.train
        self.kept, self.preempted = kept, preempted
        source = source or make_source(recipe)
        if source is not None and not isinstance(source, AnswerFile):
            source = AskedByOne(source)
        self.external = make_external(recipe, source)
        self.verifier = make_verifier(recipe, self.external)
        self.splits, self.overlong = fit_context(make_splits(recipe), loaded, recipe, self.verifier)
        self.policy = make_policy(recipe.stop)
        keys = jax.random.split(jax.random.key(recipe.seed), 4)
        adapter_key, self.probe_key, self.sample_key, self.order_key = keys
        self.asked = external_problems(
            recipe,
            jax.random.fold_in(self.sample_key, self.config.rounds),
            problems=len(self.splits.train),
        )
        model = loaded.model
        if recipe.adapter.rank:
            model = attach(model, **dataclasses.asdict(recipe.adapter), key=adapter_key)
        steps_per_epoch = -(-len(self.splits.train) // self.config.batch_size)
        self.end = float(self.config.rounds * self.config.epochs_per_round)
        self.trainer = Trainer(
            model,
            self.config,
            steps=int(self.end) * steps_per_epoch,
            remat=recipe.parallel.remat,
        )
        self.state = self.trainer.init()
        self.every = self.config.measure_every
        if self.config.measure_every_steps is not None:
            self.every = self.config.measure_every_steps / steps_per_epoch
        self.history: list[tuple[float, dict[str, float]]] = []
        self.rows: list[Record] = []  # of the last round, where nobody keeps them
        self.since_first = SinceFirst()

    def events(self, start: Start) -> Iterator[Event]:
        """The run from `start` to its end."""
        config, lessons = self.config, None
        if self.overlong is not None:
            yield self.overlong
        self.state = self.state if start.state is None else start.state
        self.history = list(start.history)
        now, between = float(start.round * config.epochs_per_round), False
        if start.selected:
            lessons = Lessons(self.loaded, self.recipe)
            for rows in self._rows(start.round):
                lessons.add(rows)
            if start.steps:
                per_epoch = lessons.dataset().steps_per_epoch(config.batch_size)
                now += start.steps / per_epoch
                # Preempted at a step after which nothing is measured.
                between = start.steps not in measure_steps(per_epoch, config)
        stop = None
        if not (start.measured or between):
            ends = now > 0 and now == (start.round + 1) * config.epochs_per_round
            yield from self._measure(now, lessons if ends else None)
        # A selection was made only because the judgement before it was to go on.
        if not (between or (start.measured and lessons is not None and start.steps == 0)):
            stop = yield from self._judge()
        for number in range(start.round, config.rounds):
            if stop is not None:
                break
            resumed = number == start.round
            if not resumed or lessons is None:
                lessons = yield from self._select(number)
            if (stop := lessons.nothing_ended) is not None:
                break
            now, stop = yield from self._train(number, lessons, skip=start.steps if resumed else 0)
        yield from self._conclude(now, stop or "the budget of epochs is spent")

    def _current(self) -> LoadedModel:
        return _to_sample(self.loaded, merge(self.trainer.model(self.state)))

    def _phase(
        self,
        what: str,
        model: LoadedModel,
        problems: Sequence[Problem],
        key: Key[Array, ""],
        then: Callable[[int, list[Record]], list[Record]] = lambda first, rows: rows,
    ) -> Generator[Event, None, tuple[Outcomes, Effort]]:
        """Sample and verify problems, part by part.

        **Arguments:**

        - `then`: what becomes of the rows of a part, from the index of its first problem.
        """
        step, size = int(self.state.step), part_size(self.recipe)
        outcomes, effort = [], Effort({})
        for first in range(0, len(problems), size):
            part = problems[first : first + size]
            samples = self._kept_samples(what, step, first)
            if samples is None:
                try:
                    samples, cost = sample_answers(model, part, self.recipe, key, first=first)
                except NotFinite as error:
                    if not step or what == "test-before":  # the given model
                        raise
                    message = f"the model's logits are NaN or infinite at step {step}"
                    raise UserError(message, hint=_LEARNT_WRONG) from error
                effort += cost
                yield Sampled(what, step, first, samples)
            candidates, cost = verify_answers(model, part, samples, self.recipe, self.verifier)
            effort += cost
            outcomes.append(candidates.outcomes)
            yield Verified(what, first, then(first, candidates.records()), candidates)
        return Outcomes.joined(outcomes), effort

    def _kept_samples(self, what: str, step: int, first: int) -> Samples | None:
        kept = self.kept()
        return None if kept is None else from_first(lambda: kept.samples(what, step, first))

    def _rows(self, number: int) -> Iterator[list[Record]]:
        """The rows of a round that was, part by part."""
        kept, size = self.kept(), part_size(self.recipe)
        # By one process, which alone has the files.
        earlier = self.rows if kept is None else kept.rows("round", number) if is_first() else ()
        rows = iter(earlier)
        while part := from_first(lambda: list(itertools.islice(rows, size))):
            yield part

    def _measure(self, now: float, ended: Lessons | None) -> Iterator[Event]:
        """Measure the probe set; `ended`: what the round learnt, if this is its end."""
        model = self._current()
        # The same key each time: common random numbers, so that the difference between
        # two checkpoints is not drowned in the difference between two draws.
        outcomes, effort = yield from self._phase(
            "probe", model, self.splits.probe, self.probe_key, self.since_first.note
        )
        metrics = summarise(outcomes) | self.since_first.errors(self._first_measured)
        if self.recipe.external.examples:
            metrics["external_share"] = 0.0 if ended is None else self._share(ended)
        self.history.append((now, metrics))
        yield Measured(now, metrics, model, effort)

    def _first_measured(self, now: PerProblem) -> PerProblem | None:
        """The first measurement, if it is not this one; None if a run goes on without its files."""
        kept = self.kept()
        if not self.history:
            return now
        if kept is not None:
            with contextlib.suppress(FileNotFoundError):  # somebody needed the room
                return from_first(lambda: per_problem(kept.rows("probe", 0)))
        return None

    def _share(self, lessons: Lessons) -> float:
        """η_t: of all external examples of the run, how many are in a round."""
        return lessons.external / max(self.recipe.external.examples, 1)

    def _judge(self) -> Generator[Event, None, str | None]:
        """Whether to stop, and why."""
        now, metrics = self.history[-1]
        # By one process, so that all of them stop or none does.
        outlook = from_first(
            lambda: look_ahead(self.history, self.end, every=self.every, seed=self.recipe.seed)
        )
        stop = self.policy(outlook) if outlook is not None else None
        yield Judged(now, outlook, tuple(cautions(self.history[0][1], metrics)), stop)
        return stop

    def _select(self, number: int) -> Generator[Event, None, Lessons]:
        """What round `number` learns, from new candidates or from those of the round before."""
        refresh = self.config.refresh_every
        drawn_in = number - number % refresh if refresh else 0
        key = jax.random.fold_in(self.sample_key, drawn_in)
        lessons, before = Lessons(self.loaded, self.recipe), self._rows(number - 1)
        remembered: list[Record] = []

        def learn(first: int, rows: list[Record]) -> list[Record]:
            rows = choose(rows, self.recipe, jax.random.fold_in(key, 1), first=first)
            asked = self.asked[number] - first
            asked = asked[(asked >= 0) & (asked < len(rows))]
            if len(asked):
                assert self.external is not None
                rows = mix_external(rows, self.loaded, self.recipe, self.external, asked)
            lessons.add(rows)
            if refresh != 1 and self.kept() is None:
                remembered.extend(rows)
            return rows

        metrics: dict[str, float] = {}
        effort = Effort({})
        if drawn_in == number:
            outcomes, effort = yield from self._phase(
                "round", self._current(), self.splits.train, key, learn
            )
            metrics = summarise(outcomes)
        else:
            first = 0
            for rows in before:
                yield Verified("round", first, learn(first, rows), None)
                first += len(rows)
        self.rows = remembered
        if lessons.nothing_ended is None:
            lessons.dataset()  # or there is nothing to learn
        share = self._share(lessons)
        yield Selected(number, lessons.learned, share, metrics, effort, lessons.cut_off)
        return lessons

    def _train(
        self, number: int, lessons: Lessons, *, skip: int
    ) -> Generator[Event, None, tuple[float, str | None]]:
        """Round `number` but for its first `skip` steps.

        **Returns:** the epoch to which it came, and why to stop there, if so.
        """
        config, learns = self.config, lessons.dataset()
        per_epoch = learns.steps_per_epoch(config.batch_size)
        total = per_epoch * config.epochs_per_round
        measure_at = measure_steps(per_epoch, config)
        epochs = batches(learns, config, jax.random.fold_in(self.order_key, number))
        for done, batch in enumerate(epochs, start=1):
            if done <= skip:
                continue
            began = time.perf_counter()
            self.state, metrics = self.trainer.step(self.state, batch)
            now = number * config.epochs_per_round + done / per_epoch
            loss, norm = float(metrics["loss"]), float(metrics["gradient_norm"])
            step = int(self.state.step)
            for name, value in (("loss", loss), ("gradient's norm", norm)):
                if not np.isfinite(value):
                    # The first is that of the model as it was given.
                    hint = _LEARNT_WRONG if step > 1 else _GIVEN_WRONG
                    raise UserError(f"the {name} is {value} at step {step}", hint=hint)
            yield Trained(now, step, loss, norm, batch.tokens, time.perf_counter() - began)
            if done in measure_at or self._to_end():
                yield Snapshot(number, done, self.state)
                if self._to_end():
                    raise Preempted(f"after step {step}")
                yield from self._measure(now, lessons if done == total else None)
                stop = yield from self._judge()
                if stop is not None:
                    return now, stop
        return float((number + 1) * config.epochs_per_round), None

    def _to_end(self) -> bool:
        """Whether one of the processes was asked to end."""
        return self.preempted is not None and any_process(self.preempted())

    def _conclude(self, now: float, reason: str) -> Iterator[Event]:
        if self.splits.test:
            metrics = {}
            for when, model in (
                ("before", _to_sample(self.loaded, self.loaded.model)),
                ("after", self._current()),
            ):
                outcomes, _ = yield from self._phase(
                    f"test-{when}", model, self.splits.test, self.probe_key
                )
                metrics[when] = summarise(outcomes)
            yield FinalTest(now, metrics)
        adapted = self.trainer.model(self.state) if self.recipe.adapter.rank else None
        yield Finished(now, self._current(), reason, adapted)


def _to_sample(loaded: LoadedModel, model: Transformer) -> LoadedModel:
    """`loaded` with another model, which is on every device whole if it is small enough."""
    layout = model.layout
    if layout is not None:
        size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(nnx.state(model)))
        if size <= _SMALL:
            model = spread(model, dataclasses.replace(layout, replicated=True))
    return dataclasses.replace(loaded, model=model)
