"""What a run shows while it goes on: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from gapjax.selfimprove import (
    Event,
    FinalTest,
    Finished,
    Judged,
    Measured,
    Overlong,
    Recipe,
    Sampled,
    Selected,
    Snapshot,
    Trained,
    Verified,
)

# What the run does after an event has been yielded.
_NEXT = {
    Overlong: "sampling the probe set",
    Sampled: "verifying",
    Verified: "sampling",
    Judged: "training",
    Selected: "training",
    Trained: "training",
    Snapshot: "sampling the probe set",
    Measured: "fitting",
    FinalTest: "exporting",
    Finished: "exporting",
}


class Live:
    """Shows events on a console."""

    def __init__(self, console: Console, recipe: Recipe) -> None:
        self._console, self._recipe = console, recipe
        self._state: dict[str, str] = {}  # parts of the live line, in the order they came up
        self._trained: list[Trained] = []  # since the last measurement
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[phase]}"),
            BarColumn(bar_width=20),
            TextColumn("epoch {task.completed:.2f}/{task.total:g}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
            disable=console.quiet or not console.is_terminal,
        )
        total = recipe.train.rounds * recipe.train.epochs_per_round
        self._task = self._progress.add_task("", total=total, phase="sampling the probe set")

    @contextlib.contextmanager
    def shown(self) -> Iterator[Live]:
        """The live line is there within this context."""
        with self._progress:
            yield self

    def show(self, event: Event) -> None:
        """One event: some lines, and an up-to-date live line."""
        for line in self._lines(event):
            self._console.print(line)
        if isinstance(event, Trained):
            self._trained.append(event)
            self._progress.update(self._task, completed=event.epoch)
        phase = _NEXT[type(event)]
        if isinstance(event, Judged) and self._a_round_begins(event.epoch):
            phase = "sampling answers to learn from"
        description = "  ".join(self._state.values())
        # Drawn at once, since what comes next may take a while.
        at_once = not isinstance(event, Trained)
        self._progress.update(self._task, phase=phase, description=description, refresh=at_once)

    def _a_round_begins(self, epoch: float) -> bool:
        return (epoch / self._recipe.train.epochs_per_round).is_integer()

    def _lines(self, event: Event) -> list[str]:
        match event:
            case Overlong():
                return [event.summary]
            case Measured():
                m = event.metrics
                self._state["U"] = (
                    f"U_s {m['solver_uncertainty']:.3g} U_v {m['verifier_uncertainty']:.3g}"
                )
                return [
                    f"epoch {event.epoch:5.2f}: U_s {m['solver_uncertainty']:.3f}  "
                    f"U_v {m['verifier_uncertainty']:.3f}  gap {m['gap']:.3f} nats{_accuracy(m)}"
                    f"   cut off {m['solver_cut_off']:.0%}  ({_cost(event)})"
                ]
            case Judged():
                return self._judgement(event)
            case Selected():
                self._state["round"] = f"round {event.round}"
                new = f" ({_cost(event)})" if event.metrics else ", of candidates drawn before"
                external = (
                    f", {event.external_share:.0%} of the external examples"
                    if event.external_share
                    else ""
                )
                return [
                    f"round {event.round}: learns from {event.learned} answers{external}"
                    f"{_cut_off(event)}{_accuracy(event.metrics)}{new}"
                ]
            case Snapshot():
                steps, self._trained = self._trained, []
                # The first step of a run compiles, which says nothing about the others.
                seconds = sum(step.seconds for step in steps[1:])
                tokens = sum(step.tokens for step in steps[1:])
                rate = f", {tokens / seconds:,.0f} tokens/s" if seconds else ""
                self._state["loss"] = f"loss {steps[-1].loss:.3f}{rate}"
                return [f"  step {steps[-1].step}: loss {steps[-1].loss:.4f}{rate}"]
            case FinalTest():
                return [
                    f"test problems {when} the run: gap {m['gap']:.3f} nats{_accuracy(m)}"
                    for when, m in event.metrics.items()
                ]
            case Finished():
                return [f"stopped at epoch {event.epoch:g}: {event.reason}"]
        return []

    def _judgement(self, event: Judged) -> list[str]:
        lines = [f"  caution: {text}" for text in event.cautions]
        if (outlook := event.outlook) is None:
            return lines
        q = outlook.limit
        known = "" if outlook.identified else ", not identified"
        limit = f"limit of U_s {q['q50']:.3g} [{q['q05']:.3g}, {q['q95']:.3g}]{known}"
        self._state["limit"] = limit
        return [
            f"  {limit}; expected gain of the remaining epochs {outlook.expected_gain:.3g} nats",
            *lines,
        ]


def _cost(event: Measured | Selected) -> str:
    seconds = event.effort.seconds
    text = " + ".join(f"{what} {value:.1f}" for what, value in seconds.items()) + " s"
    if sampling := seconds.get("sample"):
        text += f", {event.effort.tokens / sampling:,.0f} tokens/s"
    return text


def _cut_off(event: Selected) -> str:
    cut = event.cut_off
    if not cut.candidates:
        return ""
    whole = f", all of {cut.problems} problems" if cut.problems else ""
    learned = f", {cut.learned} of them learnt" if cut.learned else ""
    return f"   cut off {cut.candidates} answers{whole}{learned}"


def _accuracy(metrics: Mapping[str, float]) -> str:
    """Nothing where no answers are known; failures of grading and verifying where there are any."""
    failed = "".join(
        f", {metrics[name]:.1%} {what}"
        for name, what in (
            ("unscored", "without a score"),
            ("grading_timeouts", "timed out"),
            ("grading_errors", "not gradable"),
            ("ungraded", "of the problems without an answer"),
        )
        if metrics.get(name)
    )
    if "solver_accuracy" not in metrics:
        return failed + (", not graded" if metrics else "")
    return (
        f"   right: solver {metrics['solver_accuracy']:.1%}, "
        f"best-of-N {metrics['verifier_accuracy']:.1%}{failed}"
    )
