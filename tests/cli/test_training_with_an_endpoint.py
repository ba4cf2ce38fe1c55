"""A stronger model behind an endpoint judges and teaches in `gapjax train`, and fails half-way."""

from __future__ import annotations

import json

import pytest

from gapjax.cli.main import main
from tests.verifiers.chat_server import ChatServer, Reply

OPTIONS = {
    "task.train": 8,
    "task.probe": 8,
    "task.test": 0,
    "sampling.n": 2,
    "train.batch_size": 4,
    "train.rounds": 2,
    "train.epochs_per_round": 1,
    "verifier.method": "external",
    "external.model": "wise",
    "external.examples": 4,
    "external.learn": "answer",
}


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-the-test")
    with ChatServer().running() as server:
        yield server


def add(question: str, _: int) -> Reply:
    first, second = question.rstrip("=").split("+")
    return Reply(str(int(first) + int(second)))


def train(server, out, *more: str) -> int:
    options = [f"--{name}={value}" for name, value in OPTIONS.items()]
    url = f"--external.endpoint={server.url}"
    return main(["train", "adder", "--out", str(out), "--quiet", url, *options, *more])


def results(out):
    names = ["trajectory.csv", "summary.json", "samples/round-000.jsonl", "samples/round-001.jsonl"]
    return [(out / name).read_text() for name in names]


def test_a_run_goes_on_when_the_endpoint_is_back(server, tmp_path, capsys) -> None:
    server.respond = add
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert train(server, whole) == 0
    asked = len(server.questions)
    assert asked == 8 + 8  # each problem once, however often candidates to it are judged

    def respond(question: str, before: int) -> Reply:
        known = len(set(server.questions)) < asked - 1
        return add(question, before) if known else Reply("no more", status=401)

    server.requests.clear()
    server.respond = respond
    assert train(server, broken) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "401" in error
    assert "sk-secret" not in error

    server.respond = add
    assert train(server, broken, "--resume") == 0
    assert len(set(server.questions)) == asked
    assert results(broken) == results(whole)
    for path in broken.rglob("*"):
        assert path.is_dir() or b"sk-secret" not in path.read_bytes()

    rows = [
        json.loads(line) for line in (whole / "samples/round-000.jsonl").read_text().splitlines()
    ]
    taught = [row["learned"] for row in rows if row["learned"]["external"]]
    assert len(taught) == 2
    assert {learned["why"] for learned in taught} == {"the stronger model's answer"}
