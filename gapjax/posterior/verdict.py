"""Whether a posterior may be believed, and whether the curve tells its limit at all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from arviz_stats.base import array_stats
from jaxtyping import Float

# With 10 checkpoints the limit's standard error is 28, 7, 2 and 1 times the noise when the
# curve covers 0.5, 1, 2 and 3 time constants; below 1.6 it is an extrapolation.
TIME_CONSTANTS = 1.6
_CONFIDENCE = 0.9
_CONTRADICTED = 0.01
_DIVERGING = 1 / 200
_RESTLESS = 0.5
_FAR_AWAY = 20.0  # in lengths of the curve
# Words by which a reason is known to tell of residuals, and of the second opinion.
PATTERN = "follow a pattern"
SECOND_OPINION = "the stochastic dynamics put"


@dataclass(frozen=True)
class Diagnostics:
    """The sampler's own account; the gate is R̂ < 1.01, ESS > 400, E-BFMI > 0.3, few divergences.

    Few are fewer than one in two hundred transitions: scattered ones are found in many posteriors
    of short curves that are right by every other measure, and in simulation-based calibration.

    Fields are `None` where nothing was sampled (`method="map"`), the last two also where
    the sampler has no such thing (`method="smc"`).
    """

    r_hat_max: float | None = None
    ess_bulk_min: float | None = None
    ess_tail_min: float | None = None
    divergences: int | None = None
    e_bfmi_min: float | None = None
    transitions: int | None = None

    @classmethod
    def of(
        cls,
        x: Float[np.ndarray, "chains draws coordinates"],
        stats: Mapping[str, Float[np.ndarray, "chains draws"]],
    ) -> Diagnostics:
        """Diagnostics over all coordinates of one curve; `stats` under ArviZ's names."""
        by_coordinate = np.moveaxis(x, -1, 0)
        hamiltonian = "energy" in stats
        return cls(
            r_hat_max=float(np.max(array_stats.rhat(by_coordinate))),
            ess_bulk_min=float(np.min(array_stats.ess(by_coordinate, method="bulk"))),
            ess_tail_min=float(np.min(array_stats.ess(by_coordinate, method="tail", prob=0.9))),
            divergences=int(stats["diverging"].sum()) if hamiltonian else None,
            e_bfmi_min=float(np.min(array_stats.bfmi(stats["energy"]))) if hamiltonian else None,
            transitions=int(stats["diverging"].size) if hamiltonian else None,
        )

    def to_dict(self) -> dict[str, float | int | None]:
        """As in `summary.json`."""
        table = asdict(self)
        del table["transitions"]
        return table

    @property
    def failures(self) -> tuple[str, ...]:
        """What fails the gate, in words; empty if the chains may be believed."""
        if self.r_hat_max is None or self.ess_bulk_min is None or self.ess_tail_min is None:
            return ()
        ess, e_bfmi = min(self.ess_bulk_min, self.ess_tail_min), self.e_bfmi_min
        checks = (
            (self.r_hat_max < 1.01, f"R-hat is {self.r_hat_max:.3f}"),
            (ess > 400, f"effective sample size is {ess:.0f}"),
            (e_bfmi is None or e_bfmi > 0.3, f"E-BFMI is {e_bfmi or 0:.2f}"),
            (
                (self.divergences or 0) <= _DIVERGING * (self.transitions or 0),
                f"{self.divergences} of {self.transitions} transitions diverged",
            ),
        )
        return tuple(text for passed, text in checks if not passed)


@dataclass(frozen=True)
class Verdict:
    """Whether the limit is identified, and why (not)."""

    identified: bool
    reason: str


def judge(
    *,
    law: str,
    covered: Float[np.ndarray, " draws"],
    needed: Float[np.ndarray, " draws"],
    unrest: Float[np.ndarray, " draws"],
    time: str,
    first_epoch: float,
    last_epoch: float,
    pattern: Float[np.ndarray, " draws"],
    pattern_by_chance: Float[np.ndarray, " draws"],
    bend: str | None,
    opposite: str | None,
    disagreement: str | None,
    failures: tuple[str, ...],
) -> Verdict:
    """Say whether one curve identifies its limit.

    **Arguments:**

    - `time`: what times are in, as "epoch".
    - `covered`: posterior draws of the time constants covered, `γT` or its like.
    - `needed`: posterior draws of the epochs after which `TIME_CONSTANTS` are covered.
    - `unrest`: posterior draws of the probability that over another span the limit is
      pushed by a quarter of the way that the law goes.
    - `pattern`, `pattern_by_chance`: sign agreement of neighbouring residuals and that of
      replicated noise, draw by draw (a posterior predictive check of the law).
    - `bend`: a sentence if the phase plane contradicts the law's constant coupling.
    - `opposite`: a sentence if the two series contradict any coupling of the law.
    - `disagreement`: a sentence if another law puts the limit elsewhere.
    - `failures`: of the convergence gate.
    """
    if failures:
        return Verdict(False, f"the sampler did not converge: {'; '.join(failures)}")
    if opposite:
        return Verdict(False, f"not identified: {opposite}")
    span = last_epoch - first_epoch
    confidence = float(np.mean(covered > TIME_CONSTANTS))
    low, middle, high = np.quantile(covered, [0.05, 0.5, 0.95])
    constants = f"{middle:.1f} time constants (90% interval {low:.1f} to {high:.1f})"
    if confidence <= _CONFIDENCE:
        more = float(np.quantile(needed, _CONFIDENCE))
        advice = (
            f"train at least to {time} {math.ceil(first_epoch + more)}"
            if more < _FAR_AWAY * span
            else f"no limit is in sight within {_FAR_AWAY:.0f} times the training so far"
        )
        return Verdict(
            False,
            f"not identified, {advice}: the curve covers {constants}, "
            f"P(more than {TIME_CONSTANTS}) = {confidence:.2f} is below {_CONFIDENCE}",
        )
    moved = float(np.mean(unrest))
    if moved > _RESTLESS:
        return Verdict(
            False,
            "not identified: this run is pushed about, and the probability that over as long "
            f"a time again its limit moves by a quarter of the way is {moved:.2f}",
        )
    also = "".join(f"; {text}" for text in (bend, disagreement) if text)
    chance = float(np.mean(pattern_by_chance >= pattern))
    if chance < _CONTRADICTED:
        return Verdict(
            False,
            f"not identified: the {law} law does not describe this curve, its residuals "
            f"{PATTERN} ({(1 + np.median(pattern)) / 2:.0%} of neighbours lie on the same "
            f"side, predictive p {_p_value(chance)}), so the interval of its limit is too "
            f"narrow{also}",
        )
    if also:
        return Verdict(False, f"not identified, although the curve covers {constants}{also}")
    return Verdict(True, f"identified: the curve covers {constants}")


def disagreement(
    limit: Float[np.ndarray, " draws"], other: Float[np.ndarray, " other_draws"]
) -> str | None:
    """A sentence if the stochastic dynamics do not believe in a law's solver limit (nats).

    They hold the law as a special case, so their interval is the wider; they disagree if
    the law's median lies outside their central 98%.
    """
    low, q05, middle, q95, high = np.quantile(other, [0.01, 0.05, 0.5, 0.95, 0.99])
    if low <= np.median(limit) <= high:
        return None
    return f"{SECOND_OPINION} the solver's limit at {middle:.3g} [{q05:.3g}, {q95:.3g}] nats"


def _p_value(p: float) -> str:
    return f"= {p:.3f}" if p >= 0.001 else "< 0.001"
