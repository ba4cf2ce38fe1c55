"""`gapjax fit` as people run it."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from gapjax.cli.main import main


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


@pytest.mark.fast
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


@pytest.mark.fast
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
    run = ["fit", str(curve_file), "--method", "map", "--quiet", "--out", str(out)]
    assert main(run) == 0
    (out / "plots" / "older.png").write_text("")
    assert main(run) == 2
    assert (out / "plots" / "older.png").exists()
    assert main([*run, "--overwrite"]) == 0
    assert not (out / "plots" / "older.png").exists()
    (out / "precious").write_text("")
    assert main([*run, "--overwrite"]) == 2
    assert (out / "precious").exists()


@pytest.mark.fast
def test_simulate_then_fit(tmp_path, capsys):
    command = (
        "simulate --solver0 12 --verifier0 8 --alpha 1 --beta 0.4 --k 0.5 --b 0.3 "
        "--potential power --exponent 0.7 --epochs 10 --every 0.5 --external-shares 2:0.5,5:0.5 "
        "--gamma-x 0.2 --noise 0.01 --seed 0 --out"
    )
    out = tmp_path / "run"
    assert main([*command.split(), str(out)]) == 0
    assert sorted(p.name for p in out.iterdir()) == ["plot.png", "trajectory.csv"]
    frame = pd.read_csv(out / "trajectory.csv")
    assert len(frame) == 21
    assert frame["external_share"].sum() == 1
    assert frame["verifier_uncertainty"].diff().idxmin() in (1, 4)  # the jump at round 2
    fit = ["fit", str(out / "trajectory.csv"), "--method", "map", "--out", str(tmp_path / "fit")]
    assert main(fit) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["--beta", "2"],
        ["--external-shares", "2:0.7,3:0.7"],
        ["--external-shares", "99:0.5"],
        ["--external-shares", "2:0.5,2:0.1"],
        ["--external-shares", "often"],
        ["--epochs", "nan"],
        ["--potential", "cubic"],
    ],
)
def test_impossible_simulations_are_one_line(tmp_path, capsys, arguments):
    assert main(["simulate", "--out", str(tmp_path / "out"), *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
