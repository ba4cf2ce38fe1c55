"""Changes of the same problems' results: harder problems are harder both times."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

SURE = 2.0  # standard errors beyond which a change is no noise


class Change(NamedTuple):
    """A share before and after, and the standard error of the difference."""

    first: float
    last: float
    error: float

    @property
    def direction(self) -> int:
        """1 up, -1 down, 0 within noise."""
        difference = self.last - self.first
        return int(np.sign(difference)) if abs(difference) > SURE * self.error else 0

    def __str__(self) -> str:
        difference = 100 * (self.last - self.first)
        return (
            f"{self.first:.1%} → {self.last:.1%} "
            f"({difference:+.1f} ± {100 * self.error:.1f} points)"
        )


def change_error(first: Float[np.ndarray, " P"], last: Float[np.ndarray, " P"]) -> float:
    """The standard error of the mean difference, over the problems known both times.

    NaN where there are fewer than two.
    """
    differences = (last - first)[~np.isnan(last - first)]
    if len(differences) < 2:
        return np.nan
    return float(differences.std(ddof=1) / np.sqrt(len(differences)))
