"""Families of laws that can be fitted, by name.

A family turns the five numbers, and its own shape parameters if it has any, into a law.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float, Key

from gapjax.dynamics.alternatives import CurvedCoupling
from gapjax.dynamics.laws import AbstractApproach, Exponential, Power, depth_time
from gapjax.posterior.coordinates import Numbers, soft_coordinate, soft_positive


@dataclass(frozen=True)
class Family(abc.ABC):
    """What the posterior needs to know about a law."""

    name: str
    bends: bool = False  # whether the path in the phase plane may be curved

    @property
    @abc.abstractmethod
    def coordinates(self) -> tuple[str, ...]:
        """Names of the unconstrained shape coordinates."""

    @abc.abstractmethod
    def rate_of(
        self,
        log_r: Float[Array, ""],
        rho: Float[Array, ""],
        span: Float[Array, ""],
        x: Float[Array, " shape"],
    ) -> Float[Array, ""]:
        """The rate at which the fraction `exp(log_r)` of the way remains after `span` epochs."""

    @abc.abstractmethod
    def build(self, numbers: Numbers, x: Float[Array, " shape"]) -> AbstractApproach:
        """The law with these numbers."""

    @abc.abstractmethod
    def shape(self, x: Float[Array, " shape"]) -> dict[str, Float[Array, ""]]:
        """The shape parameters by name."""

    @abc.abstractmethod
    def log_prior(self, x: Float[Array, " shape"]) -> Float[Array, ""]:
        """Log-density of the prior on the shape coordinates."""

    @abc.abstractmethod
    def from_prior(self, key: Key[Array, ""]) -> Float[Array, " shape"]:
        """Shape coordinates drawn from their prior."""


class ExponentialFamily(Family):
    """The paper's law; no shape parameter."""

    @property
    def coordinates(self) -> tuple[str, ...]:
        return ()

    def rate_of(
        self,
        log_r: Float[Array, ""],
        rho: Float[Array, ""],
        span: Float[Array, ""],
        x: Float[Array, " shape"],
    ) -> Float[Array, ""]:
        return -log_r / span

    def build(self, numbers: Numbers, x: Float[Array, " shape"]) -> AbstractApproach:
        return Exponential(
            numbers.solver0, numbers.verifier0, numbers.rate, numbers.rho, numbers.gap_limit
        )

    def shape(self, x: Float[Array, " shape"]) -> dict[str, Float[Array, ""]]:
        return {}

    def log_prior(self, x: Float[Array, " shape"]) -> Float[Array, ""]:
        return jnp.zeros(())

    def from_prior(self, key: Key[Array, ""]) -> Float[Array, " shape"]:
        return jnp.zeros(0)


class PowerFamily(Family):
    """The potential `(G − G∞)^(1+q)` with `q ~ Exponential(1)`, softly positive."""

    @property
    def coordinates(self) -> tuple[str, ...]:
        return ("exponent",)

    def rate_of(
        self,
        log_r: Float[Array, ""],
        rho: Float[Array, ""],
        span: Float[Array, ""],
        x: Float[Array, " shape"],
    ) -> Float[Array, ""]:
        return depth_time(-log_r, soft_positive(x[0])[0]) / span

    def build(self, numbers: Numbers, x: Float[Array, " shape"]) -> AbstractApproach:
        return Power(
            numbers.solver0,
            numbers.verifier0,
            numbers.rate,
            numbers.rho,
            numbers.gap_limit,
            soft_positive(x[0])[0],
        )

    def shape(self, x: Float[Array, " shape"]) -> dict[str, Float[Array, ""]]:
        return {"exponent": soft_positive(x[0])[0]}

    def log_prior(self, x: Float[Array, " shape"]) -> Float[Array, ""]:
        q, log_slope = soft_positive(x[0])
        return dist.Exponential(1.0).log_prob(q) + log_slope

    def from_prior(self, key: Key[Array, ""]) -> Float[Array, " shape"]:
        return soft_coordinate(jax.random.exponential(key, (1,)))


class CurvedFamily(Family):
    """A coupling that changes along the way: `ρ(1 ∓ bend)`, or as far as (0, 1) allows.

    `numbers.rho` is the mean coupling, so that the limits are those of the exponential
    law; `bend ~ Uniform(−1, 1)`, with its inverse hyperbolic tangent as the coordinate.
    """

    @property
    def coordinates(self) -> tuple[str, ...]:
        return ("atanh_bend",)

    def _ends(
        self, rho: Float[Array, ""], x: Float[Array, " shape"]
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        reach = jnp.tanh(x[0]) * jnp.minimum(rho, 1 - rho)
        return rho - reach, rho + reach

    def rate_of(
        self,
        log_r: Float[Array, ""],
        rho: Float[Array, ""],
        span: Float[Array, ""],
        x: Float[Array, " shape"],
    ) -> Float[Array, ""]:
        # The time scales with the rate: that of a law with rate 1, over the span.
        start, end = self._ends(rho, x)
        unit = CurvedCoupling(1.0, 0.0, 1.0, start, 0.0, end)
        return unit.time_to_depth(-log_r) / span

    def build(self, numbers: Numbers, x: Float[Array, " shape"]) -> AbstractApproach:
        start, end = self._ends(numbers.rho, x)
        return CurvedCoupling(
            numbers.solver0, numbers.verifier0, numbers.rate, start, numbers.gap_limit, end
        )

    def shape(self, x: Float[Array, " shape"]) -> dict[str, Float[Array, ""]]:
        return {"bend": jnp.tanh(x[0])}

    def log_prior(self, x: Float[Array, " shape"]) -> Float[Array, ""]:
        # log(1 − tanh²), the derivative of tanh, without loss far out.
        return 2 * (jnp.log(2.0) - x[0] - jnp.logaddexp(0.0, -2 * x[0])) - jnp.log(2.0)

    def from_prior(self, key: Key[Array, ""]) -> Float[Array, " shape"]:
        return jnp.arctanh(jax.random.uniform(key, (1,), minval=-1.0))


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        ExponentialFamily("exponential"),
        PowerFamily("power"),
        CurvedFamily("curved", bends=True),
    )
}
