"""From a recipe to problems, grading and verifier."""

from __future__ import annotations

import json

import pytest

from gapjax.errors import UserError
from gapjax.selfimprove.problems import grading_of, make_external, make_splits, make_verifier
from gapjax.selfimprove.recipe import parse_recipe


def test_a_file_of_ones_own(tmp_path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(json.dumps({"q": f"{n}?", "prompt": n}) for n in range(9)))
    task = {"name": "jsonl", "file": str(path), "prompt_field": "q", "train": 5, "probe": 3}
    splits = make_splits(parse_recipe({"task": task}))
    assert (len(splits.train), len(splits.probe), len(splits.rest)) == (5, 3, 1)
    held_out = tmp_path / "held-out.jsonl"
    held_out.write_text("\n".join(json.dumps({"q": f"{n}?"}) for n in range(6, 12)))
    both = parse_recipe({"task": task | {"held_out_file": str(held_out)}})
    assert {int(p.prompt[:-1]) for p in make_splits(both).probe} <= set(range(6, 12))
    assert {int(p.prompt[:-1]) for p in make_splits(both).train} <= set(range(6))


def test_grading_follows_the_format_and_code_is_not_run_unasked() -> None:
    def grading(**task):
        return grading_of(parse_recipe({"task": task}))

    assert grading() == grading(name="gsm8k") == "numeric"
    assert grading(name="math") == "math"
    assert grading(name="gsm8k", grading="exact") == "exact"
    assert grading(grading="none") is None
    assert grading(name="mbpp") is None
    assert grading(name="mbpp", run_code=True) == "python"


def test_the_verifier_gets_what_the_recipe_says() -> None:
    question = "{prompt}? {answer}!"
    recipe = parse_recipe(
        {"verifier": {"method": "quality", "question": question, "temperature": 2}}
    )
    verifier = make_verifier(recipe)
    assert (verifier.question, verifier.temperature) == (question, 2)


@pytest.mark.parametrize(
    ("make", "raw", "complaint"),
    [
        (make_splits, {"task": {"name": "gsm8k"}}, r"task\.file"),
        (make_splits, {"task": {"name": "gsm8k", "file": "none.jsonl"}}, "No such file"),
        (make_external, {"verifier": {"method": "external"}}, "a stronger model is needed"),
        (make_external, {"external": {"examples": 3}}, "a stronger model is needed"),
        (make_external, {"external": {"file": "none.jsonl"}}, "No such file"),
        (make_external, {"external": {"endpoint": "http://localhost:1/v1"}}, "name of its model"),
        (make_external, {"external": {"file": "a", "endpoint": "b"}}, "both"),
        (make_verifier, {"verifier": {"question": "{prompt} {answer}"}}, "asks no question"),
    ],
)
def test_what_does_not_fit_together(make, raw, complaint) -> None:
    with pytest.raises(UserError, match=complaint):
        make(parse_recipe(raw))
