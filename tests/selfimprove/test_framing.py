"""The frame of a run's prompts: the recipe's, on one day for as long as the run lasts."""

from __future__ import annotations

import dataclasses
import datetime
import json
from types import SimpleNamespace

import pytest

from gapjax import models
from gapjax.cli.main import main
from gapjax.errors import UserError
from gapjax.models import LoadedModel
from gapjax.selfimprove import framing
from gapjax.selfimprove.framing import dated, framed
from gapjax.selfimprove.recipe import parse_recipe, read_recipe, recipe_to_yaml

DATED = (
    "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}"
    "{{ strftime_now('%d') }}+{{ messages[-1].content }}{% if twice %}={% endif %}"
)


@pytest.fixture(scope="module")
def folder(adder, tmp_path_factory):
    """The adder with a template that writes the day of the month."""
    path = tmp_path_factory.mktemp("models") / "dated"
    again = models.load("adder")
    again.tokenizer.chat_template = DATED
    models.save(again.model, again.tokenizer, path)
    return path


def test_what_a_recipe_says_reaches_the_model(folder) -> None:
    raw = {"system": "9", "template_options": {"twice": True}, "date": datetime.date(2026, 2, 3)}
    loaded = framed(models.load(folder), parse_recipe({"task": raw}))
    assert loaded.tokenizer.decode(loaded.prompt("5=")) == "903+5=="


@pytest.mark.parametrize(
    ("task", "error"),
    [
        ({"template_options": {"enable_thinking": False}}, "has no option enable_thinking"),
        ({"template_options": {"strftime_now": "x"}}, "has no option strftime_now"),
    ],
)
def test_what_does_not_is_refused(folder, task, error) -> None:
    with pytest.raises(UserError, match=error):
        framed(models.load(folder), parse_recipe({"task": task}))


def test_a_model_without_a_template_or_a_tokenizer(adder) -> None:
    assert framed(adder, parse_recipe({})).prompt("1+2=") == adder.prompt("1+2=")
    with pytest.raises(UserError, match="no chat template, which takes a system prompt"):
        framed(adder, parse_recipe({"task": {"system": "9"}}))
    with pytest.raises(UserError, match="no tokenizer"):
        framed(LoadedModel(adder.model, None), parse_recipe({}))


@pytest.mark.parametrize("date", [5, "today", "2026-02-30", datetime.datetime(2026, 2, 3, 5)])
def test_no_date(date) -> None:
    with pytest.raises(UserError, match=r"task\.date"):
        parse_recipe({"task": {"date": date}})


def test_the_day_of_a_run(tmp_path, monkeypatch) -> None:
    class Later(datetime.date):
        @classmethod
        def today(cls) -> datetime.date:
            return datetime.date(2031, 12, 24)

    recipe = parse_recipe({})
    (tmp_path / "recipe.yaml").write_text(recipe_to_yaml(dated(recipe)))
    began = read_recipe(tmp_path / "recipe.yaml").task.date
    assert began == datetime.date.today()
    monkeypatch.setattr(framing, "datetime", SimpleNamespace(date=Later))
    assert dated(recipe).task.date == datetime.date(2031, 12, 24)
    assert dated(recipe, tmp_path).task.date == began
    own = dataclasses.replace(recipe, task=dataclasses.replace(recipe.task, date=began))
    assert dated(own) == own
    # Nothing there yet; a run that gapjax 0.1 began.
    assert dated(recipe, tmp_path / "none").task.date == datetime.date(2031, 12, 24)
    (tmp_path / "recipe.yaml").write_text("seed: 0\n")
    assert dated(recipe, tmp_path) == recipe


def test_sample(folder, capsys) -> None:
    command = ["sample", str(folder), "--prompt", "5=", "-n", "1", "--temperature", "0", "--json"]
    printed = []
    for more in (["--date", "2026-02-03"], ["--date", "2026-02-04"], ["--date", "2026-02-03"]):
        assert main([*command, "--max-new-tokens", "4", *more]) == 0
        printed.append(json.loads(capsys.readouterr().out))
    assert printed[0] == printed[2] != printed[1]
    more = ["--max-new-tokens", "4", "--system", "9", "--template-option", "twice=true"]
    assert main([*command, *more]) == 0
    capsys.readouterr()
    for wrong, error in (
        (
            ["--template-option", "thrice=true"],
            "chat template: has no option thrice; there are: tw",
        ),
        (["--template-option", "twice"], "--template-option: 'twice' is not NAME=VALUE"),
        (["--no-chat", "--system", "9"], "--no-chat: takes no chat template"),
    ):
        assert main([*command, *wrong]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"gapjax: {error}")
        assert said.count("\n") == 1
