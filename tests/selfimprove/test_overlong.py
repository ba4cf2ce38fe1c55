"""Problems that do not fit the context: named, left out or shortened before anything is sampled."""

from __future__ import annotations

import itertools
import json

import pytest

from gapjax.errors import UserError
from gapjax.models.prompts import encode_prompt
from gapjax.selfimprove import Overlong, Sampled, Verified, parse_recipe, self_improve
from gapjax.selfimprove.overlong import fit_context
from gapjax.selfimprove.problems import make_splits
from gapjax.selfimprove.resume import _are_of
from gapjax.selfimprove.run_folder import RunFolder
from gapjax.tasks import Problem, Splits
from gapjax.verifiers import Likelihood, TrueFalse
from tests.verifiers.asked import a_model, characters

ROOM = 6
SHORT = tuple(Problem(f"{n}+1=", str(n + 1), f"x.jsonl, line {n + 1}") for n in range(5))
LONG = Problem("1+" * 40 + "1=", "41", "x.jsonl, line 6")
FULL = Problem("1+" * 28 + "1=", "29", "x.jsonl, line 7")  # 58 tokens: exactly as many as fit


def recipe_of(how: str = "refuse", **task):
    task = {"name": "jsonl", "file": "x.jsonl", "overlong": how} | task
    return parse_recipe({"task": task, "sampling": {"n": 2, "max_new_tokens": ROOM}})


def splits_with(where: str, *problems: Problem) -> Splits:
    parts = {"train": SHORT[:2], "probe": SHORT[2:4], "test": SHORT[4:]}
    return Splits(**parts | {where: (*parts[where], *problems)})


def fitted(adder, splits, recipe, verifier=None):
    return fit_context(splits, adder, recipe, verifier or Likelihood())


def test_what_fits_is_left_alone(adder) -> None:
    splits = splits_with("train", FULL)
    for how in ("refuse", "skip", "truncate"):
        assert fitted(adder, splits, recipe_of(how)) == (splits, None)


@pytest.mark.parametrize("where", ["train", "probe", "test"])
def test_each_split_is_looked_at(adder, where) -> None:
    splits = splits_with(where, LONG)
    line = (
        r"x\.jsonl, line 6: the prompt has 82 tokens, which with 6 of an answer exceed .* 64 tokens"
    )
    with pytest.raises(UserError, match=line + "; set task.overlong"):
        fitted(adder, splits, recipe_of())
    kept, event = fitted(adder, splits, recipe_of("skip"))
    assert kept == splits_with(where)
    assert event.problems == [
        {"split": where, "where": LONG.where, "tokens": 82, "limit": 58, "shortened_by": None}
    ]
    assert "x.jsonl, line 6 (82 tokens)" in event.summary


@pytest.mark.parametrize(
    "template", ["{prompt}", "7+{prompt}", "{prompt}2=", "1{prompt}+{prompt}="]
)
def test_the_beginning_of_the_text_is_cut_and_no_more_than_needed(adder, template) -> None:
    text = "".join(f"{n}+" for n in range(10, 60))
    long = Problem(template.replace("{prompt}", text), "1")
    splits = splits_with("probe", long)
    kept, event = fitted(adder, splits, recipe_of("truncate", template=template))
    short = kept.probe[2]
    own = short.text(template)
    assert text.endswith(own)
    assert short.prompt == template.replace("{prompt}", own)
    assert short.shortened_by == len(text) - len(own) == event.problems[0]["shortened_by"]
    assert "1 of 3 probe problems" in event.summary
    longer = long.shortened(short.shortened_by - 1, template)
    lengths = [len(encode_prompt(adder.tokenizer, p.prompt)) for p in (short, longer)]
    assert lengths[0] <= 58 < lengths[1]


@pytest.mark.parametrize("how", ["refuse", "skip", "truncate"])
def test_a_verifiers_question_has_to_fit_with_the_answer(how) -> None:
    loaded = a_model(characters())  # a token a letter and one before the text, in a context of 256
    verifier = TrueFalse(question="{prompt}: {answer}=1")  # 4 tokens more, and 5 of " Fals"
    prompt = Problem("1+" * 122, "1", "x.jsonl, line 7")
    splits = splits_with("train", prompt)
    assert fitted(loaded, splits, recipe_of(how)) == (splits, None)
    if how == "refuse":
        line = "line 7: the verifier's question has 254 tokens, which with 6 of an answer"
        with pytest.raises(UserError, match=line):
            fitted(loaded, splits, recipe_of(how), verifier)
        return
    kept, _ = fitted(loaded, splits, recipe_of(how), verifier)
    assert [p.prompt for p in kept.train[2:]] == ([] if how == "skip" else [prompt.prompt[4:]])


@pytest.mark.parametrize(
    ("recipe", "splits", "complaint"),
    [
        (recipe_of("skip"), Splits(train=(LONG,), probe=SHORT), "only 0 of 1 training problems"),
        (recipe_of("skip"), Splits(train=SHORT[:1], probe=(SHORT[1], LONG)), "only 1 of 2 probe"),
        (
            recipe_of("truncate"),
            splits_with("train", LONG, Problem("2+" + LONG.prompt, "43", "x.jsonl, line 8")),
            "line 8: is the same as x.jsonl, line 6 once they are shortened",
        ),
        (
            recipe_of("truncate", template="1+" * 40 + "{prompt}"),
            splits_with("train", Problem("1+" * 40 + "7=", "1", "x.jsonl, line 9")),
            "line 9: the prompt does not fit however short its text is",
        ),
        (
            parse_recipe({"task": {"overlong": "truncate"}}),
            Splits(train=(LONG,), probe=SHORT),
            "an addition cannot be shortened",
        ),
        (recipe_of("skip"), splits_with("test", Problem("", "1", "y, line 3")), "line 3 has no"),
    ],
)  # fmt: skip
def test_what_cannot_be_mended(adder, recipe, splits, complaint) -> None:
    with pytest.raises(UserError, match=complaint):
        fitted(adder, splits, recipe)


def test_a_run_goes_on_without_the_same_problems(adder, tmp_path) -> None:
    path = tmp_path / "x.jsonl"
    rows = [{"prompt": p.prompt, "answer": p.answer} for p in (*SHORT, LONG, FULL)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = recipe_of("skip", file=str(path), train=3, probe=4, seed=1)
    whole = make_splits(recipe)
    n_skipped = {split: LONG in getattr(whole, split) for split in ("train", "probe")}
    assert any(n_skipped.values())
    n_probe = 4 - n_skipped["probe"]
    folder = RunFolder.create(tmp_path / "run", recipe, name="x")
    overlong, sampled = itertools.islice(self_improve(adder, recipe), 2)
    assert isinstance(overlong, Overlong)
    assert isinstance(sampled, Sampled)
    assert len(sampled.samples.lengths) == n_probe
    folder.write(overlong)
    folder.write(sampled)
    folder._locked.close()
    again = RunFolder.open(tmp_path / "run", recipe, warn=pytest.fail)
    resumed = self_improve(
        adder, recipe, lambda state: again.start(state, warn=pytest.fail), kept=lambda: again
    )
    same, verified = itertools.islice(resumed, 2)
    assert same == overlong
    assert isinstance(verified, Verified)  # what was sampled is not sampled again
    assert len(verified.records) == n_probe
    again.write(same)
    again.write(same)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["overlong"]


def test_resuming_knows_rows_of_problems_that_were_skipped_or_shortened(tmp_path) -> None:
    def rows(*problems: Problem):
        path = tmp_path / "rows.jsonl"
        extra = [{"shortened_by": p.shortened_by} if p.shortened_by else {} for p in problems]
        lines = [
            json.dumps({"prompt": p.prompt, "answer": p.answer} | more)
            for p, more in zip(problems, extra, strict=True)
        ]
        path.write_text("".join(line + "\n" for line in lines))
        return path

    problems = (*SHORT, LONG)
    skipped, shortened = rows(*SHORT), (*SHORT, LONG.shortened(24))
    assert not _are_of(problems, skipped, recipe_of())
    assert _are_of(problems, skipped, recipe_of("skip"))
    assert not _are_of(problems[1:], skipped, recipe_of("skip"))
    assert _are_of(problems, rows(*shortened), recipe_of("truncate"))
    assert not _are_of((*SHORT, FULL), rows(*shortened), recipe_of("truncate"))
