"""Stochastic gap dynamics: the law as a drift, with noise that pushes the run off its curve.

The pair follows `dU = drift·dt + dW`.  To first order around the law's own path (exactly so
for the linear potential) the deviation from it has two parts,

- along `(1, ρ)`, the direction of the drift: it is pulled back, and what was pushed at time
  `s` has shrunk at `t` to `(D(t)/D(s))^(1+q)`, `D` being the law's remaining fraction;
- along `(1, 1)`, which leaves the gap alone: nothing pulls it back, it is a random walk.

Without noise this is the law; with much of it, persistence.  Measurement noise comes on top.
Both parts are Gaussian and Markov, so a Kalman filter gives the exact likelihood.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from gapjax.dynamics.laws import AbstractRelaxation


class Steps(NamedTuple):
    """How the two parts of the deviation move from one time to the next.

    - `shrink`: factor of the part along the drift.
    - `pushed`, `wandered`: variances that the noise adds to the two parts.
    """

    shrink: Float[Array, " time"]
    pushed: Float[Array, " time"]
    wandered: Float[Array, " time"]


class Filtered(NamedTuple):
    """The deviation given all measurements, and the log-density of each given its past."""

    mean: Float[Array, " part"]
    covariance: Float[Array, "part part"]
    log_likelihood: Float[Array, " time"]


def steps(
    law: AbstractRelaxation,
    drive: Float[Array, ""],
    level: Float[Array, ""],
    times: Float[Array, " time"],
    start: Float[Array, ""] | float = 0.0,
) -> Steps:
    """The steps from `start` through `times` (epochs since the law began).

    - `drive`, `level`: noise along `(1, ρ)` and `(1, 1)`, per square root of an epoch.
    """
    before = jnp.concatenate([jnp.asarray(start)[None], times[:-1]])
    shrink = jnp.exp(-(1 + law.potential_exponent) * (law.depth(times) - law.depth(before)))
    pushed = drive**2 * (_variance(law, times) - shrink**2 * _variance(law, before))
    return Steps(shrink, jnp.maximum(pushed, 0.0), level**2 * (times - before))


def _variance(law: AbstractRelaxation, t: Float[Array, "*time"]) -> Float[Array, "*time"]:
    """`∫ (D(t)/D(s))^(2+2q) ds` over `(0, t)`; closed since `ds = −dD/(γ·D^(1+q))`."""
    q, depth = law.potential_exponent, law.depth(t)
    return (jnp.exp(q * depth) - jnp.exp(-(2 + 2 * q) * depth)) / (law.rate * (2 + 3 * q))


def directions(law: AbstractRelaxation) -> Float[Array, "pair part"]:
    """The pair's deviation for a unit of each part."""
    one = jnp.ones(())
    return jnp.array([[one, one], [jnp.asarray(law.rho), one]])


def kalman_filter(
    law: AbstractRelaxation,
    move: Steps,
    noise: Float[Array, "pair pair"],
    residual: Float[Array, "time pair"],
    mask: Bool[Array, " time"],
) -> Filtered:
    """Filter the deviations of the measured pairs from the law.

    - `noise`: covariance of the measurement noise.
    - `residual`: measured minus law; ignored where `mask` is false.
    """
    h = directions(law)

    def step(carry: tuple[Array, Array], item: tuple[Steps, Array, Array]) -> tuple:
        (mean, cov), (move, residual, real) = carry, item
        f = jnp.array([move.shrink, 1.0])
        mean, cov = (
            f * mean,
            cov * jnp.outer(f, f) + jnp.diag(jnp.array([move.pushed, move.wandered])),
        )
        s = h @ cov @ h.T + noise
        det = s[0, 0] * s[1, 1] - s[0, 1] * s[1, 0]
        inverse = jnp.array([[s[1, 1], -s[0, 1]], [-s[1, 0], s[0, 0]]]) / det
        surprise = residual - h @ mean
        gain = cov @ h.T @ inverse
        log_p = -0.5 * (surprise @ inverse @ surprise + jnp.log(det)) - jnp.log(2 * jnp.pi)
        # Joseph's form keeps the covariance positive.
        keep = jnp.eye(2) - gain @ h
        updated = keep @ cov @ keep.T + gain @ noise @ gain.T
        mean = jnp.where(real, mean + gain @ surprise, mean)
        return (mean, jnp.where(real, updated, cov)), jnp.where(real, log_p, 0.0)

    start = (jnp.zeros(2), jnp.zeros((2, 2)))
    log_p: Float[Array, " time"]
    (mean, cov), log_p = jax.lax.scan(step, start, (move, residual, mask), unroll=4)
    return Filtered(mean, cov, log_p)


def wander(
    law: AbstractRelaxation,
    move: Steps,
    start: Float[Array, " part"],
    key: Key[Array, ""],
) -> Float[Array, "time pair"]:
    """A random path of the pair's deviation through `move`, from `start`."""
    push = jax.random.normal(key, (len(move.shrink), 2)) * jnp.sqrt(
        jnp.stack([move.pushed, move.wandered], axis=-1)
    )

    def step(state: Array, item: tuple[Array, Array]) -> tuple[Array, Array]:
        shrink, push = item
        state = state * jnp.array([shrink, 1.0]) + push
        return state, state

    _, path = jax.lax.scan(step, start, (move.shrink, push))
    return path @ directions(law).T
