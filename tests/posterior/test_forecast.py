"""Forecasts: the contract's table, calibrated bands, honest errors."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import simulate

from gapjax import posterior, trajectories
from gapjax.cli.main import main
from gapjax.errors import UserError
from gapjax.posterior.forecast import horizon_epochs, predict
from gapjax.posterior.phase_plane import phase_plane


@pytest.mark.fast
def test_forecast_covers_what_happens_next():
    inside = []
    for seed in range(8):
        known = simulate(seed=seed)
        (curve,) = trajectories.read(known)
        (fit,) = posterior.fit(known[known["epoch"] <= 5], method="map")
        ahead = curve.epochs[curve.epochs > 5]
        draws = predict(fit, ahead)
        for series, truth in (("solver", curve.solver), ("verifier", curve.verifier)):
            low, high = np.quantile(draws[series], [0.05, 0.95], axis=0)
            later = truth[curve.epochs > 5]
            inside.append((low < later) & (later < high))
    # 160 values, but their errors come from 8 limits: a wide tolerance around 90%.
    assert 0.75 < np.mean(inside) < 0.99
    table = fit.forecast(ahead)
    assert list(table.columns) == [
        "epoch",
        "series",
        "mean",
        "sd",
        *("q025", "q05", "q10", "q25", "q50", "q75", "q90", "q95", "q975"),
    ]
    assert set(table["series"]) == {"solver", "verifier", "gap"}
    # Noise of the measurement is in: the band is no narrower than the noise itself.
    assert table["sd"].min() > 0.015
    with pytest.raises(UserError):
        fit.forecast([4.0])


@pytest.mark.fast
def test_horizon_goes_on_at_the_curve_s_pace():
    (curve,) = trajectories.read(simulate())
    np.testing.assert_allclose(horizon_epochs(curve, 9.0, 11.0), [9.5, 10, 10.5, 11])
    np.testing.assert_allclose(horizon_epochs(curve, 3.0, 4.2), [3.5, 4.0])


@pytest.mark.parametrize(
    ("until", "horizon"), [("1", "5"), ("50", "60"), ("5", "4"), ("nan", "9"), ("5", "inf")]
)
def test_impossible_forecasts_are_one_line(tmp_path, capsys, until, horizon):
    trajectories.write(simulate(), tmp_path / "t.csv")
    out = tmp_path / "out"
    command = ["forecast", str(tmp_path / "t.csv"), "--until", until, "--horizon", horizon]
    assert main([*command, "--out", str(out)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not out.exists()


def test_forecast_command_with_the_paper_s_law(tmp_path):
    import pandas as pd

    trajectories.write(simulate().assign(run="a"), tmp_path / "t.csv")
    out = tmp_path / "out"
    command = f"forecast {tmp_path / 't.csv'} --until 8 --horizon 11 --law exponential --quiet"
    assert main([*command.split(), "--out", str(out)]) == 0
    table = pd.read_csv(out / "forecast.csv")
    assert list(table.columns[:3]) == ["run", "epoch", "series"]
    assert table["epoch"].max() == 11
    assert (out / "plots/forecast.png").exists()


@pytest.mark.fast
def test_phase_plane_tells_a_bend_from_a_line():
    (straight,) = trajectories.read(simulate(noise=0.005))
    assert not phase_plane(straight).contradicts_constant_coupling
    frame = simulate(noise=0.005)
    frame["verifier_uncertainty"] = 0.2 * frame["solver_uncertainty"] ** 2
    (bent,) = trajectories.read(frame)
    assert phase_plane(bent).contradicts_constant_coupling
    assert "constant (alpha, beta)" in phase_plane(bent).warning
