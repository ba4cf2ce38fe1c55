from __future__ import annotations

import dataclasses

import pytest

from gapjax.errors import UserError
from gapjax.selfimprove.recipe import (
    Recipe,
    parse_recipe,
    read_recipe,
    recipe_differences,
    recipe_to_yaml,
)


def count_fields(table) -> int:
    values = [getattr(table, field.name) for field in dataclasses.fields(table)]
    return sum(count_fields(v) if dataclasses.is_dataclass(v) else 1 for v in values)


@pytest.mark.fast
def test_yaml_round_trip_and_overrides(tmp_path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text('model: adder\nsampling: {n: 4, stop: ["\\n"]}\n')
    recipe = read_recipe(path, {"train.learning_rate": "1e-5", "task.template": "{a}+{b}="})
    assert recipe.sampling.n == 4
    assert recipe.sampling.stop == ("\n",)
    assert recipe.train.learning_rate == 1e-5
    again = tmp_path / "again.yaml"
    again.write_text(recipe_to_yaml(recipe))
    assert read_recipe(again) == recipe
    assert count_fields(Recipe()) < 70


@pytest.mark.parametrize(
    ("raw", "parts"),
    [
        ({"sampling": {"n": 0}}, ("sampling.n", "greater than or equal to 2", "0")),
        ({"sampling": {"m": 3}}, ("sampling.m", "max_new_tokens")),
        ({"verifier": {"method": "oracle"}}, ("verifier.method", "likelihood", "true_false")),
        ({"train": {"learning_rate": "fast"}}, ("train.learning_rate", "fast")),
        ({"train": 3}, ("train", "3")),
        ({"modle": "adder"}, ("modle", "model")),
    ],
)
def test_mistakes_name_the_field_and_what_is_allowed(raw, parts) -> None:
    with pytest.raises(UserError) as caught:
        parse_recipe(raw, where="recipe.yaml")
    message = str(caught.value)
    assert "\n" not in message
    for part in ("recipe.yaml", *parts):
        assert part in message


@pytest.mark.fast
def test_fields_of_a_request_are_the_servers_own(tmp_path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("external: {options: {temperature: null, reasoning: {effort: low}}}\n")
    recipe = read_recipe(path, {"external.options.seed": "3"})
    assert recipe.external.options == {
        "temperature": None,
        "reasoning": {"effort": "low"},
        "seed": 3,
    }
    path.write_text(recipe_to_yaml(recipe))
    assert read_recipe(path) == recipe
    (difference,) = recipe_differences(Recipe(), recipe)
    assert difference.startswith("external.options: {} -> {'temperature': None, ")
    assert recipe_differences(recipe, recipe) == []
    for bad, error in (
        ("{a: !!timestamp 2024-05-01}", "timestamp is not read"),
        ("&a {b: *a}", "holds itself"),
        ("[1]", r"external\.options"),
    ):
        path.write_text(f"external: {{options: {bad}}}\n")
        with pytest.raises(UserError, match=error):
            read_recipe(path)


@pytest.mark.parametrize("text", ["", "3", "a: [", "- model", "\x00"])
def test_files_that_are_not_recipes(text, tmp_path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"recipe\.yaml"):
        read_recipe(path)


def test_files_that_cannot_be_read(tmp_path) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_recipe(tmp_path / "none.yaml")
    with pytest.raises(UserError):
        read_recipe(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError):
        read_recipe(tmp_path / "binary.yaml")
