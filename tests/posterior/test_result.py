"""What a fit offers: tables, files, pictures."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import arviz_base
import arviz_stats
import numpy as np
import pytest
import xarray
from conftest import simulate

from gapjax import posterior, trajectories
from gapjax.errors import UserError
from gapjax.posterior.diagnostic_plots import limits_figure


def test_summary_is_one_row_a_curve(simulated_fit):
    summary = simulated_fit.summary()
    assert list(summary.index) == ["curve"]
    assert bool(summary["identified"].iloc[0])
    limit = simulated_fit.limit
    assert list(limit.index.get_level_values("series")) == ["solver", "verifier", "gap"]
    assert simulated_fit.reason == simulated_fit[0].reason
    for shown in (simulated_fit._repr_html_(), simulated_fit[0]._repr_html_()):
        assert shown.startswith("<table")
        assert simulated_fit.reason in shown


@pytest.mark.fast
def test_saved_files_follow_the_contract(simulated_fit, tmp_path):
    simulated_fit.save(tmp_path / "out")
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert set(summary) == {"gapjax", "seed", "law", "curves"}
    (curve,) = summary["curves"]
    assert set(curve) == {
        "labels",
        "n_checkpoints",
        "limit",
        "rate",
        "rho",
        "r_squared",
        "identified",
        "reason",
        "converged",
        "diagnostics",
    }
    seven = {"mean", "sd", "q05", "q25", "q50", "q75", "q95"}
    for q in (*curve["limit"].values(), curve["rate"], curve["rho"]):
        assert set(q) == seven
        assert q["q05"] < q["q25"] < q["q50"] < q["q75"] < q["q95"]
    assert set(curve["diagnostics"]) == {
        "r_hat_max",
        "ess_bulk_min",
        "ess_tail_min",
        "divergences",
        "e_bfmi_min",
    }
    pictures = sorted((tmp_path / "out/plots").iterdir())
    assert [p.stem for p in pictures] == ["chains", "phase-plane", "prior", "trajectory"]
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in pictures)


@pytest.mark.fast
def test_datatree_survives_netcdf(simulated_fit, tmp_path):
    simulated_fit.save(tmp_path)
    with xarray.open_datatree(tmp_path / "posterior.nc", engine="h5netcdf") as tree:
        assert tree.attrs["seed"] == 1
        assert tree.attrs["law"] == "exponential"
        limit = tree["posterior/solver_limit"].values
        np.testing.assert_allclose(
            limit[..., 0], simulated_fit[0].numbers["solver_limit"], rtol=1e-6
        )
        np.testing.assert_array_equal(
            tree["observed_data/pair"].sel(series="verifier"), simulated_fit[0].curve.verifier
        )
        assert float(arviz_stats.rhat(tree)["solver_limit"].max()) < 1.01
        elpd = arviz_stats.loo(tree)
        assert np.isfinite(elpd.elpd)
    assert isinstance(arviz_base.extract(simulated_fit.to_datatree()), xarray.Dataset)


def test_log_likelihood_is_in_nats_not_in_units_of_the_scale(simulated_fit):
    (c,) = simulated_fit
    from scipy.stats import norm

    mean, sd = c.mean[0, 0], c.numbers["solver_noise"][0, 0]
    expected = norm.logpdf(np.stack([c.curve.solver, c.curve.verifier], -1), mean, sd).sum(-1)
    np.testing.assert_allclose(c.log_likelihood[0, 0], expected, rtol=1e-8)


def test_an_unwritable_folder_is_the_user_s_error(simulated_fit, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError):
        simulated_fit.save(tmp_path / "file")


def test_pictures_say_when_a_limit_is_not_identified():
    (curve,) = posterior.fit(simulate(rate=0.05), method="map")
    figure = curve.plot_trajectory()
    assert not curve.identified
    assert figure.axes[0].get_title(loc="left").startswith("Not identified")
    assert figure.axes[0].get_xlabel() == "epoch"
    assert "nats" in figure.axes[0].get_ylabel()


@pytest.mark.fast
def test_the_theory_wing_never_loads_the_language_models():
    code = (
        "import sys, gapjax.trajectories, gapjax.dynamics, gapjax.posterior, gapjax.cli.curves\n"
        "print([m for m in ('transformers', 'orbax', 'flax', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_many_curves_are_saved_in_little_space(tmp_path):
    curves = [trajectories.read(simulate(seed=i))[0] for i in range(13)]
    named = tuple(replace(curve, labels={"run": f"r{i}"}) for i, curve in enumerate(curves))
    fits = posterior.fit(trajectories.Trajectories(named), method="map")
    fits.save(tmp_path / "many")
    assert [path.name for path in (tmp_path / "many/plots").iterdir()] == ["limits.png"]
    assert (tmp_path / "many/posterior.nc").stat().st_size < 13 * 300_000
    saved = xarray.open_datatree(tmp_path / "many/posterior.nc", engine="h5netcdf")
    assert saved.attrs["every"] == 4
    for i, fit in enumerate(fits):
        kept = saved["posterior/solver_limit"].values[..., i]
        np.testing.assert_allclose(kept, fit.numbers["solver_limit"][:, ::4], rtol=1e-6)
    few = posterior.fit(trajectories.Trajectories(named[:2]), method="map")
    few.save(tmp_path / "few")
    assert len(list((tmp_path / "few/plots").iterdir())) == 3 * 2 + 1
    few.save(tmp_path / "asked", pictures=False)
    assert [path.name for path in (tmp_path / "asked/plots").iterdir()] == ["limits.png"]
    saved = xarray.open_datatree(tmp_path / "few/posterior.nc", engine="h5netcdf")
    assert saved.attrs["every"] == 1


def test_limits_of_very_many_curves_make_no_picture_of_miles():
    fit = posterior.fit(simulate(), method="map")
    figure = limits_figure([*fit] * 1000)
    assert figure.get_figheight() < 60
    assert "600 more curves" in figure.get_suptitle()
