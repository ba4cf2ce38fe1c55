"""`fit` against known truths, published figures and other people's integrals."""

from __future__ import annotations

import jax
import numpy as np
import pandas as pd
import pytest
from conftest import shared, simulate

from gapjax import posterior, trajectories
from gapjax.errors import UserError


@pytest.mark.fast
def test_a_clean_curve_is_recovered_and_identified(simulated_fit):
    (curve,) = simulated_fit
    assert curve.converged, curve.failures
    assert curve.identified, curve.reason
    for series, truth in (("solver", 0.8), ("verifier", 1 - 0.4 * 1.2), ("gap", 0.28)):
        q = curve.limit[series]
        assert q["q05"] < truth < q["q95"]
        assert q["sd"] < 0.03
    assert curve.rate["q05"] < 0.5 < curve.rate["q95"]
    assert curve.rho["q05"] < 0.4 < curve.rho["q95"]
    assert min(curve.r_squared.values()) > 0.95


def test_published_fit_quality_is_reproduced(phi4_fit):
    # The R² table of arXiv:2507.00075 for these two panels (see the data's README).
    paper = {"MATH": (0.998, 0.981, 0.981), "GSM8K": (0.996, 0.966, 0.948)}
    for curve in phi4_fit:
        expected = paper[curve.curve.labels["dataset"]]
        np.testing.assert_allclose(list(curve.r_squared.values()), expected, atol=1e-3)
        assert curve.converged, curve.failures
        # The law is close but not right (the panels' own phase planes bend): say so.
        assert not curve.identified
        assert "does not describe" in curve.reason


def test_map_is_the_least_squares_fit():
    path = shared("phi4_curves/phi4_mini_qe.csv")
    from scipy.optimize import minimize_scalar

    for curve in posterior.fit(path, method="map"):
        t = curve.curve.epochs - curve.curve.epochs[0]
        y = np.stack([curve.curve.solver, curve.curve.verifier], axis=-1)

        def loss(rate, t=t, y=y):
            basis = np.stack([np.ones_like(t), np.exp(-rate * t)], axis=-1)
            return np.linalg.lstsq(basis, y)[1].sum()

        best = minimize_scalar(loss, bounds=(0.01, 2), method="bounded").x
        assert abs(curve.rate["q50"] - best) < 0.2 * curve.rate["sd"]


@pytest.mark.parametrize(
    ("rate", "identified"), [(0.03, False), (0.05, False), (0.08, False), (0.4, True), (0.7, True)]
)
def test_verdict_follows_the_time_constants_covered(rate, identified):
    (curve,) = posterior.fit(simulate(rate=rate, seed=5), seed=2)
    assert curve.converged, curve.failures
    assert curve.identified is identified, curve.reason
    if not identified:
        assert "train at least to epoch" in curve.reason or "no limit is in sight" in curve.reason


@pytest.mark.parametrize("columns", ["total", "per token"])
def test_a_noisy_run_with_jumps_is_not_called_identified(columns):
    files = [shared(f"qwen_arithmetic/seed_2026071{i}.csv") for i in (8, 9)]
    chosen = {
        "total": {},
        "per token": {
            "solver_column": "solver_normalized_uncertainty",
            "verifier_column": "verifier_normalized_uncertainty",
        },
    }[columns]
    for curve in posterior.fit(files, **chosen):
        assert curve.diagnostics.divergences <= 20  # of 4,000
        assert curve.converged, curve.failures
        assert not curve.identified


@pytest.mark.parametrize(
    "frame",
    [
        simulate(noise=0.0),
        simulate(noise=0.05, n=18),
        simulate(rate=3.0, noise=0.01, n=18),
        simulate(solver0=1.0, solver_limit=1.6, verifier0=0.5),  # getting worse
        simulate(solver0=1.0, verifier0=3.0, solver_limit=0.5),  # a negative gap
        simulate(solver0=1.0, solver_limit=1.0, noise=0.02),  # nothing happens
    ],
    ids=["noise-free", "noisy", "fast", "rising", "negative gap", "flat"],
)
def test_odd_curves_converge(frame):
    (curve,) = posterior.fit(frame)
    assert curve.converged, curve.failures
    assert all(np.isfinite(list(q.values())).all() for q in curve.limit.values())


def test_units_do_not_matter():
    frame = simulate()
    larger = frame.assign(
        solver_uncertainty=1e3 * frame["solver_uncertainty"],
        verifier_uncertainty=1e3 * frame["verifier_uncertainty"],
    )
    small, large = (posterior.fit(f, method="map")[0] for f in (frame, larger))
    np.testing.assert_allclose(large.limit["solver"]["q50"], 1e3 * small.limit["solver"]["q50"])
    np.testing.assert_allclose(large.rate["q50"], small.rate["q50"])


def test_correlated_noise_and_outliers_can_be_modelled():
    rng = np.random.default_rng(3)
    frame = simulate(noise=0.0)
    shared_noise = 0.03 * rng.standard_normal(len(frame))
    for column in ("solver_uncertainty", "verifier_uncertainty"):
        frame[column] += shared_noise + 0.003 * rng.standard_normal(len(frame))
    (curve,) = posterior.fit(frame, method="map", noise=posterior.Noise(correlated=True))
    assert curve.converged, curve.failures
    (independent,) = posterior.fit(frame, method="map")
    # A shared disturbance cancels in the gap: knowing it makes the gap's limit far sharper.
    assert curve.limit["gap"]["sd"] < 0.5 * independent.limit["gap"]["sd"]

    frame = simulate(seed=4)
    frame.loc[7, "solver_uncertainty"] += 0.5
    (heavy,) = posterior.fit(frame, method="map", noise=posterior.Noise(degrees_of_freedom=4.0))
    (normal,) = posterior.fit(frame, method="map")
    assert abs(heavy.limit["solver"]["q50"] - 0.8) < 0.02
    assert heavy.limit["solver"]["sd"] < 0.5 * normal.limit["solver"]["sd"]


def test_ragged_curves_are_fitted_together_as_if_alone():
    long, short = simulate(seed=1), simulate(seed=2, n=9)
    both = posterior.fit(pd.concat([long.assign(run="a"), short.assign(run="b")]), check_laws=False)
    alone = posterior.fit(long, check_laws=False)
    assert [len(c.curve.epochs) for c in both] == [21, 9]
    # Same key, same padded length: the neighbour makes no difference beyond rounding.
    np.testing.assert_allclose(
        both[0].limit["solver"]["q50"], alone[0].limit["solver"]["q50"], atol=2e-3
    )


def test_another_curve_and_a_longer_prefix_compile_nothing(simulated_fit):
    compilations = []

    def listen(event: str, seconds: float, **details: object) -> None:
        # Lowering, which a cache of compiled programs on disk does not spare one.
        if event == "/jax/core/compile/jaxpr_to_mlir_module_duration":
            compilations.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    posterior.fit(simulate(seed=8, n=21))  # warms whatever the fixture left cold
    compilations.clear()
    posterior.fit(simulate(seed=9, rate=0.2, n=19), seed=7)
    posterior.fit(simulate(seed=9, rate=0.2, n=27), seed=8)
    assert compilations == []
    jax.jit(lambda x: x + 1)(1.0)  # something new: the listener does hear
    assert compilations


@pytest.mark.fast
def test_the_process_keeps_its_precision(simulated_fit):
    assert jax.numpy.zeros(()).dtype == jax.numpy.float32
    assert simulated_fit[0].x.dtype == np.float64


@pytest.mark.fast
def test_same_seed_same_answer(simulated_fit):
    again = posterior.fit(trajectories.read(simulate()), seed=1)
    np.testing.assert_array_equal(again[0].x, simulated_fit[0].x)


@pytest.mark.parametrize(
    "arguments", [{"law": "linear"}, {"method": "vi"}, {"chains": 1}, {"draws": 0}, {"warmup": 1}]
)
def test_bad_arguments(arguments):
    with pytest.raises(UserError):
        posterior.fit(simulate(), **arguments)
