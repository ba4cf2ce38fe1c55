"""`gapjax train --profile`: the trace is where it should be, and has the step in it."""

from __future__ import annotations

import gzip
import json

import pytest

from gapjax.cli import training
from gapjax.cli.main import main


def test_a_run_leaves_a_trace_and_its_speed(tmp_path, capsys, monkeypatch) -> None:
    # The posterior and the report have tests of their own.
    monkeypatch.setattr(training, "_conclude", lambda *_: None)
    out = tmp_path / "run"
    small = ["--task.train", "8", "--task.probe", "8", "--sampling.n", "2", "--train.rounds", "1"]
    small += ["--train.epochs_per_round", "2", "--train.measure_every", "2"]
    command = ["train", "adder", *small, "--profile", "1", "--quiet", "--out", str(out)]
    assert main(command) == 0, capsys.readouterr().err
    (perfetto,) = out.glob("profile/**/perfetto_trace.json.gz")
    (xprof,) = out.glob("profile/**/*.xplane.pb")
    assert xprof.stat().st_size > 0
    with gzip.open(perfetto) as stream:
        names = {event.get("name", "") for event in json.load(stream)["traceEvents"]}
    assert any("_step" in name for name in names), sorted(names)[:50]
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    train = [row for row in rows if row["event"] == "train"]
    assert all(row["speed"]["train"]["tokens_per_second"] > 0 for row in train)
    measured = next(row for row in rows if row["event"] == "measure")
    assert measured["speed"]["sample"]["flops_per_second"] > 0


@pytest.mark.fast
def test_no_steps_cannot_be_traced(tmp_path, capsys) -> None:
    command = ["train", "adder", "--profile", "0", "--out", str(tmp_path / "run")]
    assert main(command) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
