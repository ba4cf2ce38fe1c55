"""`gapjax fit` as people run it."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from gapjax.cli.main import main

pytestmark = pytest.mark.fast


@pytest.fixture
def curve_file(tmp_path):
    epoch = np.linspace(0, 10, 21)
    rng = np.random.default_rng(0)
    path = tmp_path / "curve.csv"
    pd.DataFrame(
        {
            "task": "add",
            "epoch": epoch,
            "solver_uncertainty": 1 + np.exp(-0.5 * epoch) + 0.01 * rng.standard_normal(21),
            "verifier_uncertainty": 0.5 + 0.4 * np.exp(-0.5 * epoch),
        }
    ).to_csv(path, index=False)
    return path


def test_fit_writes_its_results_and_says_so(curve_file, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["fit", str(curve_file), "--method", "map", "--seed", "3", "--out", str(out)]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["seed"] == 3
    assert abs(summary["curves"][0]["limit"]["solver"]["q50"] - 1) < 0.05
    assert sorted(p.name for p in out.iterdir()) == ["plots", "posterior.nc", "summary.json"]
    assert "solver limit" in capsys.readouterr().out


def test_quiet_is_silent(curve_file, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["fit", str(curve_file), "--method", "map", "--quiet", "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--law", "gompertz"],
        ["--solver-column", "nothing"],
        ["--group-by", "nothing"],
        ["--chains", "0"],
        ["--draws", "many"],
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(curve_file, tmp_path, capsys, arguments):
    out = tmp_path / "out"
    assert main(["fit", str(curve_file), "--out", str(out), *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("gapjax: ")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curve.csv"]


def test_results_are_not_overwritten_unasked(curve_file, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").write_text("")
    run = ["fit", str(curve_file), "--method", "map", "--quiet", "--out", str(out)]
    assert main(run) == 2
    assert (out / "precious").exists()
    assert main([*run, "--overwrite"]) == 0
    assert not (out / "precious").exists()
