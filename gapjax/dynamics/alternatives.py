"""Laws that leave the paper's constant (α, β), for curves that contradict it."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from gapjax.dynamics.laws import AbstractApproach, AbstractLaw, Limit
from gapjax.dynamics.potentials import Scalar


class CurvedCoupling(AbstractApproach):
    """The paper's linear potential with a coupling that changes along the way.

    `ρ = β/α` runs from `rho` to `rho_end` with the solver's progress
    `z = (U_s0 − U_s)/(U_s0 − U_s∞)`, so that `U_v` against `U_s` is a parabola, not a line.
    With `A = U_s0 − U_s∞` and `D = 1 − z` the gap is
    `G − G∞ = A·((1 − ρ_end)·D + (ρ_end − ρ)/2·D²)`, and `dU_s/dt ∝ −(G − G∞)` is a logistic
    equation, `D = 1/((1 + c)·exp(λt) − c)`.

    - `solver0`, `verifier0`, `gap_limit`: as in the exponential law, nats.
    - `rate`: `γ`, the solver's relative speed at `t = 0`, per epoch.
    - `rho`, `rho_end`: the coupling at the start and at the limit, both below 1.
    """

    solver0: Scalar
    verifier0: Scalar
    rate: Scalar
    rho: Scalar
    gap_limit: Scalar
    rho_end: Scalar

    @property
    def _way(self) -> Float[Array, ""]:
        mean_rho = (self.rho + self.rho_end) / 2
        return jnp.asarray((self.solver0 - self.verifier0 - self.gap_limit) / (1 - mean_rho))

    @property
    def limit(self) -> Limit:
        solver = self.solver0 - self._way
        return Limit(solver, solver - self.gap_limit, jnp.asarray(self.gap_limit))

    @property
    def _bend(self) -> Float[Array, ""]:
        return jnp.asarray((self.rho_end - self.rho) / (2 * (1 - self.rho_end)))

    def remaining(self, t: Float[Array, "*time"]) -> Float[Array, "*time"]:
        bend = self._bend
        # Written with the decaying exponential, which cannot overflow.
        decay = jnp.exp(-self.rate / (1 + bend) * t)
        return decay / (1 + bend - bend * decay)

    def time_to_remaining(self, fraction: Float[Array, ""]) -> Float[Array, ""]:
        return self.time_to_depth(-jnp.log(fraction))

    def time_to_depth(self, depth: Float[Array, ""]) -> Float[Array, ""]:
        """Epochs until `exp(−depth)` of the way remains."""
        bend = self._bend
        beyond = jnp.log1p(bend * jnp.exp(-depth)) - jnp.log1p(bend)
        return (depth + beyond) * (1 + bend) / self.rate

    def solver(self, t: Float[Array, "*time"]) -> Float[Array, "*time"]:
        return self.solver0 - self._way * (1 - self.remaining(t))

    def verifier(self, t: Float[Array, "*time"]) -> Float[Array, "*time"]:
        z = 1 - self.remaining(t)
        return self.verifier0 - self._way * z * (self.rho + (self.rho_end - self.rho) * z / 2)

    def vector_field(self, state: Float[Array, " pair"]) -> Float[Array, " pair"]:
        z = (self.solver0 - state[0]) / self._way
        mean_rho = (self.rho + self.rho_end) / 2
        energy = self.rate / (1 - mean_rho) * (state[0] - state[1] - self.gap_limit)
        return -energy * jnp.stack([jnp.ones(()), self.rho + (self.rho_end - self.rho) * z])


class TwoRate(AbstractLaw):
    """The general linear relaxation in two dimensions, with two decaying modes.

        U_s = U_s∞ + a·exp(−γ₁t) + (U_s0 − U_s∞ − a)·exp(−γ₂t),   U_v likewise with b

    - `solver0`, `verifier0`: uncertainties at `t = 0`, nats.
    - `solver_limit`, `verifier_limit`: limits, nats.
    - `rates`: the two rates `γ₁ ≠ γ₂`, per epoch.
    - `solver_fast`, `verifier_fast`: `a` and `b`, what decays with `γ₁`, nats.
    """

    solver0: Scalar
    verifier0: Scalar
    solver_limit: Scalar
    verifier_limit: Scalar
    rates: Float[Array, " modes"]
    solver_fast: Scalar
    verifier_fast: Scalar

    @property
    def limit(self) -> Limit:
        solver, verifier = jnp.asarray(self.solver_limit), jnp.asarray(self.verifier_limit)
        return Limit(solver, verifier, solver - verifier)

    def solver(self, t: Float[Array, "*time"]) -> Float[Array, "*time"]:
        slow = self.solver0 - self.solver_limit - self.solver_fast
        return self._series(t, self.solver_limit, self.solver_fast, slow)

    def verifier(self, t: Float[Array, "*time"]) -> Float[Array, "*time"]:
        slow = self.verifier0 - self.verifier_limit - self.verifier_fast
        return self._series(t, self.verifier_limit, self.verifier_fast, slow)

    def _series(
        self, t: Float[Array, "*time"], limit: Scalar, fast: Scalar, slow: Scalar
    ) -> Float[Array, "*time"]:
        return limit + fast * jnp.exp(-self.rates[0] * t) + slow * jnp.exp(-self.rates[1] * t)

    def vector_field(self, state: Float[Array, " pair"]) -> Float[Array, " pair"]:
        fast = jnp.stack([jnp.asarray(self.solver_fast), jnp.asarray(self.verifier_fast)])
        end = jnp.stack(self.limit[:2])
        start = jnp.stack([jnp.asarray(self.solver0), jnp.asarray(self.verifier0)])
        modes = jnp.stack([fast, start - end - fast], axis=-1)
        amplitudes = jnp.linalg.solve(modes, state - end)
        return -modes @ (self.rates * amplitudes)


class Persistence(AbstractLaw):
    """Nothing changes any more: the law of a run that has stopped learning.

    - `solver0`, `verifier0`: the last uncertainties, nats.
    """

    solver0: Scalar
    verifier0: Scalar

    @property
    def limit(self) -> Limit:
        solver, verifier = jnp.asarray(self.solver0), jnp.asarray(self.verifier0)
        return Limit(solver, verifier, solver - verifier)

    def solver(self, t: Float[Array, "*time"]) -> Float[Array, "*time"]:
        return jnp.full(jnp.shape(t), self.solver0)

    def verifier(self, t: Float[Array, "*time"]) -> Float[Array, "*time"]:
        return jnp.full(jnp.shape(t), self.verifier0)

    def vector_field(self, state: Float[Array, " pair"]) -> Float[Array, " pair"]:
        return jnp.zeros_like(state)
