"""`gapjax train` from end to end at tiny size, checked with tools that are not ours."""

from __future__ import annotations

import contextlib
import io
import json
import struct
import sys

import numpy as np
import pandas as pd
import pytest

from gapjax.cli.main import main

TINY = [
    "--task.train=32",
    "--task.probe=24",
    "--task.test=8",
    "--sampling.n=4",
    "--train.batch_size=8",
    "--train.epochs_per_round=2",
    "--train.learning_rate=1e-3",
]
COLUMNS = [
    *(f"{who}_{what}" for who in ("solver", "verifier") for what in ("uncertainty", "sem")),
    *(f"{who}_{what}" for who in ("solver", "verifier") for what in ("tokens", "accuracy")),
    *(f"{who}_uncertainty_per_token" for who in ("solver", "verifier")),
    *("pass_at_1", "pass_at_4", "solver_cut_off", "answer_entropy"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("train") / "run"
    options = ["--seed", "3", "--tensorboard", *TINY]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert main(["train", "adder", "--out", str(out), *options]) == 0
    (out.parent / "console.txt").write_text(said.getvalue())
    return out


def read_jsonl(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_files_of_the_contract(run) -> None:
    table = pd.read_csv(run / "trajectory.csv")
    assert table["epoch"].tolist() == [0, 0.5, 1, 1.5, 2]
    assert set(table["seed"]) == {3}
    for name in COLUMNS:
        assert np.isfinite(table[name]).all(), name
    np.testing.assert_allclose(
        table["gap"], table["solver_uncertainty"] - table["verifier_uncertainty"], rtol=1e-9
    )
    events = [row["event"] for row in read_jsonl(run / "metrics.jsonl")]
    assert (events.count("measure"), events.count("select"), events.count("train")) == (5, 1, 8)
    rounds = read_jsonl(run / "samples" / "round-000.jsonl")
    assert len(rounds) == 32
    assert len(rounds[0]["candidates"]) == 4
    assert {"text", "tokens", "logprob", "length", "score", "grade"} <= set(
        rounds[0]["candidates"][0]
    )
    summary = json.loads((run / "posterior" / "summary.json").read_text())
    assert summary["curves"][0]["labels"] == {"recipe": "adder", "seed": "3"}
    # The tokenizer's, as the model itself comes without a generation_config.json.
    ends = json.loads((run / "export" / "generation_config.json").read_text())
    assert ends == {"eos_token_id": 1}
    for picture in ("plots/progress.png", "posterior/plots/trajectory.png"):
        assert (run / picture).read_bytes().startswith(b"\x89PNG")


def test_what_came_out_in_one_place(run) -> None:
    summary = json.loads((run / "summary.json").read_text())
    table = pd.read_csv(run / "trajectory.csv")
    assert summary["reason"] == "the budget of epochs is spent"
    assert summary["first"]["gap"] == pytest.approx(table["gap"].iloc[0])
    assert summary["last"]["gap"] == pytest.approx(table["gap"].iloc[-1])
    rows = read_jsonl(run / "samples" / "test-after.jsonl")
    right = np.mean([c["grade"] == "correct" for row in rows for c in row["candidates"]])
    assert summary["test"]["after"]["solver_accuracy"] == pytest.approx(right)
    report = (run / "report.html").read_text()
    assert summary["reason"] in report


def test_the_outcome_is_the_last_line_of_the_console_and_the_first_of_the_report(run) -> None:
    last = (run.parent / "console.txt").read_text().splitlines()[-1]
    assert last.startswith(("Learning: ", "Sharpening: ", "Worse: ", "Cannot tell"))
    assert last.endswith("The test problems say so, which nothing in the run has seen.")
    report = (run / "report.html").read_text()
    assert report.index(last[:60]) < report.index("Ended at epoch")


def test_errors_of_changes_are_those_of_the_same_problems(run) -> None:
    table = pd.read_csv(run / "trajectory.csv")
    first, last = (read_jsonl(run / "samples" / f"probe-00{i}.jsonl") for i in (0, 4))
    right = [
        [np.mean([c["grade"] == "correct" for c in row["candidates"]]) for row in rows]
        for rows in (first, last)
    ]
    expected = np.std(np.subtract(*right), ddof=1) / np.sqrt(len(first))
    errors = table["solver_accuracy_change_sem"]
    assert errors.iloc[0] == 0
    assert errors.iloc[-1] == pytest.approx(expected)


def test_tensorboard_without_its_package_is_refused_at_once(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    options = ["train", "adder", "--model=/no/model", "--out", str(tmp_path / "run")]
    assert main([*options, "--tensorboard"]) == 2
    line = "gapjax: --tensorboard: tensorboardX is not installed"
    assert capsys.readouterr().err.startswith(line)
    # A run that wrote for it goes on to.
    (tmp_path / "run" / "tensorboard").mkdir(parents=True)
    assert main([*options, "--resume"]) == 2
    assert capsys.readouterr().err.startswith(line)


def test_interrupted_says_how_to_go_on(tmp_path, capsys, monkeypatch) -> None:
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("gapjax.models.load", interrupted)
    assert main(["train", "adder", "--out", str(tmp_path / "run")]) == 130
    expected = "gapjax: interrupted; the same command with --resume goes on\n"
    assert capsys.readouterr().err == expected


def test_time_and_tokens_of_every_phase(run) -> None:
    rows = read_jsonl(run / "metrics.jsonl")
    for row in rows:
        if row["event"] in ("measure", "select"):
            assert set(row["seconds"]) == {"sample", "grade", "verify"}
            assert min(row["seconds"].values()) >= 0
    first = read_jsonl(run / "samples" / "probe-000.jsonl")
    tokens = sum(c["length"] for row in first for c in row["candidates"])
    assert rows[0]["tokens"] == tokens
    assert all(row["tokens"] > 0 for row in rows if row["event"] == "train")


def test_tensorboard_has_the_measurements(run) -> None:
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    (path,) = (run / "tensorboard").iterdir()
    data, found = path.read_bytes(), {}
    while data:  # TFRecord: length, its checksum, the record, its checksum
        (length,) = struct.unpack("<Q", data[:8])
        event = event_pb2.Event.FromString(data[12 : 12 + length])
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
        data = data[16 + length :]
    table = pd.read_csv(run / "trajectory.csv")
    steps, gaps = zip(*found["probe/gap"], strict=True)
    assert steps == (0, 2, 4, 6, 8)
    np.testing.assert_allclose(gaps, table["gap"], rtol=1e-6)
    assert len(found["train/loss"]) == 8


def test_uncertainties_agree_with_transformers_in_float64(run) -> None:
    """From the exported checkpoint and the stored samples alone."""
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    model = AutoModelForCausalLM.from_pretrained(run / "export", dtype=torch.float64)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(run / "export")
    solver, verifier = [], []
    for row in read_jsonl(sorted(run.glob("samples/probe-*.jsonl"))[-1]):
        prompt = tokenizer.encode(row["prompt"])
        totals = []
        for candidate in row["candidates"]:
            tokens = torch.tensor([prompt + candidate["tokens"]])
            with torch.no_grad():
                logprobs = torch.log_softmax(model(tokens).logits[0], dim=-1)
            answer = range(len(prompt), tokens.shape[1])
            totals.append(-sum(float(logprobs[i - 1, tokens[0, i]]) for i in answer))
        lengths = [len(candidate["tokens"]) for candidate in row["candidates"]]
        per_token = np.divide(totals, lengths)
        assert per_token[row["chosen"]] == pytest.approx(per_token.min(), abs=1e-4)
        solver.append(np.mean(totals))
        verifier.append(totals[row["chosen"]])
    last = pd.read_csv(run / "trajectory.csv").iloc[-1]
    assert last["solver_uncertainty"] == pytest.approx(np.mean(solver), rel=1e-3)
    assert last["verifier_uncertainty"] == pytest.approx(np.mean(verifier), rel=1e-3)


def test_the_kept_recipe_repeats_the_run(run, tmp_path, capsys) -> None:
    out = tmp_path / "again"
    assert main(["train", str(run / "recipe.yaml"), "--out", str(out), "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    numbers = [
        pd.read_csv(folder / "trajectory.csv").drop(columns="recipe") for folder in (run, out)
    ]
    pd.testing.assert_frame_equal(*numbers)


def test_print_recipe(capsys) -> None:
    assert main(["train", "adder", "--print-recipe", "--train.learning_rate", "5e-4"]) == 0
    assert "learning_rate: 0.0005" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["train", "none.yaml", "--out", "{out}"], "none.yaml"),
        (["train", "adder"], "--out"),
        (["train", "adder", "--out", "{out}", "--sampling.n", "one"], "sampling.n"),
        (["train", "adder", "--out", "{out}", "--sampling.n"], "needs a value"),
        (["train", "adder", "--out", "{out}", "--seed.x", "1"], "seed"),
        (
            ["train", "adder", "--out", "{full}", "--overwrite", "--verifier.method=true_false"],
            "no letters",
        ),
        (["train", "adder", "--out", "{out}", "--verifier.method=quality"], "no letters"),
        (["train", "adder", "--out", "{out}", "--seed", "-1"], "--seed"),
        (["train", "adder", "--out", "{out}", "--seed", "99999999999999999999"], "--seed"),
        (["train", "adder", "--out", "{out}", "--model", "none"], "no such model"),
        (["train", "adder", "--out", "{out}", "--task.train", "9000"], "8100 additions"),
        (["train", "adder", "--out", "{out}", "extra"], "extra"),
        (["train", "adder", "--out", "{full}"], "not empty"),
        (["train", "adder", "--out", "{file}"], "is a file"),
        (
            ["train", "adder", "--out", "{out}", "--adapter.rank", "2", "--adapter.targets", "zz"],
            "zz",
        ),
        (["demo"], "--out"),
        (["practice"], "practice"),
        ([], "COMMAND"),
    ],
)
def test_mistakes_give_status_2_and_one_line(arguments, complaint, tmp_path, capsys) -> None:
    full = tmp_path / "full"
    full.mkdir()
    for name in ("recipe.yaml", "versions.json"):  # of a run
        (full / name).write_text("data")
    (tmp_path / "file").write_text("data")
    places = {"out": tmp_path / "out", "full": full, "file": tmp_path / "file"}
    assert main([argument.format(**places) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("gapjax: ")
    assert complaint in captured.err
    assert (full / "recipe.yaml").read_text() == "data"
    assert not places["out"].exists()
