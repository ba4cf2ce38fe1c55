"""Stochastic gap dynamics: a law as the drift, levels that wander and jump, measurement noise.

Solver and verifier relax as the law with a free exponent says, each towards its own level,

    U(t) = level(t) + amplitude·(1 + q·γ·t)^(−1/q)

and noise pushes the levels: steadily (Brownian motion, correlated between the two series)
and now and then by a jump.  Without pushes this is the power law, and with one rate for both
the paper's law at q → 0; with large pushes it is persistence; the data decide.  The limits are
the levels as they stand at the last checkpoint.

Priors, in units of the curve's scale `U_s(0)` and of two checkpoints, none of which knows how
long the curve is:

    U_s0 ~ Normal(1, 0.5)     U_s∞ ~ Normal(0.4, 0.5)     U_v0 ~ Normal(0.6, 0.8)
    U_v∞ ~ Normal(0.3, 0.4)   (both limits positive)
    γ_s ~ LogNormal(log 0.5, 1)    γ_v/γ_s ~ LogNormal(0, 0.5)    q_s, q_v ~ Exponential(1)
    measurement noise ~ LogNormal(log 0.02, 1.5), wander per √unit ~ LogNormal(log 0.01, 1.5)
    for the solver; for the verifier that times LogNormal(0, 0.7)
    jumps per unit ~ LogNormal(log 0.02, 1)      size of a jump ~ LogNormal(log 0.3, 0.7)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr, ndtr
from jaxtyping import Array, Float, Key

from gapjax.dynamics.laws import depth_time, relaxation_depth, remaining_fraction
from gapjax.posterior.base import FAR_PUSH, NOISE_FLOOR, AbstractModel, Replicate
from gapjax.posterior.compiling import quick_jit
from gapjax.posterior.jump_filter import (
    Dynamics,
    Filtered,
    draw_levels,
    jump_filter,
    jump_probability,
    log_marginal,
)
from gapjax.posterior.observations import Observations
from gapjax.posterior.smc import sample_smc

# Coordinates that are standard normal under the prior.
COORDINATES = (
    "rate",
    "rate_ratio",
    "solver_exponent",
    "verifier_exponent",
    "solver_noise",
    "noise_ratio",
    "solver_wander",
    "wander_ratio",
    "wander_correlation",
    "jump_rate",
    "jump_size",
)
# Of (U_s∞, U_v∞, U_s0, U_v0).
_START_MEAN = (0.4, 0.3, 1.0, 0.6)
_START_VARIANCE = (0.5**2, 0.4**2, 0.5**2, 0.8**2)


class Settings(NamedTuple):
    """The numbers behind the coordinates, uncertainties in units of the curve's scale.

    - `rates`, `exponents`: `γ` per epoch and `q` of solver and verifier.
    - `noise`: standard deviations of the two measurements.
    - `wander`: of the two levels, per square root of an epoch; `correlation` between them.
    - `jump_rate`: per epoch; `jump_size`: standard deviation of either level's jump.
    """

    rates: Float[Array, 2]
    exponents: Float[Array, 2]
    noise: Float[Array, 2]
    wander: Float[Array, 2]
    correlation: Float[Array, ""]
    jump_rate: Float[Array, ""]
    jump_size: Float[Array, ""]


def settings(z: Float[Array, " dims"]) -> Settings:
    """The numbers at coordinates `z`, whose prior is standard normal."""
    rate = 0.5 * jnp.exp(z[0])
    noise = NOISE_FLOOR + 0.02 * jnp.exp(1.5 * z[4])
    wander = 0.01 * jnp.exp(1.5 * z[6])
    return Settings(
        rates=jnp.stack([rate, rate * jnp.exp(0.5 * z[1])]),
        exponents=-log_ndtr(-z[2:4]),  # standard normal to Exponential(1)
        noise=jnp.stack([noise, noise * jnp.exp(0.7 * z[5])]),
        wander=jnp.stack([wander, wander * jnp.exp(0.7 * z[7])]),
        correlation=jnp.tanh(0.8 * z[8]),
        jump_rate=0.02 * jnp.exp(z[9]),
        jump_size=0.3 * jnp.exp(0.7 * z[10]),
    )


def _remaining(s: Settings, times: Float[Array, " time"]) -> Float[Array, "time 2"]:
    return remaining_fraction(s.rates * times[:, None], s.exponents)


def dynamics_of(z: Float[Array, " dims"], observed: Observations) -> Dynamics:
    """What the filter needs to know at coordinates `z`."""
    s = settings(z)
    times = jnp.asarray(observed.times)
    return Dynamics(
        remaining=_remaining(s, times),
        steps=jnp.diff(times, prepend=times[:1]),
        wander=(s.wander[0] ** 2, s.correlation * s.wander[0] * s.wander[1], s.wander[1] ** 2),
        jump_rate=s.jump_rate,
        jump_variance=s.jump_size**2,
        noise=(s.noise[0] ** 2, s.noise[1] ** 2),
        start_mean=_START_MEAN,
        start_variance=_START_VARIANCE,
    )


def log_likelihood(z: Float[Array, " dims"], observed: Observations) -> Float[Array, ""]:
    """Log-density of the curve at `z`, levels and amplitudes integrated out."""
    return log_marginal(dynamics_of(z, observed), observed.pair, observed.mask)


def _filter(z: Float[Array, " dims"], observed: Observations) -> Filtered:
    pair, mask = jnp.asarray(observed.pair), jnp.asarray(observed.mask)
    return jump_filter(dynamics_of(z, observed), pair, mask)


class _Draw(NamedTuple):
    """One draw `x`, taken apart."""

    settings: Settings
    amplitude: Float[Array, 2]
    levels: Float[Array, "time 2"]


@dataclass(frozen=True)
class StochasticModel(AbstractModel):
    """The stochastic dynamics; a draw holds coordinates, amplitudes, and levels over time."""

    @property
    def name(self) -> str:
        return "stochastic"

    @property
    def coordinates(self) -> tuple[str, ...]:
        return (*COORDINATES, "solver_amplitude", "verifier_amplitude")

    def complete(
        self, z: Float[Array, " dims"], observed: Observations, key: Key[Array, ""]
    ) -> Float[Array, " x"]:
        """The draw `x` at coordinates `z`: amplitudes and levels drawn given the curve."""
        filtered = _filter(z, observed)
        levels, amplitude = draw_levels(dynamics_of(z, observed), filtered, key)
        return jnp.concatenate([z, amplitude, levels.ravel()])

    def _draw(self, x: Float[Array, " x"]) -> _Draw:
        n = len(COORDINATES)
        return _Draw(settings(x[:n]), x[n : n + 2], x[n + 2 :].reshape(-1, 2))

    @staticmethod
    def limits(x: Float[np.ndarray, "*draws x"]) -> Float[np.ndarray, "*draws 2"]:
        """The limits of solver and verifier, the levels at the last checkpoint."""
        return x[..., -2:]

    def numbers(self, x: Float[Array, " x"], observed: Observations) -> dict[str, Float[Array, ""]]:
        s, amplitude, levels = self._draw(x)
        solver_limit, verifier_limit = levels[-1]
        return {
            "solver0": levels[0, 0] + amplitude[0],
            "verifier0": levels[0, 1] + amplitude[1],
            "rate": s.rates[0],
            "rho": amplitude[1] / amplitude[0],
            "solver_limit": solver_limit,
            "verifier_limit": verifier_limit,
            "gap_limit": solver_limit - verifier_limit,
            "solver_noise": s.noise[0],
            "verifier_noise": s.noise[1],
            "exponent": s.exponents[0],
            "verifier_rate": s.rates[1],
            "verifier_exponent": s.exponents[1],
            "solver_wander": s.wander[0],
            "verifier_wander": s.wander[1],
            "wander_correlation": s.correlation,
            "jump_rate": s.jump_rate,
            "jump_size": s.jump_size,
        }

    def path(
        self, x: Float[Array, " x"], observed: Observations, times: Float[Array, " time"]
    ) -> Float[Array, "time 2"]:
        s, amplitude, levels = self._draw(x)
        at = jax.vmap(lambda level: jnp.interp(times, observed.times, level), 1, 1)(levels)
        return at + amplitude * _remaining(s, times)

    def covered(self, x: Float[Array, " x"], observed: Observations) -> Float[Array, ""]:
        s = self._draw(x).settings
        return relaxation_depth(s.rates[0] * observed.span, s.exponents[0])

    def time_to_cover(
        self, x: Float[Array, " x"], observed: Observations, depth: float
    ) -> Float[Array, ""]:
        s = self._draw(x).settings
        return depth_time(jnp.asarray(depth), s.exponents[0]) / s.rates[0]

    def unrest(self, x: Float[Array, " x"], observed: Observations) -> Float[Array, ""]:
        s, amplitude, _ = self._draw(x)
        far = FAR_PUSH * jnp.abs(amplitude[0])
        wandered = 2 * ndtr(-far / (s.wander[0] * jnp.sqrt(observed.span)))
        far_jumps = s.jump_rate * observed.span * 2 * ndtr(-far / s.jump_size)
        return 1 - (1 - wandered) * jnp.exp(-far_jumps)

    def noise_scale(self, x: Float[Array, " x"]) -> Float[Array, "pair pair"]:
        return jnp.diag(self._draw(x).settings.noise)

    def log_likelihood(
        self, x: Float[Array, " x"], observed: Observations
    ) -> Float[Array, " time"]:
        return _filter(x[: len(COORDINATES)], observed).log_likelihood

    def replicate(
        self, x: Float[Array, " x"], observed: Observations, key: Key[Array, ""]
    ) -> Replicate:
        s, amplitude, levels = self._draw(x)
        push_key, noise_key = jax.random.split(key)
        dynamics = dynamics_of(x[: len(COORDINATES)], observed)
        law = levels[0] + amplitude * dynamics.remaining
        pushed = law + _pushes(s, dynamics.steps, jump_probability(dynamics), push_key)
        return Replicate(law, pushed + s.noise * jax.random.normal(noise_key, pushed.shape))

    def from_prior(
        self, observed: Observations, key: Key[Array, ""]
    ) -> tuple[dict[str, Float[Array, ""]], Float[Array, "time 2"]]:
        z_key, start_key, push_key, noise_key = jax.random.split(key, 4)
        z = jax.random.normal(z_key, (len(COORDINATES),))
        dynamics, s = dynamics_of(z, observed), settings(z)
        sd = jnp.sqrt(jnp.array(_START_VARIANCE))
        start = jnp.array(_START_MEAN) + sd * jax.random.normal(start_key, (4,))
        level, amplitude = start[:2], start[2:] - start[:2]
        levels = level + _pushes(s, dynamics.steps, jump_probability(dynamics), push_key)
        pair = levels + amplitude * dynamics.remaining
        pair += s.noise * jax.random.normal(noise_key, pair.shape)
        return self.numbers(jnp.concatenate([z, amplitude, levels.ravel()]), observed), pair

    def predict(
        self,
        x: Float[Array, " x"],
        observed: Observations,
        times: Float[Array, " time"],
        key: Key[Array, ""],
    ) -> Float[Array, "time 2"]:
        s, amplitude, levels = self._draw(x)
        push_key, noise_key = jax.random.split(key)
        steps = jnp.diff(times, prepend=observed.span)
        jump = -jnp.expm1(-s.jump_rate * steps)
        mean = levels[-1] + amplitude * _remaining(s, times) + _pushes(s, steps, jump, push_key)
        return mean + s.noise * jax.random.normal(noise_key, mean.shape)


def _pushes(
    s: Settings,
    steps: Float[Array, " time"],
    jump: Float[Array, " time"],
    key: Key[Array, ""],
) -> Float[Array, "time 2"]:
    """How far the levels are pushed, step by step from zero."""
    wander_key, jump_key, size_key = jax.random.split(key, 3)
    c = s.correlation
    root = s.wander[:, None] * jnp.array([[1.0, 0.0], [c, jnp.sqrt(1 - c**2)]])
    shape = (len(steps), 2)
    wander = jnp.sqrt(steps)[:, None] * (jax.random.normal(wander_key, shape) @ root.T)
    jumps = jax.random.uniform(jump_key, (len(steps), 1)) < jump[:, None]
    sizes = s.jump_size * jax.random.normal(size_key, shape)
    return jnp.cumsum(wander + jnp.where(jumps, sizes, 0.0), axis=0)


@partial(quick_jit, static_argnames=("islands", "particles"))
def sample_stochastic(
    observed: Observations, key: Key[Array, ""], *, islands: int, particles: int
) -> tuple[Float[Array, "islands particles x"], Float[Array, "islands particles"]]:
    """Draws `x` for one curve, and their log posterior density up to a constant.

    Compiled once for each padded length.
    """
    smc_key, state_key = jax.random.split(key)
    sampled = sample_smc(
        lambda z: log_likelihood(z, observed),
        len(COORDINATES),
        smc_key,
        islands=islands,
        particles=particles,
    )
    keys = jax.random.split(state_key, (islands, particles))
    complete = partial(StochasticModel().complete, observed=observed)
    x = jax.vmap(jax.vmap(lambda z, key: complete(z, key=key)))(sampled.z, keys)
    return x, sampled.log_likelihood - 0.5 * jnp.sum(sampled.z**2, axis=-1)
