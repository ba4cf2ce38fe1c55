"""The gap equations as an initial value problem, solved by diffrax.

dU_s/dt = −α·f(G),   dU_v/dt = −β·f(G),   G = U_s − U_v     (arXiv:2507.00075, eq. 3)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gapjax.dynamics.laws import Scalar
from gapjax.dynamics.potentials import AbstractPotential

_MAX_STEPS = 4096


class GapSystem(eqx.Module):
    """The right-hand side of the gap equations.

    - `alpha`, `beta`: how strongly the potential moves solver and verifier, `α > β ≥ 0`.
    - `potential`: the potential `E = f(G)`.
    """

    alpha: Scalar
    beta: Scalar
    potential: AbstractPotential

    def __call__(
        self, t: Any, state: Float[Array, " pair"], args: object = None
    ) -> Float[Array, " pair"]:
        """The time derivative of `state = (U_s, U_v)`, nats per epoch."""
        energy = self.potential(state[0] - state[1])
        return jnp.stack([-self.alpha * energy, -self.beta * energy])


class Path(NamedTuple):
    """Uncertainties along a solution (nats), and whether the solver got to the end."""

    solver: Float[Array, " time"]
    verifier: Float[Array, " time"]
    failed: Bool[Array, ""]


def integrate(
    system: GapSystem,
    solver0: Scalar,
    verifier0: Scalar,
    times: Float[Array, " time"],
    *,
    rtol: float = 1e-6,
    atol: float = 1e-8,
) -> Path:
    """Solve the gap equations numerically (Tsit5, adaptive steps).

    **Arguments:**

    - `solver0`, `verifier0`: `U_s`, `U_v` at time 0 (nats).
    - `times`: non-negative, increasing times (epochs) at which to return the solution.
    - `rtol`, `atol`: tolerances of the step-size controller.

    **Returns:** a `Path`.  Where the step limit was reached, or the solution left the
    finite numbers, `failed` is true and the rest of the path is not finite; nothing is
    raised, so that a `vmap` over thousands of curves can count its failures.
    """
    times = jnp.asarray(times)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(system),
        diffrax.Tsit5(),
        t0=0.0,
        t1=times[-1],
        dt0=None,
        y0=jnp.stack([jnp.asarray(solver0), jnp.asarray(verifier0)]).astype(times.dtype),
        saveat=diffrax.SaveAt(ts=times),
        stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol),
        max_steps=_MAX_STEPS,
        throw=False,
    )
    failed = solution.result != diffrax.RESULTS.successful
    return Path(solution.ys[:, 0], solution.ys[:, 1], failed)
