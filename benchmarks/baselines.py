"""Forecasts that anybody could make: one series at a time, least squares, Gaussian spread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from gapjax.posterior.compare import Case, normal_draws
from gapjax.posterior.result import measurements

Series = NDArray[np.float64]
_FREE = np.inf


class Forecast(NamedTuple):
    """Mean and standard deviation at the later epochs."""

    mean: Series
    sd: Series


def local_line(t: Series, y: Series, later: Series) -> Forecast:
    """A line through the last third."""
    k = max(3, len(t) // 3)
    line = np.polynomial.Polynomial.fit(t[-k:], y[-k:], 1)
    sd = np.sqrt(np.sum((line(t[-k:]) - y[-k:]) ** 2) / (k - 2))
    return Forecast(line(later), np.full(len(later), sd))


def _curve(
    f: Callable[[Series, Series], Series],
    starts: Sequence[Sequence[float]],
    low: Sequence[float],
    high: Sequence[float],
    t: Series,
    y: Series,
    later: Series,
) -> Forecast:
    """The best of several least-squares fits."""
    fits = [
        least_squares(lambda p: f(p, t - t[0]) - y, start, bounds=(low, high)) for start in starts
    ]
    best = min(fits, key=lambda fit: fit.cost)
    sd = np.sqrt(2 * best.cost / max(len(t) - len(best.x), 1))
    return Forecast(f(best.x, later - t[0]), np.full(len(later), sd))


def power_law(t: Series, y: Series, later: Series) -> Forecast:
    """`L + A·(1 + g·t)^(−p)`."""
    return _curve(
        lambda p, t: p[0] + p[1] * (1 + p[2] * t) ** -p[3],
        [(y[-1], y[0] - y[-1], g, p) for g in (0.1, 0.5, 2.0) for p in (0.5, 1.5, 5.0)],
        (-_FREE, -_FREE, 1e-3, 1e-2),
        (_FREE, _FREE, 20, 50),
        t,
        y,
        later,
    )


def one_exponential(t: Series, y: Series, later: Series) -> Forecast:
    """`L + A·exp(−g·t)`."""
    return _curve(
        lambda p, t: p[0] + p[1] * np.exp(-p[2] * t),
        [(y[-1], y[0] - y[-1], g) for g in (0.1, 0.3, 1.0)],
        (-_FREE, -_FREE, 1e-3),
        (_FREE, _FREE, 20),
        t,
        y,
        later,
    )


def two_exponentials(t: Series, y: Series, later: Series) -> Forecast:
    """`L + A·exp(−g·t) + B·exp(−h·t)`."""
    half = (y[0] - y[-1]) / 2
    return _curve(
        lambda p, t: p[0] + p[1] * np.exp(-p[2] * t) + p[3] * np.exp(-p[4] * t),
        [(y[-1], half, g, half, h) for g in (0.5, 1.5) for h in (0.05, 0.2)],
        (-_FREE, -_FREE, 1e-3, -_FREE, 1e-3),
        (_FREE, _FREE, 20, _FREE, 20),
        t,
        y,
        later,
    )


BASELINES: dict[str, Callable[[Series, Series, Series], Forecast]] = {
    "local line": local_line,
    "power law": power_law,
    "one exponential": one_exponential,
    "two exponentials": two_exponentials,
}


def baseline_forecast(case: Case, name: str) -> dict[str, NDArray[np.float64]]:
    """Draws of each series at the case's held-out epochs."""
    return {
        series: normal_draws(*BASELINES[name](case.known.epochs, y, case.later))
        for series, y in measurements(case.known).items()
    }
