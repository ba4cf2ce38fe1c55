"""Best-of-N: which candidate the verifier would hand in."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclasses.dataclass(frozen=True)
class Selection:
    """One candidate of each problem."""

    index: Int[np.ndarray, " P"]
    fell_back: Bool[np.ndarray, " P"]  # no candidate passed, so others were considered


def best_of_n(
    scores: Float[np.ndarray, "P N"],
    uncertainties: Float[np.ndarray, "P N"],
    lengths: Int[np.ndarray, "P N"],
    *,
    threshold: float,
    eligible: Bool[np.ndarray, "P N"],
) -> Selection:
    """The eligible candidate with `score ≥ threshold` and the least uncertainty a token.

    Where no eligible candidate passes, any eligible one is considered, and where there is none,
    all are.

    **Arguments:**

    - `scores`: the verifier's, in [0, 1].
    - `uncertainties`: total negative log-likelihoods (nats).
    - `lengths`: tokens.
    - `threshold`: σ.
    - `eligible`: which may be chosen, as those that came to an end (`gapjax.generation.Samples`).

    Ties go to the earlier candidate. Source: arXiv:2507.00075, best-of-N verification.
    """
    passed = np.asarray(scores >= threshold) & eligible
    fell_back = np.logical_not(passed.any(axis=1))
    considered = passed | (fell_back[:, None] & eligible)
    considered |= np.logical_not(considered.any(axis=1, keepdims=True))
    index = np.where(considered, uncertainties / lengths, np.inf).argmin(axis=1)
    return Selection(index, fell_back)
