"""Proper scores of a forecast given as draws."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy import stats

COVERAGES = (50, 80, 90)
_KERNEL = stats.t(4)  # heavy tails: a single surprise must not decide a comparison


def crps(
    draws: Float[np.ndarray, "draws time"], truth: Float[np.ndarray, " time"]
) -> Float[np.ndarray, " time"]:
    """Continuous ranked probability score, `E|X − y| − E|X − X'|/2`, in the unit of `truth`."""
    x = np.sort(draws, axis=0)
    n = len(x)
    # E|X − X'|/2 of a sorted sample in n log n rather than n² operations.
    weights = (2 * np.arange(1, n + 1) - n - 1)[:, None]
    return np.mean(np.abs(x - truth), axis=0) - np.sum(weights * x, axis=0) / n**2


def log_score(
    draws: Float[np.ndarray, "draws time"], truth: Float[np.ndarray, " time"]
) -> Float[np.ndarray, " time"]:
    """Minus the log predictive density (nats; lower is better).

    The density is a kernel estimate from the draws: Student-t kernels with 4 degrees of
    freedom and Silverman's bandwidth.
    """
    n = len(draws)
    spread = np.minimum(draws.std(axis=0), stats.iqr(draws, axis=0) / 1.34)
    tiny = 1e-9 * (1 + np.abs(truth))
    bandwidth = np.maximum(0.9 * spread * n**-0.2, tiny)
    density = np.mean(_KERNEL.pdf((truth - draws) / bandwidth), axis=0) / bandwidth
    return -np.log(density)


def covered(
    draws: Float[np.ndarray, "draws time"], truth: Float[np.ndarray, " time"], percent: int
) -> np.ndarray:
    """Whether each value lies in the central interval that holds `percent` of the draws."""
    low, high = np.quantile(draws, [0.5 - percent / 200, 0.5 + percent / 200], axis=0)
    return (low <= truth) & (truth <= high)
