"""Scores against their definitions, and laws compared on curves whose law is known."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from benchmarks.curves import exponential_curve
from gapjax import trajectories
from gapjax.cli.main import main
from gapjax.errors import UserError
from gapjax.posterior.compare import cases_of, compare, normal_draws, verdict
from gapjax.posterior.scores import covered, crps, log_score


@pytest.mark.fast
def test_scores_of_a_gaussian_are_the_closed_forms():
    truth = np.array([-1.0, 0.3, 2.0])
    draws = normal_draws(np.zeros(3), np.ones(3), draws=20_000)
    # Gneiting & Raftery 2007, equation 21.
    expected = truth * (2 * norm.cdf(truth) - 1) + 2 * norm.pdf(truth) - np.pi**-0.5
    np.testing.assert_allclose(crps(draws, truth), expected, atol=1e-3)
    np.testing.assert_allclose(log_score(draws, truth), -norm.logpdf(truth), atol=0.05)
    np.testing.assert_array_equal(covered(draws, truth, 80), np.abs(truth) < norm.ppf(0.9))


def test_cases_hold_out_what_lies_beyond_the_origin():
    curves = list(trajectories.read(exponential_curve(n=10)))
    cases = cases_of(curves, (0.1, 0.5, 0.8))
    assert [len(c.known.epochs) for c in cases] == [5, 8]  # one checkpoint is too few
    np.testing.assert_array_equal(cases[0].later, curves[0].epochs[5:])
    for origins in [(0.1,), (1.0,), (0.0,)]:
        with pytest.raises(UserError):
            cases_of(curves, origins)


def test_the_law_of_the_curves_wins(tmp_path, capsys):
    frame = pd.concat(
        exponential_curve(rate=rate, seed=i).assign(run=f"rate {rate}")
        for i, rate in enumerate([0.2, 0.3])
    )
    trajectories.write(frame, tmp_path / "t.csv")
    out = tmp_path / "out"
    command = ["compare", str(tmp_path / "t.csv"), "--laws", "exponential,persistence"]
    assert main([*command, "--out", str(out)]) == 0
    scores = pd.read_csv(out / "scores.csv")
    columns = "run law origin_fraction series n_test crps log_score rmse"
    assert list(scores)[:8] == columns.split()
    assert set(scores["law"]) == {"exponential", "persistence", "mixture"}
    summary = json.loads((out / "summary.json").read_text())
    assert summary["best"] == summary["ranking"][0] == "exponential"
    assert "best: exponential" in capsys.readouterr().out


@pytest.mark.fast
def test_equal_laws_are_undecided_and_unknown_ones_refused():
    same = pd.DataFrame({"law": ["a", "b"], "crps": 1.0, "log_score": 0.0, "rmse": 1.0})
    same = same.assign(coverage_50=0.5, coverage_80=0.8, coverage_90=0.9)
    assert verdict(same)["best"] == "undecided"
    with pytest.raises(UserError):
        compare(exponential_curve(), laws=["linear"])
