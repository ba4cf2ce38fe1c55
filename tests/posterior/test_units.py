"""What is inferred depends on the measurements alone: not on units, neighbours or names."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from conftest import simulate

from gapjax import posterior, trajectories
from gapjax.cli.main import main
from gapjax.errors import UserError
from gapjax.posterior.phase_plane import phase_plane
from gapjax.posterior.verdict import Diagnostics

EPOCHS = np.arange(0, 10.5, 0.5)


def table(solver, verifier, *, epochs=EPOCHS, time="epoch", **labels):
    columns = {time: epochs, "solver_uncertainty": solver, "verifier_uncertainty": verifier}
    return pd.DataFrame({**columns, **labels})


def falling(start, limit, rate=0.5):
    return limit + (start - limit) * np.exp(-rate * EPOCHS)


def curve_of(frame):
    (curve,) = trajectories.read(frame)
    return curve


def test_neighbours_make_no_difference() -> None:
    curves = [curve_of(simulate(seed=i, n=n)) for i, n in enumerate((21, 21, 9))]
    alone = posterior.fit(trajectories.Trajectories((curves[1],)), method="map")[0]
    for others in ([1, 0], [2, 1, 0]):
        among = trajectories.Trajectories(tuple(curves[i] for i in others))
        fits = posterior.fit(among, method="map")
        assert [fit.curve for fit in fits] == list(among)
        np.testing.assert_array_equal(fits[others.index(1)].x, alone.x)


@pytest.mark.slow  # compiles samplers of its own
def test_neighbours_make_no_difference_to_chains() -> None:
    curves = [curve_of(simulate(seed=i)) for i in range(3)]
    few = {"warmup": 20, "draws": 5, "chains": 2, "check_laws": False}
    alone = posterior.fit(trajectories.Trajectories((curves[2],)), **few)[0]
    among = posterior.fit(trajectories.Trajectories(tuple(curves)), **few)[2]
    np.testing.assert_array_equal(among.x, alone.x)


@pytest.mark.parametrize("time", ["step", "steps", "global_step", "_step", "iteration"])
def test_steps_instead_of_epochs(time) -> None:
    frame = simulate(seed=5)
    steps = frame.rename(columns={"epoch": time}).assign(**{time: 256 * frame["epoch"]})
    one, other = (posterior.fit(each, method="map")[0] for each in (frame, steps))
    np.testing.assert_array_equal(one.x, other.x)
    assert one.limit == other.limit
    np.testing.assert_allclose(one.rate["q50"], 256 * other.rate["q50"])
    assert "rate (1/epoch)" in one.summary()
    assert f"rate (1/{time})" in other.summary()
    later = other.forecast([3000.0])
    assert (later[time] == 3000).all()
    np.testing.assert_allclose(later["q50"], one.forecast([3000 / 256])["q50"])


def test_seconds_and_days() -> None:
    """Rates of the stochastic dynamics, too, and wandering per root of time."""
    frame = simulate(seed=5, n=9)
    slow = frame.assign(epoch=64 * frame["epoch"])
    one, other = (
        posterior.fit(each, "stochastic", chains=2, draws=40)[0] for each in (frame, slow)
    )
    np.testing.assert_allclose(one.limit["solver"]["q50"], other.limit["solver"]["q50"])
    for name, factor in (("rate", 64), ("jump_rate", 64), ("solver_wander", 8), ("jump_size", 1)):
        np.testing.assert_allclose(one.numbers[name], factor * other.numbers[name], rtol=1e-6)


def test_the_advice_is_in_the_unit_of_the_table() -> None:
    steps = table(falling(12, 5, 0.1), falling(8, 4.5, 0.1), epochs=250 * EPOCHS, time="step")
    assert "train at least to step" in posterior.fit(steps, method="map")[0].reason


@pytest.mark.parametrize(
    ("solver", "verifier", "limits"),
    [
        (falling(12, 5), falling(8, 4.5), (5, 4.5)),
        (np.round(falling(12, 5), 6), np.round(falling(8, 4.5), 6), (5, 4.5)),
        (1000 * falling(12, 5), 1000 * falling(8, 4.5), (5000, 4500)),
        (falling(7, 2), falling(7, 2), (2, 2)),  # equal series
    ],
)
def test_without_noise(solver, verifier, limits) -> None:
    (fit,) = posterior.fit(table(solver, verifier))
    assert fit.identified, fit.reason
    for series, limit in zip(("solver", "verifier"), limits, strict=True):
        np.testing.assert_allclose(fit.limit[series]["q50"], limit, rtol=1e-3)


@pytest.mark.parametrize(("solver", "verifier"), [(5.0, 3.0), (5.0, 5.0), (1e-3, 1e-4)])
def test_series_that_do_not_move(solver, verifier, recwarn) -> None:
    (fit,) = posterior.fit(table(np.full(21, solver), np.full(21, verifier)))
    assert fit.converged, fit.failures
    assert not fit.identified
    np.testing.assert_allclose(fit.limit["solver"]["q50"], solver, rtol=1e-2)
    assert not recwarn


def test_from_next_to_nothing() -> None:
    rng = np.random.default_rng(0)
    solver = falling(0.001, 8) + 0.05 * np.abs(rng.standard_normal(21))
    verifier = falling(0.002, 4) + 0.05 * np.abs(rng.standard_normal(21))
    (fit,) = posterior.fit(table(solver, verifier), method="map")
    assert 7.5 < fit.limit["solver"]["q50"] < 8.5
    assert 3.7 < fit.limit["verifier"]["q50"] < 4.3


def test_a_verifier_that_rises_is_not_called_identified() -> None:
    found = []
    for seed in range(6):
        noise = 0.1 * np.random.default_rng(seed).standard_normal((2, 21))
        frame = table(falling(12, 6) + noise[0], falling(2, 4) + noise[1], seed=seed)
        found.append(frame)
    for fit in posterior.fit(pd.concat(found), method="map"):
        assert not fit.identified
        assert "move apart or together (dU_v/dU_s = -0.3" in fit.reason


def test_chance_does_not_make_them_move_apart() -> None:
    alarms = 0
    for seed in range(200):
        noise = 0.1 * np.random.default_rng(seed).standard_normal((2, 21))
        still = table(falling(12, 6) + noise[0], 2 + noise[1])
        alarms += phase_plane(curve_of(still)).opposite is not None
    assert alarms <= 1


@pytest.mark.parametrize(
    ("diverged", "converged"), [(0, True), (1, True), (20, True), (21, False), (400, False)]
)
def test_few_divergences_are_no_verdict(diverged, converged) -> None:
    told = Diagnostics(1.001, 1000.0, 1000.0, diverged, 0.9, 4000)
    assert (not told.failures) == converged
    assert converged or told.failures == (f"{diverged} of 4000 transitions diverged",)


@pytest.mark.parametrize("seed", [1.5, -1, 2**32, "1", None])
def test_seeds(seed) -> None:
    with pytest.raises(UserError, match=r"seed is .*, not a whole number"):
        posterior.fit(simulate(), method="map", seed=seed)


def test_the_cases(cases, tmp_path) -> None:
    found = {}
    for name in ("noise_free", "in_epochs", "in_steps", "rising_verifier"):
        out = tmp_path / name
        table = str(cases / "posterior" / f"{name}.csv")
        assert main(["fit", table, "--method", "map", "--quiet", "--out", str(out)]) == 0
        (found[name],) = json.loads((out / "summary.json").read_text())["curves"]
    assert found["noise_free"]["identified"]
    limits = {series: q["q50"] for series, q in found["noise_free"]["limit"].items()}
    np.testing.assert_allclose([limits["solver"], limits["verifier"]], [5, 4.5], rtol=1e-4)
    assert found["in_steps"]["limit"] == found["in_epochs"]["limit"]
    assert not found["rising_verifier"]["identified"]
    assert abs(found["rising_verifier"]["limit"]["solver"]["q50"] - 6) < 0.1
