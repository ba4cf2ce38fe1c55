"""The point that fits best, and how the posterior spreads around it.

Least squares (Levenberg-Marquardt, from several rates at once), then the posterior mode,
then its curvature: of the Student-t that is a fast answer, and the sampler's starting point.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optimistix
from jaxtyping import Array, Bool, Float
from numpyro.infer.util import log_density

from gapjax.posterior.compiling import quick_jit
from gapjax.posterior.model import Model
from gapjax.posterior.observations import Observations

# Starting points of the least-squares fit: time constants (beyond the least possible) that
# the curve may cover.  There can be two optima; the best of all starts is kept.
_START_EXCESSES = (0.1, 0.4, 1.0, 2.5, 5.0, 10.0)
_RIDGE = 1e-3  # keeps directions that the data leave open finite
_MAX_STEPS = 200
# Directions the data say nothing about are no wider than the priors, roughly.
_MIN_CURVATURE = 0.05


class Mode(NamedTuple):
    """The mode of each curve's posterior, and how sharp it is.

    - `centre`: the posterior mode, in the sampler's coordinates.
    - `root`: a matrix whose product with its transpose is the inverse of the curvature.
    - `success`: whether the optimiser converged.
    """

    centre: Float[Array, "*curves coordinates"]
    root: Float[Array, "*curves coordinates coordinates"]
    success: Bool[Array, "*curves"]


def potential(
    model: Model, observed: Observations
) -> Callable[[Float[Array, " coordinates"]], Float[Array, ""]]:
    """Minus the log posterior density as a function of the coordinates."""
    size = len(model.coordinates)
    identity = (jnp.zeros(size), jnp.eye(size))

    def energy(x: Float[Array, " coordinates"]) -> Float[Array, ""]:
        return -log_density(model, (observed, *identity), {}, {"position": x})[0]

    return energy


@partial(quick_jit, static_argnums=0)
def find_modes(model: Model, observed: Observations) -> Mode:
    """The mode of every curve in the batch `observed`."""
    return jax.vmap(partial(_find_mode, model))(observed)


def _find_mode(model: Model, observed: Observations) -> Mode:
    start, noise = _least_squares(model, observed)
    energy = potential(model, observed)
    for name in ("log_noise", "log_verifier_noise"):
        if name in model.coordinates:
            start = start.at[model.coordinates.index(name)].set(jnp.log(noise))
    solution: optimistix.Solution = optimistix.minimise(
        lambda x, _: energy(x),
        optimistix.BFGS(rtol=1e-8, atol=1e-8),
        start,
        max_steps=_MAX_STEPS,
        throw=False,
    )
    found = energy(solution.value)
    better = (found <= energy(start)) & jnp.isfinite(found)
    centre = jnp.where(better, solution.value, start)
    values, vectors = jnp.linalg.eigh(jax.hessian(energy)(centre))
    root = vectors / jnp.sqrt(jnp.maximum(jnp.abs(values), _MIN_CURVATURE))
    return Mode(centre, root, better & (solution.result == optimistix.RESULTS.successful))


def _least_squares(
    model: Model, observed: Observations
) -> tuple[Float[Array, " coordinates"], Float[Array, ""]]:
    """The least-squares coordinates from the best of several starts, and the noise they leave."""

    def residuals(x: Float[Array, " coordinates"], start: Any) -> Any:
        law, _, _ = model.law(x, observed.span)
        mean = jnp.stack([law.solver(observed.times), law.verifier(observed.times)], axis=-1)
        misfit = jnp.where(observed.mask[:, None], observed.pair - mean, 0.0)
        return misfit, _RIDGE * (x - start)

    def fit(start: Float[Array, " coordinates"]) -> tuple[Array, Array]:
        solution: optimistix.Solution = optimistix.least_squares(
            residuals,
            optimistix.LevenbergMarquardt(rtol=1e-8, atol=1e-8),
            start,
            args=start,
            max_steps=_MAX_STEPS,
            throw=False,
        )
        cost = jnp.sum(residuals(solution.value, start)[0] ** 2)
        finite = jnp.isfinite(cost) & jnp.all(jnp.isfinite(solution.value))
        fallback = jnp.sum(residuals(start, start)[0] ** 2)
        return jnp.where(finite, solution.value, start), jnp.where(finite, cost, fallback)

    starts = jax.vmap(partial(_start, model, observed))(jnp.array(_START_EXCESSES))
    xs, costs = jax.vmap(fit)(starts)
    best = jnp.argmin(costs)
    n = 2 * jnp.sum(observed.mask)
    noise = jnp.sqrt(costs[best] / jnp.maximum(n - len(model.coordinates), 1))
    return xs[best], jnp.maximum(noise, 1e-4)


def _start(
    model: Model, observed: Observations, excess: Float[Array, ""]
) -> Float[Array, " coordinates"]:
    """Coordinates of a curve through the first and last checkpoints."""
    first, last = jnp.maximum(observed.pair[0], 1e-3), jnp.maximum(observed.pair[-1], 1e-3)
    drop = first - last
    rho = jnp.clip(drop[1] / jnp.where(jnp.abs(drop[0]) < 1e-6, 1e-6, drop[0]), 0.05, 0.9)
    share = jnp.clip(rho * jnp.maximum(1.0, drop[0] / first[1]), 0.05, 0.95)
    base = jnp.array(
        [
            jnp.log(first[0]),
            jnp.log(last[0]),
            jnp.log1p(excess),  # the softness at zero does not matter for a start
            jnp.log(first[1]),
            jax.scipy.special.logit(share),
        ]
    )
    return jnp.concatenate([base, jnp.zeros(len(model.coordinates) - len(base))])
