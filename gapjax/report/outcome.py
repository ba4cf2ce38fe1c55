"""The posterior of a run: the one that was saved with it, or else a fast fit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from gapjax import trajectories
from gapjax.paths import Path
from gapjax.posterior import fit
from gapjax.posterior.result import SERIES, CurveFit, Quantiles, measurements
from gapjax.report.run_files import RunFiles
from gapjax.trajectories import MIN_CHECKPOINTS, Curve

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
_BEYOND = 0.5  # how far the bands run past the last checkpoint, in lengths of the curve
_POINTS = 120

Bands = Mapping[str, Float[np.ndarray, "levels time"]]  # by series, at `LEVELS`, nats


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the measurements of a run say about where it is heading (nats).

    - `how`: how the posterior was made, in words.
    - `fitted`: the median curve at the checkpoints, `(U_s, U_v)`.
    - `epochs`, `bands`: of the noise-free curve, beyond the last checkpoint too.
    """

    curve: Curve
    law: str
    how: str
    limit: Mapping[str, Quantiles]
    r_squared: Mapping[str, float | None]
    identified: bool
    reason: str
    fitted: Float[np.ndarray, "time 2"]
    epochs: Float[np.ndarray, " time"]
    bands: Bands


def curve_of(run: RunFiles) -> Curve | None:
    """The run's trajectory as a curve; None if it has too few checkpoints for a posterior.

    **Raises:** `UserError` for a table that is none.
    """
    if len(run.trajectory) < MIN_CHECKPOINTS:
        return None
    return trajectories.read(run.trajectory, group_by=run.labels)[0]


def outcome_of(run: RunFiles, *, seed: int) -> Outcome | None:
    """The posterior that lies in the run's folder, if it is of all its measurements.

    Otherwise, as in a run that goes on, a fast fit. None with too few checkpoints.
    """
    curve = curve_of(run)
    if curve is None:
        return None
    saved = _saved(run.folder / "posterior", curve)
    if saved is not None:
        return saved
    fast = fit(trajectories.Trajectories((curve,)), method="map", seed=seed, check_laws=False)
    return _fitted(fast[0])


def _fitted(fast: CurveFit) -> Outcome:
    curve = fast.curve
    epochs = _grid(curve)
    return Outcome(
        curve=curve,
        law=fast.model.name,
        how="a fast fit (Student-t around the mode, no second opinion), made for this report",
        limit=fast.limit,
        r_squared=fast.r_squared,
        identified=fast.identified,
        reason=fast.reason,
        fitted=np.median(fast.mean.reshape(-1, *fast.mean.shape[2:]), axis=0),
        epochs=epochs,
        bands=_bands(fast.paths(epochs)),
    )


def _saved(folder: Path, curve: Curve) -> Outcome | None:
    """What `Fit.save` wrote, if it can be read and is of these measurements."""
    import xarray

    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        with xarray.open_datatree(folder / "posterior.nc", engine="h5netcdf") as tree:
            tree.load()
            method = str(tree.attrs["method"])
            observed = tree["observed_data/pair"].to_numpy()
            at = tree["observed_data/epoch"].to_numpy()
            posterior = tree["posterior"].to_dataset()
        about = summary["curves"][0]
        measured = np.stack([curve.solver, curve.verifier], axis=-1)
        if not (np.array_equal(at, curve.epochs) and np.allclose(observed, measured)):
            return None  # of an earlier state of the run
        mean = posterior["mean"].to_numpy()
        pair = mean.reshape(-1, *mean.shape[2:])  # draws time 2
        epochs, law = curve.epochs, str(summary["law"])
        if law == "exponential":
            # In closed form beyond the checkpoints: L + (U(0) − L)·exp(−γt).
            epochs = _grid(curve)
            rate = posterior["rate"].to_numpy().ravel()[:, None, None]
            limit = np.stack(
                [posterior[f"{s}_limit"].to_numpy().ravel() for s in ("solver", "verifier")],
                axis=-1,
            )[:, None]
            decay = np.exp(-rate * (epochs - epochs[0])[:, None])
            paths = limit + (pair[:, :1] - limit) * decay
        else:
            paths = pair
        return Outcome(
            curve=curve,
            law=law,
            how=f"the posterior saved with the run ({method.upper()})",
            limit=about["limit"],
            r_squared=about["r_squared"],
            identified=bool(about["identified"]),
            reason=str(about["reason"]),
            fitted=np.median(pair, axis=0),
            epochs=epochs,
            bands=_bands(_series(paths)),
        )
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None  # absent, incomplete or damaged: the fast fit takes its place, and says so


def _grid(curve: Curve) -> Float[np.ndarray, " time"]:
    first, last = curve.epochs[[0, -1]]
    return np.linspace(first, last + _BEYOND * (last - first), _POINTS)


def _series(pair: Float[np.ndarray, "draws time 2"]) -> dict[str, Float[np.ndarray, "draws time"]]:
    return {
        "solver": pair[..., 0],
        "verifier": pair[..., 1],
        "gap": pair[..., 0] - pair[..., 1],
    }


def _bands(paths: Mapping[str, Float[np.ndarray, "draws time"]]) -> Bands:
    return {series: np.quantile(paths[series], LEVELS, axis=0) for series in SERIES}


def residuals(outcome: Outcome) -> dict[str, Float[np.ndarray, " time"]]:
    """Measured minus median curve of solver and verifier (nats)."""
    measured = measurements(outcome.curve)
    return {
        "solver": measured["solver"] - outcome.fitted[:, 0],
        "verifier": measured["verifier"] - outcome.fitted[:, 1],
    }
