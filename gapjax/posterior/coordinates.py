"""From coordinates that the data determine to the numbers of the theory.

A short curve says little about its limit and its rate, but much about its first and its
last values, whatever the two are.  The sampler therefore moves in

    log U_s(0),  log U_s(T),  a,  log U_v(0),  logit w      (0 < w < 1)

`w` sets `ρ` between 0 and the largest value, at most 1, that keeps `U_v(T)` positive.  The
fraction of the way that remains at the last checkpoint `T` is

    r = exp(−e)·min(1, U_s(T)/U_s(0), U_v(T)/U_v(0)),    e = soft_positive(a)

and the limits are `(U(T) − r·U(0))/(1 − r)`, which the bound on `r` keeps positive, as
uncertainties are.  (Under the exponential law `e` is the excess of `γT` over the least that
positive limits allow.)

Priors are put on the numbers of the theory, which do not mention `T`; the density in the
coordinates is theirs times the Jacobian.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

BASE_COORDINATES = ("log_first", "log_last", "excess", "log_verifier", "logit_w")

_SOFTNESS = 0.1  # s above

# (logarithm of the fraction remaining at the last checkpoint, ρ) -> rate per epoch.
RateOf = Callable[[Float[Array, ""], Float[Array, ""]], Float[Array, ""]]


class Numbers(NamedTuple):
    """What a law starts from, uncertainties in units of the curve's scale.

    - `solver0`, `verifier0`: at the first checkpoint.
    - `solver_limit`: `U_s∞`.
    - `rate`: `γ` per epoch.
    - `rho`: `ρ = β/α`.
    """

    solver0: Float[Array, ""]
    verifier0: Float[Array, ""]
    solver_limit: Float[Array, ""]
    rate: Float[Array, ""]
    rho: Float[Array, ""]

    @property
    def log_largest_rho(self) -> Float[Array, ""]:
        """Logarithm of the largest `ρ`, at most 1, that leaves `U_v∞` positive."""
        return _log_largest_rho(self.verifier0, self.solver0 - self.solver_limit)

    @property
    def gap_limit(self) -> Float[Array, ""]:
        """`G∞ = G0 − (1 − ρ)(U_s0 − U_s∞)`."""
        way = self.solver0 - self.solver_limit
        return self.solver0 - self.verifier0 - (1 - self.rho) * way


def to_numbers(x: Float[Array, " numbers"], rate_of: RateOf) -> tuple[Numbers, Float[Array, ""]]:
    """The numbers at coordinates `x`, and `log|∂numbers/∂x|`."""
    log_first, log_last, excess, log_verifier, logit_w = x
    first, last, verifier = jnp.exp(log_first), jnp.exp(log_last), jnp.exp(log_verifier)
    log_w = jax.nn.log_sigmoid(logit_w)
    log_rho = log_w + _log_largest_rho(verifier, first - last)
    rho = jnp.exp(log_rho)
    log_verifier_ratio = jnp.log1p(-rho * (first - last) / verifier)
    log_bound = jnp.minimum(0.0, jnp.minimum(log_last - log_first, log_verifier_ratio))
    e, log_e_slope = soft_positive(excess)
    log_r = log_bound - e
    rate, slope = jax.jvp(lambda log_r: rate_of(log_r, rho), (log_r,), (jnp.ones_like(log_r),))
    lost = -jnp.expm1(log_r)  # 1 − r, exact where r is near 1
    numbers = Numbers(first, verifier, (last - jnp.exp(log_r) * first) / lost, rate, rho)
    # The Jacobian is triangular once the rows of ρ and γ have cleared the others.
    log_det = (
        (log_first + log_verifier)
        + (log_last - jnp.log(lost))  # ∂U_s∞ at fixed r
        + (log_e_slope + jnp.log(jnp.abs(slope)))  # ∂γ
        + (log_rho + jax.nn.log_sigmoid(-logit_w))  # ∂ρ
    )
    return numbers, log_det


def soft_positive(x: Float[Array, ""]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """A positive number, `exp(s·softplus(x/s)) − 1`, and the logarithm of its slope.

    Exponential below `s` and above 1, about linear between.  What is positive and bounded
    above by the data is spread evenly down to zero; on a logarithmic scale that is a long
    tail before a wall, which costs the sampler divergences.
    """
    log_1p = _SOFTNESS * jax.nn.softplus(x / _SOFTNESS)
    return jnp.expm1(log_1p), log_1p + jax.nn.log_sigmoid(x / _SOFTNESS)


def soft_coordinate(value: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """The inverse of `soft_positive`."""
    return _SOFTNESS * jnp.log(jnp.expm1(jnp.log1p(value) / _SOFTNESS))


def _log_largest_rho(verifier: Float[Array, ""], way: Float[Array, ""]) -> Float[Array, ""]:
    """Logarithm of the largest `ρ ≤ 1` with `verifier − ρ·way ≥ 0`."""
    return jnp.minimum(0.0, jnp.log(verifier) - jnp.log(jnp.maximum(way, 1e-12)))
