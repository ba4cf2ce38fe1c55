"""External examples from a stronger model, spread over the rounds (cross-improvement).

They act through verification alone: at round `t` the verifier's uncertainty drops to
`U_v/(1 + γ_x·η_t)`, where `η_t` is the share of the examples used in that round
(arXiv:2507.00075, section 5).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from gapjax.dynamics.potentials import Scalar
from gapjax.errors import UserError


class External(eqx.Module):
    """When external data is used, and how strongly it acts.

    - `rounds`: increasing rounds (epochs) at which the verifier jumps.
    - `shares`: `η_t` for each of them; non-negative, at most 1 in total.
    - `strength`: `γ_x` for each of them.
    """

    rounds: tuple[int, ...] = eqx.field(static=True)
    shares: Float[ArrayLike, " jumps"]
    strength: Float[ArrayLike, " jumps"]

    @property
    def factors(self) -> Float[Array, " jumps"]:
        """What each jump multiplies `U_v` with: `1/(1 + γ_x·η_t)`."""
        return 1 / (1 + jnp.asarray(self.strength) * jnp.asarray(self.shares))


def external(
    shares: Mapping[int, float], strength: float | Callable[[int], float], *, last_round: int
) -> External:
    """External data with given shares.

    **Arguments:**

    - `shares`: round to share, for instance `{2: 0.5, 5: 0.5}`.
    - `strength`: `γ_x`, a number or a function of the round.
    - `last_round`: the length of the run.

    **Raises:** `UserError` if shares are negative or sum above 1, if a round lies outside
    the run, or if a strength is not positive.
    """
    for number, share in shares.items():
        if not 0 <= number <= last_round:
            raise UserError(f"external data at round {number}, outside the run (0 to {last_round})")
        if not share >= 0:
            raise UserError(f"share {share:g} of round {number} is negative")
    total = math.fsum(shares.values())
    if total > 1 + 1e-9:
        raise UserError(f"shares of external data sum to {total:g}", hint="at most 1 is there")
    rounds = sorted(shares)
    strengths = [strength(t) if callable(strength) else strength for t in rounds]
    for number, value in zip(rounds, strengths, strict=True):
        if not (value > 0 and math.isfinite(value)):
            raise UserError(f"strength gamma_x is {value:g} at round {number}, must be positive")
    return External(tuple(rounds), np.array([shares[t] for t in rounds]), np.array(strengths))


def early(rounds: int) -> dict[int, float]:
    """All data in the first round."""
    return {1: 1.0} | dict.fromkeys(range(2, rounds + 1), 0.0)


def uniform(rounds: int) -> dict[int, float]:
    """The same share in every round."""
    return dict.fromkeys(range(1, rounds + 1), 1 / rounds)


def late(rounds: int) -> dict[int, float]:
    """All data in the last round but one, so that one round is left to use it."""
    return dict.fromkeys(range(1, rounds + 1), 0.0) | {max(rounds - 1, 1): 1.0}


def exponential_decay(strength: Scalar, per_round: float) -> Callable[[int], float]:
    """A strength that decays by the factor `exp(−per_round)` each round."""
    return lambda t: float(strength) * math.exp(-per_round * t)
