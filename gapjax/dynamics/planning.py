"""Planning a run: when to use external data, and how many rounds are worth their price.

The final solver is a differentiable function of the shares `η_t`, so the best allocation is
found by projected gradients on the simplex, for every length of the run at once.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from gapjax.dynamics.ode import GapSystem
from gapjax.dynamics.potentials import LinearPotential, PowerPotential, Scalar
from gapjax.dynamics.simulate import simulate

_ITERATIONS = 600
_STARTS = 4  # random ones, besides the uniform allocation


class Allocation(NamedTuple):
    """The best shares for each of several run lengths.

    - `shares`: `η_t` of rounds 1, 2, ...; zero beyond the end of the run.
    - `solver`: what they achieve, nats.
    - `slack`: how much less `U_s` (nats) could be at best, to first order: moving all data
      into the round whose gradient is steepest promises no more.  Zero at the optimum.
    """

    shares: Float[Array, "lengths rounds"]
    solver: Float[Array, " lengths"]
    slack: Float[Array, " lengths"]


def rounds_path(
    system: GapSystem,
    solver0: Scalar,
    verifier0: Scalar,
    factors: Float[Array, " rounds"],
) -> Float[Array, "ends pair"]:
    """`(U_s, U_v)` (nats) at rounds 0, 1, ..., the verifier being multiplied by `factors`.

    A jump at round `t` shows at round `t`, as in `simulate`.
    """

    def step(
        state: Float[Array, " pair"], factor: Float[Array, ""]
    ) -> tuple[Float[Array, " pair"], Float[Array, " pair"]]:
        run = simulate(system, state[0], state[1], jnp.array([0.0, 1.0]))
        state = jnp.stack([run.solver[-1], run.verifier[-1] * factor])
        return state, state

    start = jnp.stack([jnp.asarray(solver0, float), jnp.asarray(verifier0, float)])
    _, states = jax.lax.scan(step, start, factors)
    return jnp.concatenate([start[None], states])


def solver_after(
    system: GapSystem,
    solver0: Scalar,
    verifier0: Scalar,
    factors: Float[Array, " rounds"],
    length: Int[Array, ""] | int,
    *,
    limit: bool,
) -> Float[Array, ""]:
    """`U_s` (nats) after `length` rounds, or the limit to which it would go on from there.

    The limit is known for linear and power potentials.
    """
    solver, verifier = rounds_path(system, solver0, verifier0, factors)[length]
    if not limit:
        return solver
    potential = system.potential
    assert isinstance(potential, LinearPotential | PowerPotential)
    excess = solver - verifier - potential.gap_limit
    return solver - excess * system.alpha / (system.alpha - system.beta)


@partial(jax.jit, static_argnames="limit")
def allocate(
    system: GapSystem,
    solver0: Scalar,
    verifier0: Scalar,
    strengths: Float[Array, " rounds"],
    lengths: Int[Array, " lengths"],
    *,
    limit: bool = False,
) -> Allocation:
    """The shares of external data that leave the best solver after each of `lengths` rounds.

    **Arguments:**

    - `solver0`, `verifier0`: `U_s`, `U_v` at round 0, nats.
    - `strengths`: `γ_x` at rounds 1, 2, ...; its length bounds `lengths`.
    - `limit`: judge by the limit from there on, not by the solver at that round.
    """
    rounds = len(strengths)

    def one(length: Int[Array, ""]) -> Allocation:
        usable = jnp.arange(1, rounds + 1) <= length

        def project(shares: Float[Array, " rounds"]) -> Float[Array, " rounds"]:
            # Far below the others: the projection leaves nothing there.
            return optax.projections.projection_simplex(jnp.where(usable, shares, -1e6))

        def objective(shares: Float[Array, " rounds"]) -> Float[Array, ""]:
            factors = 1 / (1 + strengths * shares)
            return solver_after(system, solver0, verifier0, factors, length, limit=limit)

        def descend(start: Float[Array, " rounds"]) -> Allocation:
            def step(carry: tuple, _: None) -> tuple[tuple, None]:
                shares, value, gradient, size = carry
                moved = project(shares - size * gradient)
                new_value, new_gradient = jax.value_and_grad(objective)(moved)
                better = new_value < value
                kept = jax.tree.map(
                    partial(jnp.where, better),
                    (moved, new_value, new_gradient, 1.6 * size),
                    (shares, value, gradient, 0.5 * size),
                )
                return kept, None

            shares = project(start)
            value, gradient = jax.value_and_grad(objective)(shares)
            size = 1 / jnp.maximum(jnp.max(jnp.abs(gradient)), 1e-12)
            carry = (shares, value, gradient, size)
            (shares, value, gradient, _), _ = jax.lax.scan(step, carry, None, _ITERATIONS)
            best = jnp.min(jnp.where(usable, gradient, jnp.inf))
            return Allocation(shares, value, jnp.sum(shares * gradient) - best)

        starts = jax.random.dirichlet(jax.random.key(0), jnp.ones(rounds), (_STARTS,))
        starts = jnp.concatenate([jnp.ones((1, rounds)) / rounds, starts])
        found = jax.vmap(descend)(starts)
        winner = jnp.argmin(found.solver)
        return jax.tree.map(lambda leaf: leaf[winner], found)

    return jax.vmap(one)(lengths)
