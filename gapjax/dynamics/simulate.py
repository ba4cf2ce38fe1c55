"""One call for the gap equations: the closed form where it is exact, diffrax otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Key

from gapjax.dynamics.external import External
from gapjax.dynamics.laws import Power
from gapjax.dynamics.ode import GapSystem, integrate
from gapjax.dynamics.potentials import LinearPotential, PowerPotential, Scalar

State = Float[Array, " pair"]
# (state at the start, times since then) -> (states at these times, whether that failed)
Flow = Callable[[State, Float[Array, " time"]], tuple[Float[Array, "time pair"], Bool[Array, ""]]]

_SDE_STEPS_PER_EPOCH = 32
_SDE_MAX_STEPS = 1 << 16
MAX_NOISY_EPOCHS = 2000  # what the steps suffice for, with the last few to spare


class Simulation(NamedTuple):
    """A simulated run.

    - `solver`, `verifier`: `U_s`, `U_v` at the epochs asked for, nats.
    - `method`: how they were computed.
    - `failed`: whether the numerical solver gave up (never for the closed form).
    """

    solver: Float[Array, " time"]
    verifier: Float[Array, " time"]
    method: Literal["closed form", "diffrax", "diffrax SDE"]
    failed: Bool[Array, ""]


def simulate(
    system: GapSystem,
    solver0: Scalar,
    verifier0: Scalar,
    epochs: Float[ArrayLike, " time"],
    *,
    external: External | None = None,
    process_noise: Scalar | None = None,
    key: Key[Array, ""] | None = None,
    rtol: float = 1e-6,
    atol: float = 1e-8,
) -> Simulation:
    """Run the gap equations from epoch 0.

    Differentiable in all numbers (shares of external data included) and fit for `vmap`.

    **Arguments:**

    - `system`: coefficients and potential.
    - `solver0`, `verifier0`: `U_s`, `U_v` at epoch 0, nats.
    - `epochs`: increasing, non-negative epochs at which to report.
    - `external`: jumps of the verifier; a jump at round `t` shows at epoch `t`.
    - `process_noise`: standard deviation of independent Brownian motion added to both
      uncertainties, nats per square root of an epoch; needs `key`.
    - `rtol`, `atol`: tolerances where diffrax is used (without process noise).
    """
    method, flow = _flow(system, process_noise, key, rtol, atol)
    at = jnp.asarray(epochs)
    start = jnp.stack([jnp.asarray(solver0), jnp.asarray(verifier0)]).astype(at.dtype)
    if external is None:
        states, failed = flow(start, at)
    else:
        states, failed = _with_jumps(flow, start, at, external)
    return Simulation(states[:, 0], states[:, 1], method, failed)


def _with_jumps(
    flow: Flow, start: State, epochs: Float[Array, " time"], external: External
) -> tuple[Float[Array, "time pair"], Bool[Array, ""]]:
    """Follow `flow` from jump to jump; each epoch is reported by the piece it lies in."""
    boundaries = (0.0, *(float(t) for t in external.rounds))
    piece_of = jnp.sum(epochs[:, None] >= jnp.array(external.rounds, float), axis=1)
    state, states, failed = start, jnp.zeros((len(epochs), 2), epochs.dtype), jnp.array(False)
    for piece, begin in enumerate(boundaries):
        if piece > 0:
            state = state.at[1].multiply(external.factors[piece - 1])
        end = boundaries[piece + 1] if piece + 1 < len(boundaries) else begin
        # Times outside the piece are clipped into it: computed, not used.
        inside = piece_of == piece
        times = jnp.where(inside, epochs - begin, 0.0)
        times = jnp.where(epochs < begin, 0.0, jnp.where(inside, times, end - begin))
        path, bad = flow(state, jnp.append(times, jnp.maximum(end - begin, times[-1])))
        states = jnp.where(inside[:, None], path[:-1], states)
        failed |= bad
        state = path[-1]
    return states, failed


def _flow(
    system: GapSystem,
    process_noise: Scalar | None,
    key: Key[Array, ""] | None,
    rtol: float,
    atol: float,
) -> tuple[Literal["closed form", "diffrax", "diffrax SDE"], Flow]:
    if process_noise is not None:
        if key is None:
            raise ValueError("process noise needs a PRNG key")
        return "diffrax SDE", _noisy_flow(system, process_noise, key)
    if isinstance(system.potential, LinearPotential | PowerPotential):
        return "closed form", _closed_form(system, system.potential)

    def solved(
        state: State, times: Float[Array, " time"]
    ) -> tuple[Float[Array, "time pair"], Bool[Array, ""]]:
        path = integrate(system, state[0], state[1], times, rtol=rtol, atol=atol)
        return jnp.stack([path.solver, path.verifier], axis=-1), path.failed

    return "diffrax", solved


def _closed_form(system: GapSystem, potential: LinearPotential | PowerPotential) -> Flow:
    q = potential.q if isinstance(potential, PowerPotential) else 0.0

    def flow(
        state: State, times: Float[Array, " time"]
    ) -> tuple[Float[Array, "time pair"], Bool[Array, ""]]:
        delta = state[0] - state[1] - potential.gap_limit
        size = jnp.where(delta == 0, 1.0, jnp.abs(delta))  # no motion at the limit, any rate
        rate = potential.k * (system.alpha - system.beta) * size**q
        rho = system.beta / system.alpha
        law = Power(state[0], state[1], rate, rho, potential.gap_limit, q)
        return jnp.stack([law.solver(times), law.verifier(times)], axis=-1), jnp.array(False)

    return flow


def _noisy_flow(system: GapSystem, process_noise: Scalar, key: Key[Array, ""]) -> Flow:
    """The gap equations with additive Brownian motion (SRA1, strong order 1.5)."""
    pieces = iter(range(10_000))

    def flow(
        state: State, times: Float[Array, " time"]
    ) -> tuple[Float[Array, "time pair"], Bool[Array, ""]]:
        last = times[-1] + 1e-6  # a piece of length zero is still a piece
        brownian = diffrax.VirtualBrownianTree(
            0.0,
            last,
            tol=1e-3 / _SDE_STEPS_PER_EPOCH,
            shape=(2,),
            key=jax.random.fold_in(key, next(pieces)),  # a fresh motion after every jump
            levy_area=diffrax.SpaceTimeLevyArea,
        )
        noise = diffrax.ControlTerm(lambda t, y, args: process_noise * jnp.eye(2), brownian)
        solution = diffrax.diffeqsolve(
            diffrax.MultiTerm(diffrax.ODETerm(system), noise),
            diffrax.SRA1(),
            t0=0.0,
            t1=last,
            dt0=1 / _SDE_STEPS_PER_EPOCH,
            y0=state,
            saveat=diffrax.SaveAt(ts=times),
            max_steps=_SDE_MAX_STEPS,
            throw=False,
        )
        return solution.ys, solution.result != diffrax.RESULTS.successful

    return flow
