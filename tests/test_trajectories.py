"""The trajectory table: what is read, and one line for everything that is not one."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapjax import trajectories
from gapjax.errors import UserError


def table(n=5, **columns):
    epochs = np.arange(n) * 0.5
    base = {
        "epoch": epochs,
        "solver_uncertainty": 2 * np.exp(-epochs),
        "verifier_uncertainty": np.exp(-epochs),
    }
    return pd.DataFrame({**base, **columns})


@pytest.mark.fast
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_written_tables_are_read_back(tmp_path, suffix):
    frame = table(task="add", seed=3, training_loss=[np.nan, 1, 2, 3, 4])
    path = tmp_path / f"trajectory{suffix}"
    trajectories.write(frame, path)
    (curve,) = trajectories.read(path)
    assert curve.labels == {"task": "add", "seed": "3"}
    np.testing.assert_array_equal(curve.epochs, frame["epoch"])
    np.testing.assert_allclose(curve.gap, np.exp(-curve.epochs))
    assert list(tmp_path.iterdir()) == [path]


def test_each_combination_of_labels_is_a_curve():
    frame = pd.concat(
        [table(task="a", seed=1), table(6, task="a", seed=2), table(task="b", seed=1)]
    )
    curves = trajectories.read(frame)
    assert [curve.name for curve in curves] == ["a 1", "a 2", "b 1"]
    assert [len(curve.epochs) for curve in curves] == [5, 6, 5]
    assert trajectories.read(curves.to_frame())[1].labels == {"task": "a", "seed": "2"}


def test_rows_of_different_curves_may_be_interleaved():
    frame = pd.concat([table(task="a"), table(task="b")]).sort_values("epoch", kind="stable")
    assert [len(curve.epochs) for curve in trajectories.read(frame)] == [5, 5]


def test_text_that_looks_like_a_number_is_a_label_where_types_are_known(tmp_path):
    frame = pd.concat([table(run="001"), table(run="002")])
    assert [curve.name for curve in trajectories.read(frame)] == ["001", "002"]
    trajectories.write(frame, tmp_path / "t.parquet")
    assert len(trajectories.read(tmp_path / "t.parquet")) == 2


def test_columns_can_be_chosen():
    frame = table(per_token=np.linspace(1, 0.5, 5), width=7, seed=1).rename(
        columns={"verifier_uncertainty": "judge"}
    )
    (curve,) = trajectories.read(
        frame, solver_column="per_token", verifier_column="judge", group_by=["width"]
    )
    assert curve.labels == {"width": "7"}
    assert curve.solver[0] == 1


def test_files_with_the_same_labels_are_told_apart(tmp_path):
    for name in ("a.csv", "b.csv"):
        trajectories.write(table(), tmp_path / name)
    first, second = trajectories.read([tmp_path / "a.csv", tmp_path / "b.csv"])
    assert first.labels["file"].endswith("a.csv")
    assert second.labels["file"].endswith("b.csv")
    with pytest.raises(UserError, match="given twice"):
        trajectories.read([tmp_path / "a.csv", tmp_path / "a.csv"])


def test_until_is_what_was_known_then():
    (curve,) = trajectories.read(table())
    np.testing.assert_array_equal(curve.until(1.0).epochs, [0, 0.5, 1.0])


def bad(column, row, value):
    frame = table().astype(object)
    frame.loc[row, column] = value
    return frame


@pytest.mark.fast
@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (table(0), "has no rows"),
        (table().drop(columns="epoch"), "no column 'epoch'"),
        (table(3), "3 checkpoints, 4 are needed"),
        (bad("solver_uncertainty", 2, np.nan), "row 2, column solver_uncertainty: the value is"),
        (bad("verifier_uncertainty", 1, np.inf), "row 1, column verifier_uncertainty: 'inf'"),
        (bad("epoch", 3, "three"), "row 3, column epoch: 'three' is not a finite number"),
        (bad("epoch", 3, 1.0), "row 3, column epoch: epoch 1 appears twice"),
        (bad("epoch", 3, 0.2), "row 3, column epoch: epoch 0.2 comes after epoch 1"),
        (bad("epoch", 0, -1), "is negative"),
        (bad("solver_uncertainty", 4, -0.5), "row 4, column solver_uncertainty: -0.5 is negative"),
        (bad("solver_uncertainty", 4, 1e300), "wrong unit"),
        (table(solver_uncertainty=0.0), "zero throughout"),
        (table(solver_uncertainty=True), "true/false"),
        (table(time=list("abcde")), "told apart by time"),
    ],
)
def test_bad_frames(frame, expected):
    with pytest.raises(UserError) as caught:
        trajectories.read(frame)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


HEADER = "epoch,solver_uncertainty,verifier_uncertainty\n"
ROWS = "0,3,2\n1,2,1.5\n2,1.5,1.2\n3,1.2,1\n"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("t.csv", b"", "is empty"),
        ("t.csv", b"\n\n", "has no header"),
        ("t.csv", HEADER.encode(), "has no rows"),
        ("t.csv", bytes(range(256)) * 4, "is not UTF-8 text"),
        ("t.csv", (HEADER + ROWS + "4,1\n").encode(), "row 6: has 2 cells where the header has 3"),
        ("t.csv", (HEADER + ROWS + "4,1,1,1\n").encode(), "row 6: has 4 cells"),
        ("t.csv", (HEADER + ROWS + "4,,1\n").encode(), "row 6, column solver_uncertainty"),
        ("t.csv", (HEADER + ROWS + '4,"1,1\n').encode(), "not a CSV table"),
        ("t.csv", (b"epoch,epoch\n1,2\n"), "more than once"),
        ("t.jsonl", b"{}\n{", "row 2: not JSON"),
        ("t.jsonl", b"[1]\n", "row 1: is not a JSON object"),
        ("t.jsonl", b'{"epoch": [1]}\n', "row 1, column epoch: is not a single value"),
        ("t.parquet", b"PAR1 but not really", "is not a Parquet table"),
        ("t.txt", b"hello", "unknown kind of table"),
    ],
)
def test_bad_files(tmp_path, name, content, expected):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        trajectories.read(path)
    assert expected in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        trajectories.read(tmp_path / "nothing.csv")
    with pytest.raises(UserError, match="is a folder"):
        trajectories.read(tmp_path)
    with pytest.raises(UserError, match="cannot be written"):
        trajectories.write(table(), tmp_path / "nowhere" / "t.csv")


@pytest.mark.fast
def test_spreadsheet_exports_are_read(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xef\xbb\xbf" + (HEADER + ROWS + "\n\n").replace("\n", "\r\n").encode())
    (curve,) = trajectories.read(path)
    assert len(curve.epochs) == 4


cells = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True).map(str),
    st.integers(-(10**9), 10**9).map(str),
    st.text(max_size=5),
    st.sampled_from(
        ["", "nan", "1e400", "0x10", "1_0", "١", "-0", "TRUE", " 1 ", '"', "a,b", "\x00"]
    ),
)


@pytest.mark.fast
@given(
    header=st.permutations([*HEADER.strip().split(","), "note"]),
    rows=st.lists(st.lists(cells, min_size=3, max_size=5), max_size=8),
)
@settings(deadline=None, max_examples=200)
def test_any_table_is_read_or_refused_in_one_line(header, rows):
    text = "\n".join([",".join(header), *(",".join(row) for row in rows)])
    read_or_refuse(text.encode("utf-8", "surrogatepass"), ".csv")


@given(st.binary(max_size=300), st.sampled_from([".csv", ".jsonl", ".parquet"]))
@settings(deadline=None, max_examples=200)
def test_any_bytes_are_refused_in_one_line(content, suffix):
    read_or_refuse(content, suffix)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(
                ["epoch", "solver_uncertainty", "verifier_uncertainty", "seed", "task"]
            ),
            st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=3)),
        ),
        max_size=6,
    )
)
@settings(deadline=None, max_examples=200)
def test_any_json_lines_are_read_or_refused_in_one_line(records):
    read_or_refuse("\n".join(json.dumps(r) for r in records).encode(), ".jsonl")


@pytest.mark.fast
@given(
    values=st.lists(
        st.tuples(st.floats(0, 100), st.floats(1e-3, 1e5), st.floats(0, 1e5)),
        min_size=4,
        max_size=12,
        unique_by=lambda row: round(row[0], 3),
    )
)
@settings(deadline=None, max_examples=50)
def test_good_tables_are_read_exactly(values):
    frame = pd.DataFrame(sorted(values), columns=HEADER.strip().split(","))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        trajectories.write(frame, path)
        (curve,) = trajectories.read(path)
    np.testing.assert_array_equal(curve.solver, frame["solver_uncertainty"])
    np.testing.assert_array_equal(curve.epochs, frame["epoch"])


def read_or_refuse(content, suffix):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"t{suffix}"
        path.write_bytes(content)
        message, curves = None, ()
        try:
            curves = trajectories.read(path)
        except UserError as error:
            message = str(error)
    assert message is None or ("\n" not in message and path.name in message)
    for curve in curves:
        assert np.all(np.diff(curve.epochs) > 0)
        assert np.isfinite([curve.solver, curve.verifier]).all()
