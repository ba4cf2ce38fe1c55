"""The stochastic dynamics: smooth runs, pushed runs, runs that stand still and jump."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import shared

from benchmarks.curves import exponential_curve, simulated_kinds
from gapjax import posterior
from gapjax.errors import UserError
from gapjax.posterior.forecast import predict


@pytest.fixture(scope="module")
def plateaus():
    """A run that was thrown off its curve for good: the law alone would return to it."""
    frame = exponential_curve(noise=0.003)
    frame.loc[frame["epoch"] > 3, ["solver_uncertainty", "verifier_uncertainty"]] += 0.3
    known = frame[frame["epoch"] <= 6]
    return known, posterior.fit(known, "stochastic")[0]


@pytest.mark.fast
def test_a_pushed_run_goes_on_from_where_it_stands(plateaus):
    known, fit = plateaus
    assert fit.converged, fit.failures
    draws = predict(fit, np.array([6.5]))["solver"]
    truth = exponential_curve(noise=0.0).set_index("epoch").loc[6.5, "solver_uncertainty"] + 0.3
    assert abs(np.median(draws) - truth) < 0.03
    # It was pushed once in seven epochs, so it may be again: the tails know.
    low, high = np.quantile(draws, [0.005, 0.995])
    assert high - low > 0.2
    # Smoothed levels pass through the jump.
    mean = np.median(fit.mean, axis=(0, 1))
    np.testing.assert_allclose(mean[:, 0], known["solver_uncertainty"], atol=0.03)


def test_numbers_are_in_nats_and_in_the_tables(plateaus):
    known, fit = plateaus
    assert set(fit.numbers) >= {"solver_limit", "rate", "rho", "jump_size", "solver_wander"}
    larger = known.assign(
        solver_uncertainty=100 * known["solver_uncertainty"],
        verifier_uncertainty=100 * known["verifier_uncertainty"],
    )
    (scaled,) = posterior.fit(larger, "stochastic")
    for name in ("solver_limit", "jump_size", "solver_noise"):
        ratio = np.median(scaled.numbers[name]) / np.median(fit.numbers[name])
        np.testing.assert_allclose(ratio, 100, rtol=1e-6)
    np.testing.assert_allclose(np.median(scaled.numbers["rate"]), np.median(fit.numbers["rate"]))
    tree = posterior.fit(known, "stochastic", draws=20).to_datatree()
    assert {"jump_rate", "wander_correlation"} <= set(tree["posterior"].data_vars)


def test_a_clean_exponential_is_recovered_and_identified():
    (fit,) = posterior.fit(exponential_curve(seed=3), "stochastic")
    assert fit.converged, fit.failures
    assert fit.identified, fit.reason
    for name, truth in (("solver_limit", 0.8), ("rate", 0.5)):
        low, high = np.quantile(fit.numbers[name], [0.01, 0.99])
        assert low < truth < high


def test_every_kind_of_curve_converges_and_is_covered():
    # One run of each kind, half of it known: 90 % intervals hold most of the rest.
    curves = pd.concat(
        frame[frame["run"] == "0"].assign(kind=kind) for kind, frame in simulated_kinds().items()
    )
    known = curves[curves["epoch"] <= 5]
    inside = []
    for fit in posterior.fit(known, "stochastic"):
        assert fit.converged, fit.failures
        whole = curves[curves["kind"] == fit.curve.labels["kind"]]
        later = whole[whole["epoch"] > 5]
        draws = predict(fit, later["epoch"].to_numpy())["solver"]
        low, high = np.quantile(draws, [0.05, 0.95], axis=0)
        truth = later["solver_uncertainty"].to_numpy()
        inside.append(np.mean((low <= truth) & (truth <= high)))
    assert np.mean(inside) > 0.75, inside


def test_real_runs_with_jumps_converge_and_are_not_identified():
    files = [shared(f"qwen_arithmetic/seed_2026071{i}.csv") for i in (8, 9)]
    for fit in posterior.fit(files, "stochastic"):
        assert fit.converged, fit.failures
        assert not fit.identified


@pytest.mark.parametrize(
    "arguments",
    [
        {"law": "stochastic", "method": "nuts"},
        {"law": "exponential", "method": "smc"},
        {"law": "stochastic", "noise": posterior.Noise()},
    ],
)
def test_what_does_not_go_together_is_refused(arguments):
    with pytest.raises(UserError):
        posterior.fit(exponential_curve(), **arguments)
