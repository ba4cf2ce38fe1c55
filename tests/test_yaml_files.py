"""YAML as it is read: bounded, strict, and each word as it looks."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gapjax import yaml_files
from gapjax.cli.main import main
from gapjax.yaml_files import BadYAML, dump, parse

pytestmark = pytest.mark.fast

LAUGHS = "".join(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(9))
MERGES = "".join(f"a{i + 1}: &a{i + 1}\n  <<: [*a{i}, *a{i}]\n  x{i + 1}: 1\n" for i in range(40))
WRONG = {
    "a0: &a0 [x, x, x]\n" + LAUGHS: "more than 20000 values, as aliases repeat them",
    "a0: &a0 {x0: 1}\n" + MERGES: "as aliases repeat them",
    "seed: &a [*a]": "a value holds itself, line 1",
    "a: &a {b: *a}": "a value holds itself, line 1",
    "task: " + "[" * 2000: "nested too deeply",
    "task: " + "[" * 2000 + "]" * 2000: "nested too deeply",
    "".join(f"{' ' * i}a:\n" for i in range(200)): "nested too deeply",
    "train: {rounds: 1}\ntrain: {rounds: 2}": "field 'train' occurs twice, line 2",
    "train: {rounds: 1, rounds: 2}": "field 'rounds' occurs twice",
    "seed: " + "9" * 5000: "a number of 5000 digits, line 1",
    "model: !!timestamp x": "the tag tag:yaml.org,2002:timestamp is not read, line 1",
    "model: !!python/object/apply:os.system [ls]": "is not read, line 1",
    "model: !own x": "the tag !own is not read",
    "1: 2": "the field 1 is no text",
    "? [a, b]\n: 1": "is no text",
    "null: 1": "the field None is no text",
    "a: 1\n---\nb: 2": "more than one document",
    "a: *b": "not YAML (",
    "a: [": "not YAML (",
    'a: "\\ud800"': "half a character (a lone surrogate), line 1",
    'a: "\\U00110000"': "not YAML (",
    "a: \x00": "not YAML (",
    "<<: 5": "<< takes tables",
    "# " + "x" * 2**20: "longer than 1 MiB",
}


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_what_is_refused(text) -> None:
    with pytest.raises(BadYAML) as caught:
        parse(text)
    assert WRONG[text] in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1:30", "1:30"),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("1e-5", 1e-5),
        ("-1.5E3", -1500.0),
        ("1_000", "1_000"),
        ("no", "no"),
        ("on", "on"),
        ("True", True),
        ("false", False),
        ("~", None),
        ("", None),
        ("2024-13-45", "2024-13-45"),
        ("2026-11-27", "2026-11-27"),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("'5'", "5"),
        ('"true"', "true"),
        ("|-\n  5", "5"),
        ("! 5", 5),
        ("1.2.3", "1.2.3"),
        ("{a: &x {b: 1}, c: *x}", {"a": {"b": 1}, "c": {"b": 1}}),
        ("{a: &x {b: 1, c: 2}, d: {<<: *x, c: 3}}", {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}}),
        ("{<<: [{a: 1}, {a: 2, b: 3}]}", {"a": 1, "b": 3}),
    ],
)
def test_words_are_what_they_look_like(text, value) -> None:
    assert parse(text) == value
    assert type(parse(text)) is type(value)


def test_not_a_number() -> None:
    assert math.isnan(parse(".nan"))


words = st.sampled_from(
    [
        "no",
        "1:30",
        "010",
        "1e5",
        "0o7",
        ".5",
        "5.",
        "2026-11-27",
        "null",
        "~",
        "<<",
        "=",
        "",
        "é",
        "'",
    ]
)
scalars = st.one_of(
    words,
    st.text(st.characters(codec="utf-8"), max_size=20),
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=False),
    st.booleans(),
    st.none(),
)
tables = st.dictionaries(
    words | st.text(st.characters(codec="utf-8"), max_size=8),
    st.recursive(scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=8),
    max_size=6,
)


@given(tables)
def test_what_is_written_is_read_back(table) -> None:
    assert parse(dump(table)) == table
    assert yaml.safe_load(dump(table)) == table  # by others too


def test_every_hostile_recipe_is_a_line_or_a_recipe(cases, capsys) -> None:
    files = sorted((cases / "hostile" / "recipes").glob("*.yaml"))
    assert len(files) >= 16
    # A text that looks like a day; expressions, until they meet a model.
    harmless = {"date.yaml", "redos.yaml", "template-re.yaml"}
    for path in files:
        status = main(["train", str(path), "--print-recipe"])
        printed = capsys.readouterr()
        assert status == (0 if path.name in harmless else 2), path.name
        if status:
            assert printed.err.count("\n") == 1
            assert printed.err[:-1].isprintable()
            assert len(printed.err) < 700


def test_an_expression_that_takes_for_ever(tmp_path, capsys) -> None:
    recipe = tmp_path / "recipe.yaml"
    slow = r"^(?:(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*))\1\2\3\4!?$(?<=A)"
    for targets, error in (
        (slow, "takes for ever to match the name of a layer"),
        ("(([a-z.0-9])+)+$!", "no linear layer matches"),
        ("(a+)+$[", "is not a regular expression"),
    ):
        recipe.write_text(f"model: adder\nadapter:\n  targets: '{targets}'\n")
        assert main(["train", str(recipe), "--out", str(tmp_path / "out"), "--quiet"]) == 2
        said = capsys.readouterr().err
        assert error in said
        assert said.count("\n") == 1
        assert not (tmp_path / "out").exists()


def test_files(tmp_path) -> None:
    path = tmp_path / "recipe.yaml"
    for content in (
        b"\xff\xfe\x00",
        random.Random(0).randbytes(5000),
        b"[1]",
        b"",
        b"\xef\xbb\xbf5",
    ):
        path.write_bytes(content)
        with pytest.raises(Exception, match=r"recipe\.yaml: ") as caught:
            yaml_files.read_table(path)
        assert type(caught.value).__name__ == "UserError"
    path.write_bytes(b"\xef\xbb\xbfseed: 5\r\n")
    assert yaml_files.read_table(path) == {"seed": 5}
    with pytest.raises(Exception, match="cannot be read"):
        yaml_files.read_table(Path(tmp_path))


@pytest.mark.parametrize(
    "text", ["\u202eabc", "\x85", "a\U000e0041", "\u200bé", "漢字", "\x1b[31m"]
)
def test_what_is_written_can_be_looked_at(text) -> None:
    written = dump({text: text, "é": [text]})
    assert parse(written) == {text: text, "é": [text]}
    assert written.replace("\n", "").isprintable()
