"""The phase plane: `U_v` against `U_s`, without time.

Whatever the potential, constant (α, β) make the path a straight line of slope `ρ = β/α`.
A bend contradicts them, and with them every law that has one `ρ`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

from gapjax.posterior.base import NOISE_FLOOR
from gapjax.trajectories import Curve

_CONTRADICTED = 0.01
_MIN_CHECKPOINTS = 6
_SURE = 4.0  # standard errors, as neighbours may go together
_EXACT = 1e-9


class PhasePlane(NamedTuple):
    """A parabola through the path, and whether it is needed.

    - `coefficients`: of `U_v = c0 + c1·U_s + c2·U_s²` (nats).
    - `slope_start`, `slope_end`: `dU_v/dU_s` at the first and the last checkpoint.
    - `p_value`: of the quadratic term (F test); 1 where the path is too short to tell.
    - `line`: slope of a straight line and its standard error.
    """

    coefficients: tuple[float, float, float]
    slope_start: float
    slope_end: float
    p_value: float
    line: tuple[float, float]

    @property
    def opposite(self) -> str | None:
        """One sentence if one uncertainty clearly rises while the other falls."""
        slope, error = self.line
        if not slope + _SURE * error < 0:
            return None
        return (
            f"the uncertainties of solver and verifier move apart or together (dU_v/dU_s = "
            f"{slope:.2f}), where couplings alpha, beta >= 0 have both rise or both fall"
        )

    @property
    def contradicts_constant_coupling(self) -> bool:
        """Whether the path is clearly no straight line."""
        return self.p_value < _CONTRADICTED

    @property
    def warning(self) -> str | None:
        """One sentence if constant (α, β) is contradicted."""
        if not self.contradicts_constant_coupling:
            return None
        p = f"= {self.p_value:.3f}" if self.p_value >= 0.001 else "< 0.001"
        return (
            f"the phase plane bends (dU_v/dU_s from {self.slope_start:.2f} to "
            f"{self.slope_end:.2f}, p {p}), which contradicts constant (alpha, beta)"
        )


def phase_plane(curve: Curve) -> PhasePlane:
    """Fit a line and a parabola to `U_v` against `U_s` and compare them."""
    x, y = curve.solver, curve.verifier
    if np.ptp(x) <= _EXACT * np.max(np.abs(x)):  # no line goes through one point
        return PhasePlane((float(np.mean(y)), 0.0, 0.0), 0.0, 0.0, 1.0, (0.0, 0.0))
    linear, quadratic = np.polynomial.Polynomial.fit(x, y, 1), np.polynomial.Polynomial.fit(x, y, 2)
    rss = [float(np.sum((y - fit(x)) ** 2)) for fit in (linear, quadratic)]
    freedom = len(x) - 3
    p_value = 1.0
    # What is straight to all digits that measurements have does not bend in those beyond.
    bends = rss[0] > len(x) * (NOISE_FLOOR * np.max(np.abs([x, y]))) ** 2
    if len(x) >= _MIN_CHECKPOINTS and bends and rss[1] > 0:
        p_value = float(stats.f.sf((rss[0] - rss[1]) / (rss[1] / freedom), 1, freedom))
    line = stats.linregress(x, y)
    slope = quadratic.deriv()
    c = np.pad(quadratic.convert().coef, (0, 2))[:3]
    return PhasePlane(
        (float(c[0]), float(c[1]), float(c[2])),
        float(slope(x[0])),
        float(slope(x[-1])),
        p_value,
        (float(line.slope), float(line.stderr)),
    )
