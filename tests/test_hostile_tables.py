"""Tables that somebody else wrote: one line, or read and shown without harm."""

from __future__ import annotations

import io
import json
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gapjax import posterior, trajectories
from gapjax.cli.main import main
from gapjax.errors import UserError
from gapjax.foreign import in_picture
from tests.posterior.conftest import simulate


def rows(**changes):
    return [
        {"recipe": "a", "epoch": i, "solver_uncertainty": 2.5 - i / 4, "verifier_uncertainty": 1.0}
        | (changes if i == 2 else {})
        for i in range(5)
    ]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"epoch": 10**400}, "row 3, column epoch: '1000"),
        ({"epoch": 10**40}, "row 3, column epoch"),
        ({"solver_uncertainty": -(10**400)}, "row 3, column solver_uncertainty"),
        ({"verifier_uncertainty": float("inf")}, "is not a finite number"),
        ({"verifier_uncertainty": float("nan")}, "the value is missing"),
        ({"verifier_uncertainty": True}, "row 3, column verifier_uncertainty"),
        ({"recipe": "a\0b"}, "row 3, column recipe: a NUL in a label"),
        ({"recipe": "\ud800"}, "row 3, column recipe: holds half a character"),
        ({"\udfff": 1}, "holds half a character"),
        ({"note\0": "a"}, "a NUL in a label"),
        ({"recipe": ["a"]}, "row 3, column recipe: is not a single value"),
        ({"recipe": {"a": {"b": 1}}}, "is not a single value"),
    ],
)
def test_lines_of_json(changes, error, tmp_path) -> None:
    path = tmp_path / "table.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(**changes)))
    with pytest.raises(UserError) as caught:
        trajectories.read(path)
    assert error in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ('{"epoch": 0, "epoch": 1}', "field 'epoch' occurs twice"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' * 300 + "1" + "}" * 300, "nested too deeply"),
        ("{", "not JSON"),
        ("[1]", "is not a JSON object"),
        ("9" * 5000, "not JSON"),
    ],
)
def test_a_line_that_is_no_row(line, error, tmp_path) -> None:
    path = tmp_path / "table.jsonl"
    path.write_text(json.dumps(rows()[0]) + "\n" + line + "\n")
    with pytest.raises(UserError, match=error) as caught:
        trajectories.read(path)
    assert "row 2" in str(caught.value)


@pytest.mark.parametrize("value", ["9" * 400, "1e400", "--1", "\x1b[31m", "0x10", "1_0", "nan"])
def test_a_cell_that_is_no_number(value, tmp_path) -> None:
    path = tmp_path / "table.csv"
    pd.DataFrame(rows(epoch=value)).to_csv(path, index=False)
    with pytest.raises(UserError, match="row 4, column epoch: ") as caught:
        trajectories.read(path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[1.0], [2.0], [3.0], [4.0], [5.0]]),
        pa.array([{"a": 1}] * 5),
        pa.array([b"x"] * 5),
        pa.array(["x"] * 5),
    ],
)
def test_parquet_of_other_types(column, tmp_path) -> None:
    path = tmp_path / "table.parquet"
    table = pa.Table.from_pandas(pd.DataFrame(rows()).drop(columns="epoch"))
    pq.write_table(table.append_column("epoch", column), path)
    with pytest.raises(UserError, match="column epoch"):
        trajectories.read(path)


def test_parquet_that_repeats_one_value_without_end(tmp_path) -> None:
    """Two hundred million zeros in a few kilobytes."""
    schema = pa.schema([("epoch", pa.float64())])
    zeros = pa.table({"epoch": pa.array(np.zeros(2**20))}, schema)
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for _ in range(100):
            writer.write_table(zeros)
    (tmp_path / "table.parquet").write_bytes(sink.getvalue())
    with pytest.raises(UserError, match="104857600 rows of 1 are too many"):
        trajectories.read(tmp_path / "table.parquet")


NAMES = {
    "\x1b]0;OWNED\x07\x1b[31mred": "␛]0;OWNED␇␛[31mred",
    "\u202ecod.exe": "⟨U+202E⟩cod.exe",
    "a\nb": "a␊b",
    r"$\frac$": r"$\frac$",
    "$x$ and $": "$x$ and $",
    "_hidden": "_hidden",
    "x" * 5000: "x" * 100 + " … [4900 more characters]",
}


@pytest.fixture(scope="module")
def hostile_fit():
    (one,) = trajectories.read(simulate())
    curves = [
        trajectories.Curve({"recipe": name}, one.epochs, one.solver, one.verifier) for name in NAMES
    ]
    return posterior.fit(trajectories.Trajectories(tuple(curves)), method="map")


def test_labels_are_shown_and_not_obeyed(hostile_fit, tmp_path) -> None:
    assert [fit.curve.name for fit in hostile_fit] == list(NAMES.values())
    assert "\x1b" not in str(hostile_fit)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # of characters that no font has
        hostile_fit.save(tmp_path)
    assert json.loads((tmp_path / "summary.json").read_text())["curves"][0]["labels"] == {
        "recipe": next(iter(NAMES))
    }
    # A picture as large as that of a short name.
    sizes = {path.stat().st_size // 2**20 for path in (tmp_path / "plots").iterdir()}
    assert sizes == {0}


def test_names_in_pictures() -> None:
    assert in_picture("$a$") == r"\$a\$"
    assert in_picture("_a") == "“_a”"
    assert in_picture("\x07b" + "c" * 100) == "\ufffdb" + "c" * 58 + " … [42 more characters]"


def test_every_hostile_table_of_the_cases(cases, tmp_path, capsys) -> None:
    files = sorted((cases / "hostile" / "tables").iterdir())
    assert len(files) >= 7
    refused = {"hugeint.jsonl", "nul.jsonl", "surrogate.jsonl"}
    for path in files:
        command = ["fit", str(path), "--method", "map", "--out", str(tmp_path / path.name)]
        assert main([*command, "--quiet"]) == (2 if path.name in refused else 0), path.name
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == (path.name in refused)
