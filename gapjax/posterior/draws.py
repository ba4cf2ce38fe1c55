"""From coordinates to everything that is reported: numbers, limits, curves, predictions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from gapjax.posterior.base import NOISE_FLOOR, AbstractModel
from gapjax.posterior.compiling import quick_jit
from gapjax.posterior.observations import Observations
from gapjax.posterior.verdict import TIME_CONSTANTS

_PREDICTIVE_DRAWS = 500
_EXACT = 5 * NOISE_FLOOR
# Those of `Described.numbers` that are uncertainties, those that are per time, and per root of it.
_IN_NATS = frozenset(
    {
        "solver0",
        "verifier0",
        "solver_limit",
        "verifier_limit",
        "gap_limit",
        "solver_noise",
        "verifier_noise",
        "solver_wander",
        "verifier_wander",
        "jump_size",
    }
)


_PER_TIME = frozenset({"rate", "verifier_rate", "jump_rate"})
_PER_ROOT_OF_TIME = frozenset({"solver_wander", "verifier_wander"})


def in_own_units(
    numbers: Mapping[str, Any], scale: float, time_unit: float
) -> dict[str, np.ndarray]:
    """Numbers in nats and epochs (or whatever times are in) from those in a curve's units."""

    def factor(name: str) -> float:
        nats = scale if name in _IN_NATS else 1.0
        if name in _PER_TIME:
            return nats / time_unit
        return nats / time_unit**0.5 if name in _PER_ROOT_OF_TIME else nats

    return {name: np.asarray(values) * factor(name) for name, values in numbers.items()}


class Described(NamedTuple):
    """What each draw says, in the curve's units of uncertainty and time.

    - `numbers`: solver0, verifier0, rate, rho, the three limits, and the law's shape.
    - `covered`: time constants covered, `−log D(T)`, which is `γT` under the exponential law.
    - `needed`: time after which `TIME_CONSTANTS` of them are covered.
    - `unrest`: probability that the limit is yet pushed far.
    - `mean`: the noise-free pair at the checkpoints.
    - `log_likelihood`: of each checkpoint's pair.
    """

    numbers: dict[str, Float[Array, "curves chains draws"]]
    covered: Float[Array, "curves chains draws"]
    needed: Float[Array, "curves chains draws"]
    unrest: Float[Array, "curves chains draws"]
    mean: Float[Array, "curves chains draws time 2"]
    log_likelihood: Float[Array, "curves chains draws time"]


@partial(quick_jit, static_argnums=0)
def describe(
    model: AbstractModel,
    observed: Observations,
    x: Float[Array, "curves chains draws x"],
) -> Described:
    """Evaluate the model at every draw."""

    def one(observed: Observations, x: Float[Array, " x"]) -> Described:
        return Described(
            model.numbers(x, observed),
            model.covered(x, observed),
            model.time_to_cover(x, observed, TIME_CONSTANTS),
            model.unrest(x, observed),
            model.path(x, observed, observed.times),
            model.log_likelihood(x, observed),
        )

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


@partial(quick_jit, static_argnums=0)
def replicate(
    model: AbstractModel,
    observed: Observations,
    x: Float[Array, "curves draws x"],
    keys: Key[Array, " curves"],
) -> Replicated:
    """Simulate new measurements of the same checkpoints from each draw."""

    def one(observed: Observations, x: Float[Array, " x"], key: Key[Array, ""]) -> Replicated:
        law, pair = model.replicate(x, observed, key)
        return Replicated(
            pair, _pattern(observed.pair - law, observed.mask), _pattern(pair - law, observed.mask)
        )

    def one_curve(observed: Observations, x: Array, key: Key[Array, ""]) -> Replicated:
        return jax.vmap(one, (None, 0, 0))(observed, x, jax.random.split(key, x.shape[0]))

    return jax.vmap(one_curve)(observed, x, keys)


def _pattern(residual: Float[Array, "time 2"], mask: Array) -> Float[Array, ""]:
    """How much oftener than not neighbouring residuals share their sign, from −1 to 1.

    Signs rather than products, which a single jump of the curve would dominate. Residuals that are
    smaller than measurements are exact have none: those of a noise-free curve are the draws' own.
    """
    signs = jnp.where(jnp.abs(residual) > _EXACT, jnp.sign(residual), 0.0)
    agreement = signs[1:] * signs[:-1]
    return jnp.sum(jnp.where(mask[1:, None], agreement, 0.0)) / (2 * (jnp.sum(mask) - 1))


def thin(
    x: Float[np.ndarray, "curves chains draws x"],
) -> Float[np.ndarray, "curves some x"]:
    """A fixed number of draws of each curve, evenly spaced over all chains."""
    flat = x.reshape(x.shape[0], -1, x.shape[-1])
    chosen = np.linspace(0, flat.shape[1] - 1, _PREDICTIVE_DRAWS).round().astype(int)
    return flat[:, chosen]


@partial(quick_jit, static_argnums=0)
def paths(
    model: AbstractModel,
    observed: Observations,
    x: Float[Array, "draws x"],
    times: Float[Array, " time"],
) -> Float[Array, "draws time 2"]:
    """The noise-free pair of each draw at `times` (epochs since the first checkpoint)."""
    return jax.vmap(lambda x: model.path(x, observed, times))(x)


@partial(quick_jit, static_argnums=(0, 3))
def prior_draws(
    model: AbstractModel, observed: Observations, key: Key[Array, ""], draws: int
) -> tuple[dict[str, Float[Array, " draws"]], Float[Array, "draws time 2"]]:
    """Numbers from the prior and measurements of the checkpoints under them."""
    return jax.vmap(partial(model.from_prior, observed))(jax.random.split(key, draws))
