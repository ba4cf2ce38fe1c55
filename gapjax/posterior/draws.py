"""From coordinates to everything that is reported: numbers, limits, curves, predictions."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from gapjax.dynamics.laws import AbstractRelaxation
from gapjax.posterior.model import Model
from gapjax.posterior.observations import Observations
from gapjax.posterior.process import wander
from gapjax.posterior.verdict import TIME_CONSTANTS

_PREDICTIVE_DRAWS = 500
# Those of `Described.numbers` that are uncertainties; the others are rates and ratios.
IN_NATS = frozenset(
    {
        "solver0",
        "verifier0",
        "solver_limit",
        "verifier_limit",
        "gap_limit",
        "solver_noise",
        "verifier_noise",
    }
)


class Described(NamedTuple):
    """What each draw says, uncertainties in units of the curve's scale.

    - `numbers`: solver0, verifier0, rate, rho, the three limits, and the law's shape.
    - `covered`: time constants covered, `−log D(T)`, which is `γT` under the exponential law.
    - `needed`: epochs after which `TIME_CONSTANTS` of them are covered.
    - `mean`: the law's pair at the checkpoints.
    - `log_likelihood`: of each checkpoint's pair.
    """

    numbers: dict[str, Float[Array, "curves chains draws"]]
    covered: Float[Array, "curves chains draws"]
    needed: Float[Array, "curves chains draws"]
    mean: Float[Array, "curves chains draws time 2"]
    log_likelihood: Float[Array, "curves chains draws time"]


@partial(jax.jit, static_argnums=0)
def describe(
    model: Model,
    observed: Observations,
    x: Float[Array, "curves chains draws coordinates"],
) -> Described:
    """Evaluate the law at every draw."""

    def one(observed: Observations, x: Float[Array, " coordinates"]) -> Described:
        law, numbers, _ = model.law(x, observed.span)
        _, shape, _ = model.split(x)
        mean = jnp.stack([law.solver(observed.times), law.verifier(observed.times)], axis=-1)
        scale = model.noise_scale(x)
        limit = law.limit
        named = {
            "solver0": numbers.solver0,
            "verifier0": numbers.verifier0,
            "rate": numbers.rate,
            "rho": numbers.rho,
            "solver_limit": limit.solver,
            "verifier_limit": limit.verifier,
            "gap_limit": limit.gap,
            "solver_noise": scale[0, 0],
            "verifier_noise": jnp.hypot(scale[1, 0], scale[1, 1]),
            **model.family.shape(shape),
        }
        covered = -jnp.log(law.remaining(observed.span))
        needed = law.time_to_remaining(jnp.exp(-TIME_CONSTANTS))
        log_likelihood = model.log_likelihood(law, x, observed)
        return Described(named, covered, needed, mean, log_likelihood)

    per_draw = jax.vmap(jax.vmap(one, (None, 0)), (None, 0))
    return jax.vmap(per_draw)(observed, x)


class Replicated(NamedTuple):
    """Replicated checkpoints of some of the draws, and how much the misfit is a pattern.

    - `pair`: replicated measurements.
    - `pattern`: how often neighbouring residuals share their sign, from −1 to 1, per draw.
    - `pattern_by_chance`: the same for the replicate.
    """

    pair: Float[Array, "curves draws time 2"]
    pattern: Float[Array, "curves draws"]
    pattern_by_chance: Float[Array, "curves draws"]


@partial(jax.jit, static_argnums=0)
def replicate(
    model: Model,
    observed: Observations,
    x: Float[Array, "curves draws coordinates"],
    keys: Key[Array, " curves"],
) -> Replicated:
    """Simulate new measurements of the same checkpoints from each draw."""

    def one(
        observed: Observations, x: Float[Array, " coordinates"], key: Key[Array, ""]
    ) -> Replicated:
        law, _, _ = model.law(x, observed.span)
        mean = jnp.stack([law.solver(observed.times), law.verifier(observed.times)], axis=-1)
        key, process_key = jax.random.split(key)
        centre = mean
        if model.noise.process:
            assert isinstance(law, AbstractRelaxation)
            move = model.steps(law, x, observed.times)
            centre = mean + wander(law, move, jnp.zeros(2), process_key)
        pair = model.likelihood(centre, model.noise_scale(x)).sample(key)
        return Replicated(
            pair,
            _pattern(observed.pair - mean, observed.mask),
            _pattern(pair - mean, observed.mask),
        )

    def one_curve(observed: Observations, x: Array, key: Key[Array, ""]) -> Replicated:
        return jax.vmap(one, (None, 0, 0))(observed, x, jax.random.split(key, x.shape[0]))

    return jax.vmap(one_curve)(observed, x, keys)


def _pattern(residual: Float[Array, "time 2"], mask: Array) -> Float[Array, ""]:
    """How much oftener than not neighbouring residuals share their sign, from −1 to 1.

    Signs rather than products, which a single jump of the curve would dominate.
    """
    agreement = jnp.sign(residual[1:]) * jnp.sign(residual[:-1])
    return jnp.sum(jnp.where(mask[1:, None], agreement, 0.0)) / (2 * (jnp.sum(mask) - 1))


def thin(
    x: Float[np.ndarray, "curves chains draws coordinates"],
) -> Float[np.ndarray, "curves some coordinates"]:
    """A fixed number of draws of each curve, evenly spaced over all chains."""
    flat = x.reshape(x.shape[0], -1, x.shape[-1])
    chosen = np.linspace(0, flat.shape[1] - 1, _PREDICTIVE_DRAWS).round().astype(int)
    return flat[:, chosen]


@partial(jax.jit, static_argnums=0)
def paths(
    model: Model,
    span: Float[Array, ""],
    x: Float[Array, "draws coordinates"],
    times: Float[Array, " time"],
) -> Float[Array, "draws time 2"]:
    """The law of each draw at `times` (epochs since the first checkpoint)."""

    def one(x: Float[Array, " coordinates"]) -> Float[Array, "time 2"]:
        law, _, _ = model.law(x, span)
        return jnp.stack([law.solver(times), law.verifier(times)], axis=-1)

    return jax.vmap(one)(x)
