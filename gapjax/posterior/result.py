"""What `fit` returns: one `CurveFit` a curve, and the `Fit` that holds them all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import jax
import numpy as np
import pandas as pd
from jaxtyping import Float

from gapjax import __version__
from gapjax.dynamics.precision import float64_on_cpu
from gapjax.errors import UserError
from gapjax.posterior.base import AbstractModel
from gapjax.posterior.draws import in_own_units, paths, prior_draws
from gapjax.posterior.observations import one_curve, time_unit_of
from gapjax.posterior.verdict import Diagnostics, Verdict
from gapjax.trajectories import Curve

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

SERIES = ("solver", "verifier", "gap")
_FAN_DRAWS = 500


class Quantiles(TypedDict):
    """A posterior in seven numbers."""

    mean: float
    sd: float
    q05: float
    q25: float
    q50: float
    q75: float
    q95: float


def quantiles(draws: Float[np.ndarray, ...]) -> Quantiles:
    """Mean, standard deviation and quantiles of `draws`."""
    q05, q25, q50, q75, q95 = np.quantile(draws, [0.05, 0.25, 0.5, 0.75, 0.95]).tolist()
    mean, sd = float(np.mean(draws)), float(np.std(draws))
    return {"mean": mean, "sd": sd, "q05": q05, "q25": q25, "q50": q50, "q75": q75, "q95": q95}


_FEW = 12  # curves of which one looks at each
_THINNED = 4


@dataclass(frozen=True, eq=False)
class CurveFit:
    """The posterior of one curve; all uncertainties in nats.

    - `x`: draws as the model knows them; coordinates first, `(chains, draws, x)`.
    - `scale`: the curve's unit in nats.
    - `numbers`: draws of `solver0`, `verifier0`, `rate` (per epoch), `rho`, `solver_limit`,
      `verifier_limit`, `gap_limit`, the noise, and the law's shape, `(chains, draws)`.
    - `mean`: draws of `(U_s, U_v)` at the checkpoints, `(chains, draws, time, 2)`.
    - `log_likelihood`: of each checkpoint, `(chains, draws, time)`.
    - `replicated`: replicated measurements, `(some draws, time, 2)`.
    - `sample_stats`: what the sampler recorded, under ArviZ's names.
    - `failures`: why the fit did not converge; empty if it did.
    """

    curve: Curve
    model: AbstractModel
    x: Float[np.ndarray, "chains draws x"]
    scale: float
    numbers: Mapping[str, Float[np.ndarray, "chains draws"]]
    mean: Float[np.ndarray, "chains draws time 2"]
    log_likelihood: Float[np.ndarray, "chains draws time"]
    replicated: Float[np.ndarray, "some time 2"]
    sample_stats: Mapping[str, np.ndarray]
    diagnostics: Diagnostics
    failures: tuple[str, ...]
    verdict: Verdict

    @property
    def time_unit(self) -> float:
        """The curve's unit of time, in epochs."""
        return time_unit_of(self.curve)

    @property
    def converged(self) -> bool:
        """Whether the convergence gate was passed."""
        return not self.failures

    @property
    def identified(self) -> bool:
        """Whether the curve tells its limit; `reason` says why (not)."""
        return self.verdict.identified

    @property
    def reason(self) -> str:
        return self.verdict.reason

    @property
    def limit(self) -> dict[str, Quantiles]:
        """Posterior of the limits of solver, verifier and gap (nats)."""
        return {series: quantiles(self.numbers[f"{series}_limit"]) for series in SERIES}

    @property
    def rate(self) -> Quantiles:
        """Posterior of `γ`, per epoch."""
        return quantiles(self.numbers["rate"])

    @property
    def rho(self) -> Quantiles:
        """Posterior of `ρ = β/α`."""
        return quantiles(self.numbers["rho"])

    @cached_property
    def r_squared(self) -> dict[str, float | None]:
        """Share of each series' variance that the posterior-median curve explains."""
        flat = self.mean.reshape(-1, *self.mean.shape[2:])
        fitted = {
            "solver": np.median(flat[..., 0], axis=0),
            "verifier": np.median(flat[..., 1], axis=0),
            "gap": np.median(flat[..., 0] - flat[..., 1], axis=0),
        }
        measured = measurements(self.curve)
        return {series: _r_squared(measured[series], fitted[series]) for series in SERIES}

    def paths(
        self, epochs: Float[np.ndarray, " time"]
    ) -> dict[str, Float[np.ndarray, "draws time"]]:
        """Draws of each series' noise-free curve at `epochs` (nats)."""
        flat = self.x.reshape(-1, self.x.shape[-1])
        chosen = flat[np.linspace(0, len(flat) - 1, _FAN_DRAWS).round().astype(int)]
        observed = one_curve(self.curve, self.scale)
        times = (epochs - self.curve.epochs[0]) / self.time_unit
        with float64_on_cpu():
            pair = np.asarray(paths(self.model, observed, chosen, times)) * self.scale
        return {
            "solver": pair[..., 0],
            "verifier": pair[..., 1],
            "gap": pair[..., 0] - pair[..., 1],
        }

    def summary(self) -> pd.Series:
        """Limits and rate with 90% intervals, quality of the fit, verdict."""
        row: dict[str, object] = {}
        for series, q in self.limit.items():
            row[f"{series} limit (nats)"] = _interval(q)
        row[f"rate (1/{self.curve.time})"] = _interval(self.rate)
        row["rho"] = _interval(self.rho)
        for series in SERIES:
            row[f"R² {series}"] = self.r_squared[series]
        row["converged"] = self.converged
        row["identified"] = self.identified
        row["reason"] = self.reason
        return pd.Series(row, name=self.curve.name)

    def _repr_html_(self) -> str:
        return self.summary().to_frame().to_html()

    def from_prior(
        self, *, draws: int = 500, seed: int = 0
    ) -> tuple[dict[str, Float[np.ndarray, " draws"]], Float[np.ndarray, "draws time 2"]]:
        """What was thought before: draws of `numbers`, and of the measured pair (nats).

        Limits of the stochastic dynamics may come out negative here; the posterior's do not.
        """
        n = len(self.curve.epochs)
        with float64_on_cpu():
            numbers, pair = jax.device_get(
                prior_draws(
                    self.model,
                    one_curve(self.curve, self.scale),
                    jax.random.key(seed),
                    draws,
                )
            )
        return in_own_units(numbers, self.scale, self.time_unit), pair[:, :n] * self.scale

    def to_dict(self) -> dict[str, Any]:
        """This curve's entry of `summary.json`."""
        return {
            "labels": dict(self.curve.labels),
            "n_checkpoints": len(self.curve.epochs),
            "limit": self.limit,
            "rate": self.rate,
            "rho": self.rho,
            "r_squared": self.r_squared,
            "identified": self.identified,
            "reason": self.reason,
            "converged": self.converged,
            "diagnostics": self.diagnostics.to_dict(),
        }

    def forecast(self, epochs: Sequence[float], *, seed: int = 0) -> pd.DataFrame:
        """Predictive table for `epochs` beyond the last checkpoint, noise included (nats)."""
        from gapjax.posterior.forecast import forecast_table

        return forecast_table(self, np.asarray(epochs, dtype=float), seed=seed)

    def plot_trajectory(self) -> Figure:
        """Measurements, posterior fan, and the limits with their intervals."""
        from gapjax.posterior.plots import trajectory_figure

        return trajectory_figure(self)

    def plot_phase_plane(self) -> Figure:
        """`U_v` against `U_s`, and whether it bends."""
        from gapjax.posterior.diagnostic_plots import phase_plane_figure

        return phase_plane_figure(self)

    def plot_prior(self) -> Figure:
        """Prior against posterior of the solver limit."""
        from gapjax.posterior.diagnostic_plots import prior_figure

        return prior_figure(self)

    def plot_chains(self) -> Figure:
        """Trace and ranks of the solver limit."""
        from gapjax.posterior.diagnostic_plots import chains_figure

        return chains_figure(self)


@dataclass(frozen=True, eq=False)
class Fit(Sequence[CurveFit]):
    """The posteriors of all curves of one call; `fit[i]` is that of curve `i`."""

    curves: tuple[CurveFit, ...]
    law: str
    method: str
    seed: int

    def __len__(self) -> int:
        return len(self.curves)

    def __getitem__(self, index: Any) -> Any:
        return self.curves[index]

    def __iter__(self) -> Iterator[CurveFit]:
        return iter(self.curves)

    @property
    def converged(self) -> bool:
        """Whether every curve's chains passed the gate."""
        return all(curve.converged for curve in self.curves)

    @property
    def identified(self) -> bool:
        """Whether every curve tells its limit."""
        return all(curve.identified for curve in self.curves)

    @property
    def reason(self) -> str:
        """Why the limits are identified or not, one line a curve."""
        if len(self.curves) == 1:
            return self.curves[0].reason
        return "\n".join(f"{c.curve.name}: {c.reason}" for c in self.curves)

    @property
    def limit(self) -> pd.DataFrame:
        """Posterior of the limits (nats): one row for each curve and series."""
        rows = [
            {"curve": c.curve.name, "series": series, **c.limit[series]}
            for c in self.curves
            for series in SERIES
        ]
        return pd.DataFrame(rows).set_index(["curve", "series"])

    def summary(self) -> pd.DataFrame:
        """One row a curve: limits and rate with 90% intervals, fit, verdict."""
        rows = [c.summary() for c in self.curves]
        return pd.DataFrame(rows).infer_objects().rename_axis("curve")

    def _repr_html_(self) -> str:
        return self.summary().T.to_html()

    def to_dict(self) -> dict[str, Any]:
        """The contents of `summary.json`."""
        return {
            "gapjax": __version__,
            "seed": self.seed,
            "law": self.law,
            "curves": [curve.to_dict() for curve in self.curves],
        }

    def to_datatree(self) -> xarray.DataTree:
        """Everything as an ArviZ `DataTree`; see `gapjax.posterior.datatree`."""
        from gapjax.posterior.datatree import to_datatree

        return to_datatree(self)

    def forecast(self, epochs: Sequence[float]) -> pd.DataFrame:
        """Predictive tables of all curves for `epochs` beyond their last checkpoint."""
        return pd.concat([c.forecast(epochs, seed=self.seed) for c in self], ignore_index=True)

    def plot_trajectory(self, index: int = 0) -> Figure:
        """Picture of one curve: measurements, posterior fan, limits with intervals."""
        return self.curves[index].plot_trajectory()

    def plot_limits(self) -> Figure:
        """The limits of all curves side by side."""
        from gapjax.posterior.diagnostic_plots import limits_figure

        return limits_figure(self.curves)

    def plot_phase_plane(self, index: int = 0) -> Figure:
        """`U_v` against `U_s` of one curve, and whether it bends."""
        return self.curves[index].plot_phase_plane()

    def save(self, directory: str | os.PathLike[str], *, pictures: bool | None = None) -> None:
        """Write `summary.json`, `posterior.nc` and `plots/` into `directory`.

        The draws are kept in single precision; of more than a dozen curves, every fourth.

        **Arguments:**

        - `pictures`: of each curve; by default where there are no more than a dozen. That of all
            limits side by side is always there.

        **Raises:** `UserError` if the folder cannot be written.
        """
        from gapjax.posterior.datatree import write_netcdf

        directory = Path(directory)
        many = len(self.curves) > _FEW
        try:
            plots = directory / "plots"
            plots.mkdir(parents=True, exist_ok=True)
            text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False)
            (directory / "summary.json").write_text(text + "\n", encoding="utf-8")
            tree = self.to_datatree()
            write_netcdf(tree, directory / "posterior.nc", every=_THINNED if many else 1)
            if pictures or (pictures is None and not many):
                self._save_pictures(plots)
            if len(self.curves) > 1:
                self.plot_limits().savefig(plots / "limits.png", dpi=150)
        except OSError as error:
            raise UserError(f"cannot be written ({error.strerror})", where=directory) from error

    def _save_pictures(self, plots: Path) -> None:
        for number, curve in enumerate(self.curves, start=1):
            suffix = f"-{number}" if len(self.curves) > 1 else ""
            pictures = {
                "trajectory": curve.plot_trajectory(),
                "phase-plane": curve.plot_phase_plane(),
                "prior": curve.plot_prior(),
            }
            if self.method == "nuts":
                pictures["chains"] = curve.plot_chains()
            for name, figure in pictures.items():
                figure.savefig(plots / f"{name}{suffix}.png", dpi=150)


def measurements(curve: Curve) -> dict[str, Float[np.ndarray, " time"]]:
    """The three measured series of `curve` (nats)."""
    return {"solver": curve.solver, "verifier": curve.verifier, "gap": curve.gap}


def _interval(q: Quantiles) -> str:
    return f"{q['q50']:.3g} [{q['q05']:.3g}, {q['q95']:.3g}]"


def _r_squared(
    measured: Float[np.ndarray, " time"], fitted: Float[np.ndarray, " time"]
) -> float | None:
    total = float(np.sum((measured - measured.mean()) ** 2))
    return 1 - float(np.sum((measured - fitted) ** 2)) / total if total > 0 else None
