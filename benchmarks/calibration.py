"""Does 90% mean 90%?  Simulation-based calibration, and coverage at fixed truths.

    python -m benchmarks.calibration      # writes results/calibration.md and a picture

Simulation-based calibration (Talts et al. 2018, with the log-likelihood as a test quantity
after Modrák et al. 2023): curves drawn from the priors, the truth ranked among its posterior
draws; ranks are uniform if the posterior is computed right.  Coverage at fixed truths asks
something else, whether the intervals are honest for runs as one meets them: no theorem
promises 90% there where the data say little and the prior says the rest.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import pandas as pd
from arviz_stats.ecdf_utils import ecdf_pit
from matplotlib.figure import Figure
from scipy.stats import binomtest

from benchmarks.curves import draw_from_prior, draw_from_stochastic_prior, exponential_curve
from gapjax import posterior
from gapjax.dynamics import float64_on_cpu
from gapjax.trajectories import Curve, Trajectories

RATES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
SOLVER_LIMIT = 0.8
BAND = 0.99  # of the simultaneous bands
_BATCH = 125  # curves sampled in step: more of them wait longer for the slowest
_ROOT = Path(__file__).parents[1]
_NAMES = {
    "solver_limit": "solver limit",
    "rate": "rate",
    "rho": r"$\rho$",
    "log_likelihood": "log-likelihood",
}


class Ranks(NamedTuple):
    """Where the truth lies among its posterior draws, from 0 to 1, and which fits failed."""

    ranks: dict[str, np.ndarray]
    converged: np.ndarray


def simulation_based_ranks(
    replicates: int, seed: int, *, law: str = "exponential", draws: int = 100, thin: int = 1
) -> Ranks:
    """Ranks of the truth for curves drawn from the prior, with the curve's unit held at 1.

    - `law`: `"exponential"` or `"stochastic"`.
    - `draws`: draws a chain, of which every `thin`-th is kept.
    """
    rng = np.random.default_rng(seed)
    draw = {"exponential": draw_from_prior, "stochastic": draw_from_stochastic_prior}[law]
    simulated = [draw(rng) for _ in range(replicates)]
    fits: list[posterior.CurveFit] = []
    # The unit is estimated from the data; the prior's own simulation has unit 1.
    module = sys.modules["gapjax.posterior.fit"]
    with float64_on_cpu(), mock.patch.object(module, "scale_of", return_value=1.0):
        for start in range(0, replicates, _BATCH):
            curves = [
                Curve({"run": str(start + i)}, one.epoch, one.pair[0], one.pair[1])
                for i, one in enumerate(simulated[start : start + _BATCH])
            ]
            data = Trajectories(tuple(curves))
            fits += posterior.fit(
                data, law, seed=seed + start, warmup=400, draws=draws, check_laws=False
            )

    def rank(name: str, fit: posterior.CurveFit, truth: float) -> float:
        values = fit.log_likelihood.sum(axis=-1) if name == "log_likelihood" else fit.numbers[name]
        return float(np.mean(values[:, ::thin] < truth))

    ranks = {
        name: np.array(
            [rank(name, fit, one.truth[name]) for fit, one in zip(fits, simulated, strict=True)]
        )
        for name in simulated[0].truth
    }
    return Ranks(ranks, np.array([fit.converged for fit in fits]))


class Bands(NamedTuple):
    """An ECDF and simultaneous bands around the uniform one (Säilynoja et al. 2022)."""

    at: np.ndarray
    ecdf: np.ndarray
    lower: np.ndarray
    upper: np.ndarray

    @property
    def holds(self) -> bool:
        """Whether the ECDF never leaves its bands."""
        return bool(np.all((self.lower <= self.ecdf) & (self.ecdf <= self.upper)))


def ecdf_bands(ranks: np.ndarray, level: float = BAND) -> Bands:
    """The ECDF of `ranks` and the bands that a uniform one leaves with chance `1 − level`."""
    return Bands(*ecdf_pit(ranks, level, n_simulations=2000, rng=np.random.default_rng(0)))


def coverage(
    curves_a_rate: int, seed: int, *, warmup: int = 600, draws: int = 1000
) -> pd.DataFrame:
    """Fits of exponential curves with 1% noise: rate, 90% interval, verdict, one row a curve."""
    rates = np.repeat(RATES, curves_a_rate)
    rows = []
    for start in range(0, len(rates), _BATCH):
        frame = pd.concat(
            exponential_curve(rate=rate, solver_limit=SOLVER_LIMIT, seed=seed + start + i).assign(
                run=f"{i:03d}"
            )
            for i, rate in enumerate(rates[start : start + _BATCH])
        )
        for fit in posterior.fit(frame, seed=seed + start, warmup=warmup, draws=draws):
            q = fit.limit["solver"]
            rows.append(
                {
                    "q05": q["q05"],
                    "q95": q["q95"],
                    "covered": q["q05"] < SOLVER_LIMIT < q["q95"],
                    "below": q["q05"] > SOLVER_LIMIT,  # the interval misses: truth is below it
                    "identified": fit.identified,
                    "converged": fit.converged,
                }
            )
    return pd.DataFrame(rows).assign(rate=rates)


def calibration_figure(ranks: dict[str, np.ndarray]) -> Figure:
    """The ECDF of each rank minus the uniform one, inside its simultaneous bands."""
    figure = Figure(figsize=(8.6, 2.9), layout="constrained")
    panels = figure.subplots(1, len(ranks), sharey=True)
    for axes, (name, values) in zip(panels, ranks.items(), strict=True):
        bands = ecdf_bands(values)
        axes.fill_between(
            bands.at, bands.lower - bands.at, bands.upper - bands.at, color="0.88", linewidth=0
        )
        axes.step(bands.at, bands.ecdf - bands.at, where="post", color="#1f5fa8", linewidth=1.2)
        axes.axhline(0, color="0.6", linewidth=0.8)
        axes.set_title(_NAMES[name], fontsize=10)
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("ECDF − uniform", fontsize=9)
    figure.supxlabel(
        f"rank of the truth among its posterior draws ({len(values)} curves drawn from the prior; "
        f"grey: {BAND:.0%} simultaneous band)",
        fontsize=9,
    )
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description="Calibration of the exponential law's posterior.")
    parser.add_argument("--replicates", type=int, default=500)
    parser.add_argument("--curves-a-rate", type=int, default=40)
    arguments = parser.parse_args()
    begin = time.perf_counter()
    sbc = simulation_based_ranks(arguments.replicates, seed=2, draws=400, thin=4)
    table = coverage(arguments.curves_a_rate, seed=5000)
    lines = [
        "# Calibration of `posterior.fit` under the exponential law",
        "",
        "Written by `make calibration` (`benchmarks/calibration.py`).",
        "",
        f"## Simulation-based calibration, {arguments.replicates} curves drawn from the prior",
        "",
        f"Ranks of the truth among posterior draws against {BAND:.0%} simultaneous ECDF bands. "
        f"{np.sum(~sbc.converged)} fits missed the gate (with 4 × 400 draws); all are counted.",
        "",
        "![ECDF differences](../../docs/images/calibration.png)",
        "",
        "| quantity | largest ECDF difference | inside the bands "
        "| truth in the 50 / 90 % interval |",
        "| --- | ---: | --- | ---: |",
    ]
    for name, values in sbc.ranks.items():
        bands = ecdf_bands(values)
        inside = [np.mean(np.abs(values - 0.5) <= half) for half in (0.25, 0.45)]
        lines.append(
            f"| {name.replace('_', ' ')} | {np.max(np.abs(bands.ecdf - bands.at)):.3f} "
            f"| {'yes' if bands.holds else 'NO'} | {inside[0]:.1%} / {inside[1]:.1%} |"
        )
    lines += [
        "",
        f"## Coverage of the solver limit's 90 % interval, {len(table)} curves with 1 % noise",
        "",
        "21 checkpoints over T = 10 epochs; the truth is the same in every curve "
        f"(U_s from 2 to {SOLVER_LIMIT}, U_v from 1 to 0.52).",
        "",
        "| rate (1/epoch) | γT | covered | 95 % interval of the coverage | truth below / above "
        "| median width (nats) | converged | identified |",
        "| ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for rate, group in [*table.groupby("rate"), ("all", table)]:
        count, n = int(group["covered"].sum()), len(group)
        interval = binomtest(count, n).proportion_ci(method="wilson")
        below = int(group["below"].sum())
        constants = "" if rate == "all" else f"{10 * rate:g}"
        lines.append(
            f"| {rate} | {constants} | {count} of {n} ({count / n:.1%}) "
            f"| {interval.low:.0%} to {interval.high:.0%} | {below} / {n - count - below} "
            f"| {(group['q95'] - group['q05']).median():.3g} | {group['converged'].mean():.0%} "
            f"| {group['identified'].mean():.0%} |"
        )
    lines += [
        "",
        f"Took {(time.perf_counter() - begin) / 60:.0f} minutes on 2 shared CPU cores.",
        "",
    ]
    calibration_figure(sbc.ranks).savefig(_ROOT / "docs/images/calibration.png", dpi=150)
    (_ROOT / "benchmarks/results/calibration.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
