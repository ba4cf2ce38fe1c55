"""Laws of motion of the two uncertainties, in the numbers that a curve can tell.

Rescaling the raw coefficients (α, β, k, b) leaves every curve as it is, so laws are
written in `U_s0, U_v0, γ, ρ = β/α, G∞`.  Time counts from the checkpoint at which `U_s0`
and `U_v0` hold, in epochs; uncertainties are in nats (arXiv:2507.00075, sections 3-4).
"""

from __future__ import annotations

import abc
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from gapjax.dynamics.potentials import Scalar
from gapjax.errors import UserError


class Limit(NamedTuple):
    """Where training leads, in nats: `U_s∞`, `U_v∞` and `G∞ = U_s∞ − U_v∞`."""

    solver: Float[Array, ""]
    verifier: Float[Array, ""]
    gap: Float[Array, ""]


class AbstractLaw(eqx.Module):
    """A law: where the uncertainties are at any time, and where they end."""

    @abc.abstractmethod
    def solver(self, t: Float[Array, "*time"]) -> Float[Array, "*time"]:
        """`U_s(t)` in nats, `t` in epochs."""

    @abc.abstractmethod
    def verifier(self, t: Float[Array, "*time"]) -> Float[Array, "*time"]:
        """`U_v(t)` in nats, `t` in epochs."""

    @property
    @abc.abstractmethod
    def limit(self) -> Limit:
        """The limits as `t → ∞`."""

    @abc.abstractmethod
    def vector_field(self, state: Float[Array, " pair"]) -> Float[Array, " pair"]:
        """The velocity at `state = (U_s, U_v)`, nats per epoch."""

    def gap(self, t: Float[Array, "*time"]) -> Float[Array, "*time"]:
        """`G(t) = U_s(t) − U_v(t)` in nats."""
        return self.solver(t) - self.verifier(t)


class AbstractApproach(AbstractLaw):
    """A law under which the solver approaches its limit steadily from `solver0`."""

    solver0: eqx.AbstractVar[Scalar]

    @abc.abstractmethod
    def remaining(self, t: Float[Array, "*time"]) -> Float[Array, "*time"]:
        """`D(t)`: the part of the solver's way that is still ahead, from 1 to 0."""

    @abc.abstractmethod
    def time_to_remaining(self, fraction: Float[Array, ""]) -> Float[Array, ""]:
        """Epochs until the part `fraction`, in (0, 1], of the way remains."""

    def time_to_within(self, tolerance: Scalar) -> Float[Array, ""]:
        """Epochs until `U_s` stays within `tolerance` nats of its limit.

        For the exponential law this is the paper's `t_ε = ln(|α·δ/(α−β)|/ε)/γ`.
        """
        way = jnp.abs(self.solver0 - self.limit.solver)
        return self.time_to_remaining(jnp.minimum(tolerance / way, 1.0))


class AbstractRelaxation(AbstractApproach):
    """Laws under which all three series keep the same remaining fraction `D(t)`:

        G = G∞ + (G0 − G∞)·D,   U_s = U_s∞ + (U_s0 − U_s∞)·D,   U_v likewise

    with `U_s∞ = U_s0 − (G0 − G∞)/(1 − ρ)` and `U_v∞ = U_s∞ − G∞`.

    - `solver0`, `verifier0`: uncertainties at `t = 0`, nats.
    - `rate`: `γ`, the relative speed at `t = 0`, per epoch, positive.
    - `rho`: `β/α`, below 1: the verifier's share of the solver's improvement.
    - `gap_limit`: `G∞`, nats.
    """

    solver0: Scalar
    verifier0: Scalar
    rate: Scalar
    rho: Scalar
    gap_limit: Scalar

    @property
    @abc.abstractmethod
    def potential_exponent(self) -> Scalar:
        """`q` of the potential `E ∝ (G − G∞)^(1+q)`."""

    @property
    def limit(self) -> Limit:
        gap = jnp.asarray(self.gap_limit)
        solver = self.solver0 - (self.solver0 - self.verifier0 - gap) / (1 - self.rho)
        return Limit(solver, solver - gap, gap)

    def depth(self, t: Float[Array, "*time"]) -> Float[Array, "*time"]:
        """`−log D(t)`: time constants covered; `γ·t` under the exponential law."""
        return relaxation_depth(self.rate * t, self.potential_exponent)

    def remaining(self, t: Float[Array, "*time"]) -> Float[Array, "*time"]:
        return jnp.exp(-self.depth(t))

    def time_to_remaining(self, fraction: Float[Array, ""]) -> Float[Array, ""]:
        return fraction_time(fraction, self.potential_exponent) / self.rate

    def solver(self, t: Float[Array, "*time"]) -> Float[Array, "*time"]:
        limit = self.limit.solver
        return limit + (self.solver0 - limit) * self.remaining(t)

    def verifier(self, t: Float[Array, "*time"]) -> Float[Array, "*time"]:
        limit = self.limit.verifier
        return limit + (self.verifier0 - limit) * self.remaining(t)

    def vector_field(self, state: Float[Array, " pair"]) -> Float[Array, " pair"]:
        # With α = 1, which only sets the unit of the potential.
        delta = self.solver0 - self.verifier0 - self.gap_limit
        distance = state[0] - state[1] - self.gap_limit
        size = jnp.abs(distance / delta) ** self.potential_exponent
        energy = self.rate / (1 - self.rho) * size * distance
        return jnp.stack([-energy, -self.rho * energy])


class Exponential(AbstractRelaxation):
    """The paper's law, `E = k·G − b`: `D(t) = exp(−γ·t)` with `γ = k(α−β)`."""

    @property
    def potential_exponent(self) -> Scalar:
        return 0.0

    @classmethod
    def from_coefficients(
        cls,
        solver0: Scalar,
        verifier0: Scalar,
        *,
        alpha: Scalar,
        beta: Scalar,
        k: Scalar,
        b: Scalar = 0.0,
    ) -> Exponential:
        """The law of `dU_s/dt = −α·E`, `dU_v/dt = −β·E`, `E = k·G − b` (α > β)."""
        return cls(solver0, verifier0, k * (alpha - beta), beta / alpha, b / k)


class Power(AbstractRelaxation):
    """`E ∝ (G − G∞)^(1+q)`: `D(t) = (1 + q·γ·t)^(−1/q)`, the exponential law at `q = 0`.

    - `exponent`: `q ≥ 0`.
    """

    exponent: Scalar = 1.0

    @property
    def potential_exponent(self) -> Scalar:
        return self.exponent


def remaining_fraction(x: Float[Array, "*time"], exponent: Scalar) -> Float[Array, "*time"]:
    """`(1 + q·x)^(−1/q)` for `x ≥ 0`, smooth in `q` down to `q = 0`, where it is `exp(−x)`."""
    return jnp.exp(-relaxation_depth(x, exponent))


def relaxation_depth(x: Float[Array, "*time"], exponent: Scalar) -> Float[Array, "*time"]:
    """`log(1 + q·x)/q` for `x ≥ 0`, smooth in `q` down to `q = 0`, where it is `x`."""
    y = jnp.asarray(exponent * x)
    small = jnp.abs(y) < 1e-4
    safe = jnp.where(small, 1.0, y)
    # log(1+y)/y, by its series near 0 so that values and gradients stay exact.
    ratio = jnp.where(
        small, 1 - y * (1 / 2 - y * (1 / 3 - y * (1 / 4 - y / 5))), jnp.log1p(safe) / safe
    )
    return x * ratio


def fraction_time(fraction: Float[Array, "*batch"], exponent: Scalar) -> Float[Array, "*batch"]:
    """The `x` at which `remaining_fraction(x, exponent)` is `fraction`, in (0, 1]."""
    return depth_time(-jnp.log(fraction), exponent)


def depth_time(depth: Float[Array, "*batch"], exponent: Scalar) -> Float[Array, "*batch"]:
    """The `x` at which `remaining_fraction(x, exponent)` is `exp(−depth)`."""
    y = jnp.asarray(exponent * depth)
    small = jnp.abs(y) < 1e-4
    safe = jnp.where(small, 1.0, y)
    ratio = jnp.where(
        small, 1 + y * (1 / 2 + y * (1 / 6 + y * (1 / 24 + y / 120))), jnp.expm1(safe) / safe
    )
    return depth * ratio


def check_coefficients(alpha: float, beta: float, k: float) -> None:
    """Raise `UserError` unless `α > β ≥ 0` and `k > 0`, without which there is no limit."""
    if not beta >= 0:
        raise UserError(f"beta is {beta:g} but must not be negative")
    if not alpha > beta:
        raise UserError(
            f"alpha ({alpha:g}) must be larger than beta ({beta:g})",
            hint="otherwise the gap never closes and there is no limit",
        )
    if not k > 0:
        raise UserError(f"k is {k:g} but must be positive")
