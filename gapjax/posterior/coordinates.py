"""From coordinates that the data determine to the numbers of the theory, and back.

A short curve says little about its limit and its rate, but much about its first and its
last value, whatever the two are.  The sampler therefore moves in

    log U_s(0),  log U_s(T),  log e,  log U_v(0),  logit w      (e > 0, 0 < w < 1)

where `r = exp(−e)·min(1, U_s(T)/U_s(0))` is the fraction of the way that remains at the
last checkpoint `T`.  The limit is `U_s∞ = (U_s(T) − r·U_s(0))/(1 − r)`, which the bound on
`r` keeps positive, as an uncertainty is.  (Under the exponential law `e` is the excess of
`γT` over the smallest value that a positive limit allows.)  `w` is `ρ` as a share of the
largest value, at most 1, that keeps `U_v∞` positive too.  Priors are put on the numbers of
the theory, which do not mention `T`; the density in the coordinates is theirs times the
Jacobian.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

BASE_COORDINATES = ("log_first", "log_last", "log_excess", "log_verifier", "logit_w")

# Logarithm of the fraction remaining at the last checkpoint -> rate per epoch.
RateOf = Callable[[Float[Array, ""]], Float[Array, ""]]


class Numbers(NamedTuple):
    """What a law starts from, uncertainties in units of the curve's scale.

    - `solver0`, `verifier0`: at the first checkpoint.
    - `solver_limit`: `U_s∞`.
    - `rate`: `γ` per epoch.
    - `share`: `w`, the verifier's share of its admissible range.
    """

    solver0: Float[Array, ""]
    verifier0: Float[Array, ""]
    solver_limit: Float[Array, ""]
    rate: Float[Array, ""]
    share: Float[Array, ""]

    @property
    def largest_rho(self) -> Float[Array, ""]:
        """The largest `ρ`, at most 1, that leaves `U_v∞` positive."""
        way = self.solver0 - self.solver_limit
        return jnp.where(way > self.verifier0, self.verifier0 / jnp.maximum(way, 1e-12), 1.0)

    @property
    def rho(self) -> Float[Array, ""]:
        """`ρ = β/α`."""
        return self.share * self.largest_rho

    @property
    def gap_limit(self) -> Float[Array, ""]:
        """`G∞ = G0 − (1 − ρ)(U_s0 − U_s∞)`."""
        way = self.solver0 - self.solver_limit
        return self.solver0 - self.verifier0 - (1 - self.rho) * way


def to_numbers(x: Float[Array, 5], rate_of: RateOf) -> tuple[Numbers, Float[Array, ""]]:
    """The numbers at coordinates `x`, and `log|∂numbers/∂x|`."""
    log_first, log_last, log_excess, log_verifier, logit_w = x
    log_bound = jnp.minimum(0.0, log_last - log_first)
    log_r = log_bound - jnp.exp(log_excess)
    log_w = jax.nn.log_sigmoid(logit_w)
    first, last = jnp.exp(log_first), jnp.exp(log_last)
    rate, slope = jax.jvp(rate_of, (log_r,), (jnp.ones_like(log_r),))
    numbers = Numbers(
        solver0=first,
        verifier0=jnp.exp(log_verifier),
        solver_limit=(last - jnp.exp(log_r) * first) / -jnp.expm1(log_r),
        rate=rate,
        share=jnp.exp(log_w),
    )
    log_det = (
        # (log first, log last, log e) -> (solver0, solver_limit, rate): triangular in r.
        log_first
        + log_last
        - jnp.log(-jnp.expm1(log_r))
        + jnp.log(jnp.abs(slope))
        + log_excess
        # and the two that stand alone
        + log_verifier
        + log_w
        + jax.nn.log_sigmoid(-logit_w)
    )
    return numbers, log_det
