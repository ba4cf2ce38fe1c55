"""`gapjax plan` as people run it."""

from __future__ import annotations

import json

import pytest

from gapjax.cli.main import main

COMMAND = ["plan", "--k", "0.7", "--b", "0.42", "--gamma-x", "0.5", "--rounds", "6"]


def test_plan_writes_its_files_and_says_so(tmp_path, capsys):
    out = tmp_path / "out"
    assert main([*COMMAND, "--price", "0.2", "--out", str(out)]) == 0
    plan = json.loads((out / "plan.json").read_text())
    assert abs(sum(plan["shares"].values()) - 1) < 0.01
    assert set(plan["gain_over"]) == {"none", "early", "uniform", "late"}
    assert min(plan["gain_over"].values()) >= 0
    assert len(plan["solver_by_rounds"]) == 7
    assert (out / "plots/plan.png").read_bytes().startswith(b"\x89PNG")
    assert "in round 1" in capsys.readouterr().out


@pytest.mark.fast
@pytest.mark.parametrize(
    "arguments", [["--rounds", "0"], ["--beta", "2"], ["--gamma-x", "nan"], ["--objective", "best"]]
)
def test_impossible_plans_are_one_line(tmp_path, capsys, arguments):
    assert main([*COMMAND, *arguments, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
