"""Forecasts: what the next checkpoints will measure, noise included."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import jax
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Key

from gapjax.dynamics.precision import float64_on_cpu
from gapjax.errors import UserError
from gapjax.posterior.base import AbstractModel
from gapjax.posterior.compiling import quick_jit
from gapjax.posterior.observations import Observations, one_curve, size_class
from gapjax.trajectories import Curve

if TYPE_CHECKING:
    from gapjax.posterior.result import CurveFit

LEVELS = (0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975)
_DRAWS = 2000
_MAX_EPOCHS = 10_000


def predict(
    fit: CurveFit, epochs: Float[np.ndarray, " time"], *, seed: int = 0
) -> dict[str, Float[np.ndarray, "draws time"]]:
    """Predictive draws of each series at `epochs`, which follow the last checkpoint (nats).

    Measurement noise is included, and under the stochastic law what may push the run on the
    way; its paths start from where the run stands.  Uncertainties are cut off at zero.

    **Raises:** `UserError` if an epoch does not lie after the last checkpoint.
    """
    epochs = np.asarray(epochs, dtype=float)
    first, last = fit.curve.epochs[[0, -1]]
    if not (epochs.size and np.all(np.diff(epochs) > 0) and epochs[0] > last):
        raise UserError(f"epochs to forecast must increase from beyond epoch {last:g}")
    if epochs.size > _MAX_EPOCHS:
        raise UserError(f"{epochs.size} epochs to forecast, at most {_MAX_EPOCHS}")
    flat = fit.x.reshape(-1, fit.x.shape[-1])
    x = flat[np.linspace(0, len(flat) - 1, _DRAWS).round().astype(int)]
    times = (epochs - first) / fit.time_unit
    times = np.pad(times, (0, size_class(len(epochs)) - len(epochs)), mode="edge")
    observed = one_curve(fit.curve, fit.scale)
    with float64_on_cpu():
        pair = _predict(fit.model, observed, x, times, jax.random.key(seed))
        pair = np.maximum(np.asarray(pair)[:, : len(epochs)] * fit.scale, 0.0)
    return {"solver": pair[..., 0], "verifier": pair[..., 1], "gap": pair[..., 0] - pair[..., 1]}


@partial(quick_jit, static_argnums=0)
def _predict(
    model: AbstractModel,
    observed: Observations,
    x: Float[Array, "draws x"],
    times: Float[Array, " time"],
    key: Key[Array, ""],
) -> Float[Array, "draws time 2"]:
    keys = jax.random.split(key, len(x))
    return jax.vmap(lambda x, key: model.predict(x, observed, times, key))(x, keys)


def forecast_table(
    fit: CurveFit, epochs: Float[np.ndarray, " time"], *, seed: int = 0
) -> pd.DataFrame:
    """`predict` as a table: labels, `epoch`, `series`, mean, sd and quantiles (nats)."""
    rows = []
    for series, draws in predict(fit, epochs, seed=seed).items():
        levels = np.quantile(draws, LEVELS, axis=0)
        for i, epoch in enumerate(epochs):
            quantiles = {
                f"q{1000 * level:03.0f}".removesuffix("0"): levels[j, i]
                for j, level in enumerate(LEVELS)
            }
            rows.append(
                {
                    **dict(fit.curve.labels),
                    fit.curve.time: float(epoch),
                    "series": series,
                    "mean": draws[:, i].mean(),
                    "sd": draws[:, i].std(),
                    **quantiles,
                }
            )
    return pd.DataFrame(rows)


def horizon_epochs(curve: Curve, until: float, horizon: float) -> Float[np.ndarray, " time"]:
    """Epochs to forecast: the curve's own checkpoints after `until`, then at its pace.

    **Raises:** `UserError` unless `until` lies within the curve, after its fourth
    checkpoint, and `horizon` beyond it.
    """
    fourth, last = curve.epochs[3], curve.epochs[-1]
    if not fourth <= until <= last:
        raise UserError(
            f"--until {until:g} lies outside the data",
            where=curve.name,
            hint=f"choose an epoch from {fourth:g} (the fourth checkpoint) to {last:g}",
        )
    if not until < horizon < np.inf:
        raise UserError(f"--horizon {horizon:g} must lie beyond --until {until:g}")
    pace = float(np.median(np.diff(curve.epochs)))
    if (horizon - until) / pace > _MAX_EPOCHS:
        raise UserError(f"--horizon {horizon:g} is more than {_MAX_EPOCHS} checkpoints away")
    own = curve.epochs[(curve.epochs > until) & (curve.epochs <= horizon)]
    known = own[-1] if own.size else curve.epochs[curve.epochs <= until][-1]
    further = known + pace * np.arange(1, int((horizon - known) / pace + 1e-9) + 1)
    epochs = np.concatenate([own, further[further > until]])
    if not epochs.size:
        raise UserError(
            f"no checkpoint falls between --until {until:g} and --horizon {horizon:g}",
            where=curve.name,
        )
    return epochs
