"""What a run shows on a terminal, and in a log."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from gapjax.cli.live import Live
from gapjax.selfimprove import (
    FinalTest,
    Finished,
    Judged,
    Measured,
    Selected,
    Snapshot,
    Trained,
    parse_recipe,
)
from gapjax.selfimprove.candidates import Effort
from gapjax.selfimprove.learning import CutOff
from gapjax.selfimprove.stopping import look_ahead

RECIPE = parse_recipe({"train": {"epochs_per_round": 2}})
METRICS = {
    "solver_uncertainty": 3.25,
    "verifier_uncertainty": 1.5,
    "gap": 1.75,
    "solver_cut_off": 0.5,
    "solver_accuracy": 0.25,
    "verifier_accuracy": 0.75,
    "grading_timeouts": 0.125,
}


def events():
    effort = Effort({"sample": 2.0, "grade": 0.5}, tokens=3000)
    yield Measured(0.0, METRICS, None, effort)
    yield Judged(0.0, None, (), None)
    yield Selected(0, 7, 0.25, METRICS, effort, CutOff(12, problems=2, learned=1))
    yield Trained(0.5, 1, 2.0, 1.0, 100, 9.0)  # compiles
    yield Trained(1.0, 2, 1.5, 1.0, 100, 0.5)
    yield Snapshot(0, 2, None)
    yield Measured(1.0, METRICS, None, effort)
    history = [(t / 2, METRICS | {"solver_uncertainty": 3 + 2.0**-t}) for t in range(5)]
    yield Judged(1.0, look_ahead(history, 4.0, every=0.5, seed=0), ("beware",), None)
    yield FinalTest(2.0, {"before": METRICS, "after": METRICS})
    yield Finished(2.0, None, "enough")


@pytest.fixture
def shown():
    def show(**options) -> str:
        console = Console(file=io.StringIO(), width=300, highlight=False, **options)
        with Live(console, RECIPE).shown() as live:
            for event in events():
                live.show(event)
        return console.file.getvalue()

    return show


def test_a_log_has_a_plain_line_for_each_event(shown) -> None:
    lines = shown().splitlines()
    starts = ["epoch  0.00: U_s 3.250", "round 0: learns from 7", "  step 2: loss 1.5000", "epoch"]
    starts += ["  limit of U_s", "  caution: beware", "test problems before", "test problems after"]
    starts += ["stopped at epoch 2: enough"]
    assert len(lines) == len(starts)
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(start), line
    assert "12.5% timed out" in lines[0]
    assert "1,500 tokens/s" in lines[0]
    assert "25% of the external examples" in lines[1]
    assert "cut off 12 answers, all of 2 problems, 1 of them learnt" in lines[1]
    assert "200 tokens/s" in lines[2]  # without the step that compiled
    assert "expected gain" in lines[4]


def test_a_terminal_has_a_live_line_as_well(shown) -> None:
    text = shown(force_terminal=True)
    for part in ("sampling answers to learn from", "training", "limit of U_s", "epoch 1.00/2"):
        assert part in text
