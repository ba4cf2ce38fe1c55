"""Which law forecasts best?  Fit the beginning of every curve, score the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats

from gapjax import trajectories
from gapjax.errors import UserError
from gapjax.posterior.catalogue import LAWS
from gapjax.posterior.fit import fit
from gapjax.posterior.forecast import predict
from gapjax.posterior.result import SERIES, measurements
from gapjax.posterior.sampling import Progress
from gapjax.posterior.scores import COVERAGES, covered, crps, log_score
from gapjax.trajectories import MIN_CHECKPOINTS, Curve, Source, Trajectories

ORIGINS = (0.5, 0.6, 0.7, 0.75, 0.8)
PERSISTENCE, MIXTURE = "persistence", "mixture"
CANDIDATES = ("exponential", "power", "stochastic", PERSISTENCE)
_DECIDED = 0.05

Draws = Mapping[str, Float[np.ndarray, "draws time"]]  # by series, nats


@dataclass(frozen=True, eq=False)
class Case:
    """A curve cut at a forecast origin.

    - `whole`: the curve; `known`: its checkpoints up to the origin.
    - `fraction`: of the checkpoints that are known.
    """

    whole: Curve
    known: Curve
    fraction: float

    @property
    def later(self) -> Float[np.ndarray, " time"]:
        """The held-out epochs."""
        return self.whole.epochs[len(self.known.epochs) :]

    def score(self, draws: Draws) -> list[dict[str, object]]:
        """One row a series: errors and scores in units of the range seen before the origin."""
        rows: list[dict[str, object]] = []
        n = len(self.known.epochs)
        for series, measured in measurements(self.whole).items():
            unit = float(np.ptp(measured[:n])) or 1.0
            x, truth = draws[series] / unit, measured[n:] / unit
            row = {
                **dict(self.whole.labels),
                "origin_fraction": self.fraction,
                "series": series,
                "n_test": len(truth),
                "crps": float(crps(x, truth).mean()),
                "log_score": float(log_score(x, truth).mean()),
                "rmse": float(np.sqrt(np.mean((np.median(x, axis=0) - truth) ** 2))),
            }
            for percent in COVERAGES:
                row[f"coverage_{percent}"] = float(covered(x, truth, percent).mean())
            rows.append(row)
        return rows


def cases_of(curves: Sequence[Curve], origins: Sequence[float] = ORIGINS) -> list[Case]:
    """Every curve cut at every origin that leaves enough on both sides.

    **Raises:** `UserError` if that leaves nothing.
    """
    for fraction in origins:
        if not 0 < fraction < 1:
            raise UserError(f"forecast origin {fraction:g} is not between 0 and 1")
    cases = []
    for curve in curves:
        total = len(curve.epochs)
        for fraction in origins:
            n = round(fraction * total)
            if MIN_CHECKPOINTS <= n < total:
                cases.append(Case(curve, curve.until(curve.epochs[n - 1]), fraction))
    if not cases:
        raise UserError(
            "no curve is long enough to hold out checkpoints",
            hint=f"{MIN_CHECKPOINTS} must lie before the origin and one after it",
        )
    return cases


def forecasts(
    cases: Sequence[Case], law: str, *, seed: int = 0, progress: Progress | None = None
) -> list[Draws]:
    """Predictive draws of the held-out checkpoints of every case under `law`."""
    if law == PERSISTENCE:
        return [_persistence(case) for case in cases]
    known = Trajectories(tuple(case.known for case in cases))
    fits = fit(known, law, seed=seed, check_laws=False, progress=progress)
    return [predict(f, case.later, seed=seed) for f, case in zip(fits, cases, strict=True)]


def normal_draws(
    mean: Float[np.ndarray, " time"], sd: Float[np.ndarray, " time"], draws: int = 2000
) -> Float[np.ndarray, "draws time"]:
    """Equally likely points of a Gaussian at each time: draws without sampling error."""
    levels = (np.arange(draws) + 0.5) / draws
    return mean + sd * stats.norm.ppf(levels)[:, None]


def _persistence(case: Case) -> Draws:
    """A random walk from the last checkpoint, with each series' own steps as its scale."""
    known = case.known
    ahead = np.sqrt(case.later - known.epochs[-1])
    draws = {}
    for series, y in measurements(known).items():
        scale = np.sqrt(np.mean(np.diff(y) ** 2 / np.diff(known.epochs)))
        draws[series] = normal_draws(np.full(len(ahead), y[-1]), scale * ahead)
    return draws


def _mixture(parts: Sequence[Draws]) -> Draws:
    """Draws of all laws in equal parts: one curve's few points are too few to weigh them."""
    n = min(len(part[SERIES[0]]) for part in parts)
    return {series: np.concatenate([part[series][:n] for part in parts]) for series in SERIES}


def compare(
    data: Trajectories | Source | Sequence[Source],
    *,
    laws: Sequence[str] = CANDIDATES,
    origins: Sequence[float] = ORIGINS,
    seed: int = 0,
    progress: Callable[[str], AbstractContextManager[Progress | None]] | None = None,
    solver_column: str = trajectories.SOLVER,
    verifier_column: str = trajectories.VERIFIER,
    group_by: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Score laws on the checkpoints after each forecast origin.

    **Arguments:**

    - `laws`: any of `gapjax.posterior.LAWS` and `"persistence"`; `"mixture"`, their equal
      mixture, is added.
    - `origins`: shares of each curve's checkpoints that are known.
    - `progress`: called with each law's name; a context manager that gives the callback of
      its fit.

    **Returns:** one row a curve, law, origin and series with `n_test`, `crps`, `log_score`
    (nats), `rmse` of the median and coverage of the central 50, 80 and 90 % intervals;
    errors in units of the range that the known checkpoints span.

    **Raises:** `UserError` for bad input, an unknown law, or curves that are too short.
    """
    for law in laws:
        if law not in (*LAWS, PERSISTENCE):
            known = ", ".join((*LAWS, PERSISTENCE))
            raise UserError(f"unknown law {law!r}", hint=f"laws are: {known}")
    curves = trajectories.read(
        data, solver_column=solver_column, verifier_column=verifier_column, group_by=group_by
    )
    cases = cases_of(list(curves), origins)
    by_law = {}
    for law in dict.fromkeys(laws):
        with progress(law) if progress else nullcontext() as report:
            by_law[law] = forecasts(cases, law, seed=seed, progress=report)
    by_law[MIXTURE] = [_mixture(parts) for parts in zip(*by_law.values(), strict=True)]
    rows = [
        {**dict(case.whole.labels), "law": law, **row}
        for law, all_draws in by_law.items()
        for case, draws in zip(cases, all_draws, strict=True)
        for row in case.score(draws)
    ]
    return pd.DataFrame(rows)


class Standing(TypedDict):
    """One law: medians of its scores and errors, means of its coverages."""

    crps: float
    log_score: float
    rmse: float
    coverage_50: float
    coverage_80: float
    coverage_90: float


class Ranking(TypedDict):
    """Laws from best to worst by median CRPS; `best` is `"undecided"` where it is a draw."""

    best: str
    ranking: list[str]
    laws: dict[str, Standing]


def verdict(scores: pd.DataFrame) -> Ranking:
    """Rank the laws of a table from `compare`.

    The best is decided if over all cases its CRPS is smaller than the next one's in a
    one-sided signed-rank test at 5 %.
    """
    by_law = scores.groupby("law", sort=False)
    crps_of = {str(law): group["crps"].to_numpy() for law, group in by_law}
    ranking = sorted(crps_of, key=lambda law: float(np.median(crps_of[law])))
    best = "undecided"
    if len(ranking) > 1:
        gain = crps_of[ranking[1]] - crps_of[ranking[0]]
        if np.any(gain) and stats.wilcoxon(gain, alternative="greater").pvalue < _DECIDED:
            best = ranking[0]
    laws: dict[str, Standing] = {}
    for law, group in by_law:
        middle, mean = group.median(numeric_only=True), group.mean(numeric_only=True)
        laws[str(law)] = {
            "crps": float(middle["crps"]),
            "log_score": float(middle["log_score"]),
            "rmse": float(middle["rmse"]),
            "coverage_50": float(mean["coverage_50"]),
            "coverage_80": float(mean["coverage_80"]),
            "coverage_90": float(mean["coverage_90"]),
        }
    return {"best": best, "ranking": ranking, "laws": laws}
