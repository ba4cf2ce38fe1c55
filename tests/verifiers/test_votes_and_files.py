"""Verifiers that ask nobody: the candidates' own vote, and another model's file."""

from __future__ import annotations

import json

import numpy as np
import pytest

from gapjax.errors import UserError
from gapjax.generation import Samples
from gapjax.tasks import Problem
from gapjax.verifiers import AnswerFile, External, SelfConsistency, decoded

PROBLEMS = (Problem("1+2="), Problem("4+4="))
TEXTS = (("3", "3", "03", "4"), ("8", "+", "9", "=8"))


@pytest.fixture(scope="module")
def samples(adder):
    tokens = [[adder.tokenizer.encode(text) for text in row] for row in TEXTS]
    lengths = np.array([[len(t) for t in row] for row in tokens])
    padded = np.zeros((2, 4, 2), int)
    for p, row in enumerate(tokens):
        for n, ids in enumerate(row):
            padded[p, n, : len(ids)] = ids
    return Samples(padded, np.zeros(padded.shape), lengths, np.zeros(lengths.shape, bool))


def write(path, *rows):
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


@pytest.mark.fast
def test_votes(adder, samples) -> None:
    assert decoded(adder, samples) == TEXTS
    numeric = SelfConsistency()(adder, PROBLEMS, samples)
    np.testing.assert_array_equal(numeric, [[0.75, 0.75, 0.75, 0.25], [0.5, 0, 0.25, 0.5]])
    exact = SelfConsistency(method="exact")(adder, PROBLEMS, samples)
    np.testing.assert_array_equal(exact, [[0.5, 0.5, 0.25, 0.25], [0.25] * 4])


def test_answers_and_scores_of_another_model(adder, samples, tmp_path) -> None:
    file = write(
        tmp_path / "other.jsonl",
        {"prompt": "1+2= ", "answer": "it is 3"},
        {"prompt": "1+2=", "response": "4", "score": 0.25},
        {"prompt": "4+4=", "answer": "8"},
    )
    scores = External(AnswerFile.read(file))(adder, PROBLEMS, samples)
    np.testing.assert_array_equal(scores, [[1, 1, 1, 0.25], [1, 0, 0, 1]])


@pytest.mark.parametrize(
    "rows",
    [
        [{"prompt": "1+2=", "answer": "3"}],  # nothing about the other problem
        [{"prompt": "1+2=", "answer": "3"}, {"prompt": "4+4=", "answer": "eight"}],
    ],
)
def test_silence_is_no_score(adder, samples, tmp_path, rows) -> None:
    file = write(tmp_path / "other.jsonl", *rows)
    with pytest.raises(UserError, match=r"other\.jsonl.* 4 of 8 candidates"):
        External(AnswerFile.read(file))(adder, PROBLEMS, samples)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "?"},
        {"answer": "3"},
        {"prompt": "?", "answer": 3},
        {"prompt": "?", "answer": "3", "response": "3"},
        {"prompt": "?", "response": "3"},
        {"prompt": "?", "response": "3", "score": 2},
        {"prompt": "?", "response": "3", "score": float("nan")},
        {"prompt": "?", "response": "3", "score": True},
    ],
)
def test_faults_name_the_line(row, tmp_path) -> None:
    file = write(tmp_path / "other.jsonl", {"prompt": "?", "answer": "3"}, row)
    with pytest.raises(UserError, match="line 2"):
        AnswerFile.read(file)
