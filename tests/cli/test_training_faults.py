"""What goes wrong outside: the disk fills up, nothing passes, the loss explodes."""

from __future__ import annotations

import itertools
import json
import re

import pytest

from gapjax.cli.main import main
from tests.faults import files_of_at_most

OPTIONS = {
    "task.train": 32,
    "task.probe": 32,
    "task.test": 0,
    "sampling.n": 4,
    "train.batch_size": 8,
    "train.epochs_per_round": 1,
}


def train(out, *more: str) -> int:
    options = [f"--{name}={value}" for name, value in OPTIONS.items()]
    return main(["train", "adder", "--out", str(out), "--quiet", *options, *more])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("faults") / "whole"
    assert train(out) == 0
    return out


@pytest.mark.filterwarnings("ignore:Error writing persistent compilation cache")
@pytest.mark.parametrize("size", [10_000, 150_000], ids=["samples", "checkpoint"])
def test_a_full_disk_costs_a_phase(whole, tmp_path, capsys, size) -> None:
    out = tmp_path / "run"
    with files_of_at_most(size):
        assert train(out) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "cannot be written (File too large)" in error
    assert "--resume" in error
    assert not (out / "summary.json").exists()
    assert train(out, "--resume") == 0
    for name in ("trajectory.csv", "export/model.safetensors", "samples/round-000.jsonl"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert not list(out.rglob("*.partial"))


def test_a_loss_that_explodes_is_named_and_the_last_checkpoint_kept(tmp_path, capsys) -> None:
    out = tmp_path / "run"
    wild = ["--train.learning_rate=1e30", "--train.measure_every_steps=1"]
    assert train(out, *wild) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    step = int(re.search(r"is (?:nan|inf) at step (\d+)", error)[1])
    assert str(step - 1) in {path.name for path in (out / "checkpoints").iterdir()}
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["event"] == "train"] == list(range(1, step))


def test_when_nothing_passes(tmp_path, capsys) -> None:
    out = tmp_path / "run"
    wrong = tmp_path / "wrong.jsonl"
    sums = itertools.product(range(10, 100), repeat=2)
    rows = ({"prompt": f"{a}+{b}=", "answer": "-1"} for a, b in sums)
    wrong.write_text("".join(json.dumps(row) + "\n" for row in rows))
    strict = ["--verifier.method=external", f"--external.file={wrong}"]
    assert train(out, *strict, "--verifier.when_none_pass=skip") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "nothing to learn" in error
    assert (out / "samples" / "probe-000.jsonl").exists()
