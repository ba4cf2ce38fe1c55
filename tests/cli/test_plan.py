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


@pytest.mark.parametrize(
    "arguments", [["--rounds", "0"], ["--beta", "2"], ["--gamma-x", "nan"], ["--objective", "best"]]
)
def test_impossible_plans_are_one_line(tmp_path, capsys, arguments):
    assert main([*COMMAND, *arguments, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fast
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--price", "1e9"], "price is 1e+09, not from 0 to 1e+06"),
        (["--decay", "inf"], "decay is inf, not from 0 to 1e+06"),
        (["--rounds", "1" + 30 * "0"], "rounds is 1e+30, not between 1 and 200"),
        (["--potential", "power", "--exponent", "2000"], "leave the finite numbers"),
    ],
)
def test_the_complaint_is_the_right_one(tmp_path, capsys, arguments, said):
    assert main([*COMMAND, *arguments, "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err


def test_hardware_is_planned_in_the_same_command(tmp_path, capsys):
    out = tmp_path / "out"
    command = ["plan", "--hardware", "v5e-64", "--model", "8b", "--mesh", "fsdp=16,tensor=4"]
    assert main([*command, "--new-tokens", "256", "--out", str(out)]) == 0
    assert (out / "plots/plan.png").read_bytes().startswith(b"\x89PNG")
    plan = json.loads((out / "plan.json").read_text())
    assert plan["mesh"] == {"data": 1, "fsdp": 16, "tensor": 4}
    assert plan["load"]["new_tokens"] == 256
    assert set(plan["phases"]) == {"prefill", "decode", "verify", "train"}
    # At least 2 operations for each of 7.5e9 parameters and 1024 answers, on 64 chips.
    assert plan["phases"]["decode"]["flops"] > 2 * 7.5e9 * 1024 / 64
    printed = capsys.readouterr().out
    assert "not measured on TPUs" in printed
    assert "decode" in printed


@pytest.mark.parametrize(
    "arguments",
    [
        ["--hardware", "v9-1"],
        ["--hardware", "v5e-16", "--model", "nonsense"],
        ["--hardware", "v5e-16", "--mesh", "fsdp"],
        ["--hardware", "v5e-16", "--mesh", "fsdp=3"],
        ["--hardware", "v5e-16", "--batch", "0"],
        ["--hardware", "v5e-16", "--remat", "some"],
        ["--model", "8b"],
        ["--compile"],
    ],
)
def test_impossible_hardware_is_one_line(tmp_path, capsys, arguments):
    assert main(["plan", *arguments, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
