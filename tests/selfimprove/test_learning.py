"""What a round learns: controls, and a stronger model's examples."""

from __future__ import annotations

import copy
import json

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapjax.errors import UserError
from gapjax.models import LoadedModel
from gapjax.selfimprove import (
    Finished,
    Judged,
    Measured,
    Selected,
    Verified,
    parse_recipe,
    self_improve,
)
from gapjax.selfimprove.learning import (
    CutOff,
    Lessons,
    choose,
    dataset,
    external_problems,
    mix_external,
)
from gapjax.verifiers import AnswerFile, External


def external_count(rows) -> int:
    return sum(bool(row["learned"] and row["learned"]["external"]) for row in rows)


def recipe(**sections):
    return parse_recipe(
        {
            "model": "adder",
            "task": {"digits": 2, "template": "{a}+{b}=", "train": 8, "probe": 8},
            "sampling": {"n": 2, "max_new_tokens": 5},
            "train": {"rounds": 4, "epochs_per_round": 1, "measure_every": 1, "batch_size": 4},
        }
        | sections
    )


def row(prompt: str, *candidates: tuple[str, float, str, int], chosen=0, fell_back=False):
    return {
        "prompt": prompt,
        "chosen": chosen,
        "fell_back": fell_back,
        "reason": "least uncertainty a token",
        "candidates": [
            {"text": text, "tokens": [int(c) + 2 for c in text] + [1], "logprob": logprob}
            | {"grade": grade, "length": length, "finished": True}
            for text, logprob, grade, length in candidates
        ],
    }


ROWS = [
    row("11+11=", ("22", -3.0, "correct", 3), ("23", -0.3, "incorrect", 3), chosen=1),
    row("10+10=", ("21", -1.0, "incorrect", 3), ("2", -9.0, "timeout", 2), fell_back=True),
    row("12+12=", ("24", -6.0, "correct", 3), ("24", -0.1, "correct", 3), chosen=1),
]


def learned(records) -> list[int | None]:
    return [row["learned"] and row["learned"]["candidate"] for row in records]


@pytest.mark.fast
def test_the_verifier_chance_and_the_truth_choose(adder) -> None:
    key = jax.random.key(0)
    assert learned(choose(ROWS, recipe(), key)) == [1, 0, 1]
    skip = recipe(verifier={"when_none_pass": "skip"})
    assert learned(choose(ROWS, skip, key)) == [1, None, 1]
    truth = choose(ROWS, recipe(verifier={"learn_from": "truth"}), key)
    assert learned(truth) == [0, None, 1]
    wrong = truth[1:2]
    with pytest.raises(UserError, match="nothing to learn"):
        dataset(adder, recipe(verifier={"learn_from": "truth"}), wrong)


def cut_off(row, *indices: int):
    candidates = [
        each | {"finished": each["finished"] and n not in indices}
        for n, each in enumerate(row["candidates"])
    ]
    return row | {"candidates": candidates}


@pytest.mark.parametrize(
    ("verifier", "expected"),
    [
        ({}, [1, None, 0]),
        ({"learn_from": "random"}, [1, None, 0]),
        ({"learn_from": "truth"}, [None, None, 0]),
        ({"when_none_pass": "skip"}, [1, None, 0]),
        ({"cut_off": "accept"}, [1, 0, 0]),
        ({"cut_off": "accept", "learn_from": "truth"}, [0, None, 1]),
    ],
)
def test_what_was_cut_off_is_not_learnt(adder, verifier, expected) -> None:
    rows = [cut_off(ROWS[0], 0), cut_off(ROWS[1], 0, 1), cut_off(ROWS[2] | {"chosen": 0}, 1)]
    how = recipe(verifier=verifier)
    chosen = choose(rows, how, jax.random.key(0))
    assert learned(chosen) == expected
    lessons = Lessons(adder, how)
    lessons.add(chosen)
    pairs = zip(expected, rows, strict=True)
    cut = [n is not None and not row["candidates"][n]["finished"] for n, row in pairs]
    assert lessons.cut_off == CutOff(4, problems=1, learned=sum(cut))
    assert any(cut) == ("cut_off" in verifier)


def test_a_stronger_model_chooses_none_that_was_cut_off(adder, tmp_path) -> None:
    file = write(tmp_path / "a.jsonl", {"11+11=": "22", "12+12=": "24"})
    external = External(AnswerFile.read(file))
    rows = choose([cut_off(ROWS[0], 0), cut_off(ROWS[2], 1)], recipe(), jax.random.key(0))
    mixed = mix_external(rows, adder, recipe(), external, np.array([0, 1]))
    assert learned(mixed) == [1, 0]
    assert [row["learned"]["external"] for row in mixed] == [False, True]


def test_half_an_answer_of_a_stronger_model_is_none(tmp_path) -> None:
    file = tmp_path / "a.jsonl"
    rows = [{"prompt": p, "answer": "2", "finish_reason": p} for p in ("stop", "length")]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert AnswerFile.read(file).answers(["stop", "length"]) == ["2", None]


def test_a_round_of_answers_without_an_end_ends_the_run(adder) -> None:
    short = recipe(sampling={"n": 2, "max_new_tokens": 1})
    events = list(self_improve(adder, short))
    selected = next(event for event in events if isinstance(event, Selected))
    assert (selected.learned, selected.cut_off) == (0, CutOff(16, problems=8, learned=0))
    assert isinstance(events[-1], Finished)
    assert "all 16 answers were cut off at 1 tokens" in events[-1].reason
    cautions = [event.cautions for event in events if isinstance(event, Judged)]
    assert any("many answers are cut off" in text for text in cautions[0])


def test_a_model_without_an_end_is_refused_before_anything_is_sampled(adder) -> None:
    tokenizer = copy.deepcopy(adder.tokenizer)
    tokenizer.eos_token = None
    endless = LoadedModel(adder.model, tokenizer)
    with pytest.raises(UserError, match="every answer is cut off"):
        next(self_improve(endless, recipe()))


def test_chance_takes_each_candidate_as_often() -> None:
    by_chance = recipe(verifier={"learn_from": "random"})
    drawn = [
        i for seed in range(3) for i in learned(choose(ROWS * 100, by_chance, jax.random.key(seed)))
    ]
    assert abs(np.mean(drawn) - 0.5) < 4 * 0.5 / np.sqrt(len(drawn))
    again = learned(choose(ROWS * 100, by_chance, jax.random.key(0)))
    assert again == drawn[: len(again)]


@settings(deadline=None)  # the first call compiles
@given(
    rounds=st.integers(1, 12),
    train=st.sampled_from([1, 7, 50]),
    share=st.floats(0, 1),
    schedule=st.sampled_from(["early", "uniform", "late", "custom"]),
)
def test_every_external_example_is_used_in_one_round(rounds, train, share, schedule) -> None:
    examples = int(share * train)
    shares = [1 / rounds] * rounds if schedule == "custom" else schedule
    problems = external_problems(
        recipe(
            train={"rounds": rounds},
            external={"examples": examples, "schedule": shares},
        ),
        jax.random.key(0),
        problems=train,
    )
    assert len(problems) == rounds
    used = np.concatenate(problems).tolist()
    assert len(set(used)) == len(used) == examples
    assert all(0 <= p < train for p in used)
    counts = [len(p) for p in problems]
    if schedule == "early":
        assert counts[0] == examples
    elif schedule == "late":
        assert counts[max(rounds - 2, 0)] == examples
    else:
        assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize(
    ("external", "complaint"),
    [
        ({"examples": 9}, r"external\.examples: 9 is more than the 8"),
        ({"examples": 4, "schedule": [0.5, 0.5]}, r"external\.schedule: .* not 4 shares"),
        ({"examples": 4, "schedule": [0.5, 0.5, 0.5, 0]}, r"of 1 at most"),
    ],
)
def test_shares_that_do_not_fit(external, complaint) -> None:
    with pytest.raises(UserError, match=complaint):
        external_problems(recipe(external=external), jax.random.key(0), problems=8)


def write(path, answers: dict[str, str]):
    path.write_text(
        "".join(json.dumps({"prompt": p, "answer": a}) + "\n" for p, a in answers.items())
    )
    return path


def test_the_stronger_model_chooses_or_answers(adder, tmp_path) -> None:
    file = write(tmp_path / "a.jsonl", {"11+11=": "22", "10+10=": "20", "12+12=": "24"})
    external = External(AnswerFile.read(file))
    records = choose(ROWS, recipe(), jax.random.key(0))
    asked = np.array([1, 0])

    mixed = mix_external(records, adder, recipe(), external, asked)
    assert learned(mixed) == [0, 0, 1]  # no candidate of the second agrees: it stays as it was
    assert external_count(mixed) == 1

    answer = recipe(external={"learn": "answer"})
    mixed = mix_external(records, adder, answer, external, asked)
    assert external_count(mixed) == 2
    learns = dataset(adder, answer, mixed)
    assert [adder.tokenizer.decode(a, skip_special_tokens=True) for a in learns.answers] == [
        "22",
        "20",
        "24",
    ]
    assert {answer[-1] for answer in learns.answers} == {adder.tokenizer.eos_token_id}


def test_a_foreign_answer_ends_as_the_models_own(adder, tmp_path) -> None:
    """With the end of a turn, which is another token than the end of a text."""
    tokenizer = copy.deepcopy(adder.tokenizer)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}+{% endfor %}"
    tokenizer.add_special_tokens({"additional_special_tokens": ["+"]})
    loaded = LoadedModel(adder.model, tokenizer)
    assert loaded.ends.tokens == (1, 12)
    file = write(tmp_path / "a.jsonl", {"11+11=": "22"})
    external = External(AnswerFile.read(file))
    answer = recipe(external={"learn": "answer", "examples": 1, "file": str(file)})
    mixed = mix_external(choose(ROWS, answer, jax.random.key(0)), loaded, answer, external, [0])
    assert mixed[0]["learned"]["tokens"] == [4, 4, 12]

    tokenizer.chat_template = tokenizer.eos_token = None
    with pytest.raises(UserError, match="no token that ends an answer"):
        next(self_improve(LoadedModel(adder.model, tokenizer), answer))


def test_examples_come_in_their_rounds_and_are_on_record(adder, tmp_path) -> None:
    sums = {f"{a}+{b}=": str(a + b) for a in range(10, 100) for b in range(10, 100)}
    file = write(tmp_path / "sums.jsonl", sums)
    external = {"file": str(file), "examples": 6, "schedule": [0.5, 0, 0.5, 0], "learn": "answer"}
    events = list(self_improve(adder, recipe(external=external)))
    selected = [event for event in events if isinstance(event, Selected)]
    assert [event.external_share for event in selected] == [0.5, 0, 0.5, 0]
    chosen = [event.records for event in events if isinstance(event, Verified)]
    chosen = [rows for rows in chosen if "learned" in rows[0]]
    assert [external_count(rows) for rows in chosen] == [3, 0, 3, 0]
    for rows in chosen:
        for record in rows:
            if record["learned"]["external"]:
                text = adder.tokenizer.decode(record["learned"]["tokens"], skip_special_tokens=True)
                assert text.strip() == record["answer"]
    measured = [event for event in events if isinstance(event, Measured)]
    assert [event.metrics["external_share"] for event in measured] == [0, 0.5, 0, 0.5, 0]
