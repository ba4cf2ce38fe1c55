"""Tempered sequential Monte Carlo, for posteriors with several modes.

Whether a measured step was a jump of the run or the end of a fast relaxation is a question
with two answers: chains that start in one rarely find the other.  Particles that start from
the prior and are moved towards the posterior in stages (Del Moral, Doucet & Jasra 2006) hold
both, in proportion.  Several islands of particles run independently and play the part of
chains in the convergence checks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr
from jaxtyping import Array, Float, Int, Key

# Metropolis moves at each temperature, the first of which only evaluates, and at the last
# temperature, which leaves near-independent draws.
_MOVES, _FINAL_MOVES = 9, 41
_EFFECTIVE_SHARE = 0.5  # of the particles that a step in temperature keeps
_BISECTIONS = 30
_MIN_STEP = 1e-6
# Proposals around the particles' mean: a Gaussian of their covariance, or of four times it.
_WIDE_SHARE, _WIDE_SCALE = 0.2, 2.0
# Random-walk proposals: the optimal scale for a Gaussian, or a third of it.
_SHORT_SHARE, _SHORT_SCALE = 0.3, 1 / 3

LogLikelihood = Callable[[Float[Array, " dims"]], Float[Array, ""]]


class Particles(NamedTuple):
    """Equally weighted draws from the posterior.

    - `z`: coordinates, standard normal under the prior.
    - `log_likelihood`: at `z`.
    - `log_evidence`: each island's estimate of the marginal likelihood.
    - `stages`: temperatures it took.
    """

    z: Float[Array, "islands particles dims"]
    log_likelihood: Float[Array, "islands particles"]
    log_evidence: Float[Array, " islands"]
    stages: Int[Array, ""]


class _State(NamedTuple):
    particles: Particles
    temperature: Float[Array, ""]
    key: Key[Array, ""]


def sample_smc(
    log_likelihood: LogLikelihood, dims: int, key: Key[Array, ""], *, islands: int, particles: int
) -> Particles:
    """Sample `exp(log_likelihood(z))` times a standard normal prior in `dims` dimensions."""

    def evaluate(z: Float[Array, "islands particles dims"]) -> Float[Array, "islands particles"]:
        values = jax.vmap(log_likelihood)(z.reshape(-1, dims)).reshape(z.shape[:-1])
        return jnp.where(jnp.isnan(values), -jnp.inf, values)

    def stage(state: _State) -> _State:
        p, old = state.particles, state.temperature
        key, resample_key, move_key = jax.random.split(state.key, 3)
        # The first stage only evaluates: compiled once, the likelihood is half the waiting.
        begun = p.stages > 0
        new = jnp.where(begun, _next_temperature(p.log_likelihood, old), 0.0)
        log_w = (new - old) * p.log_likelihood
        evidence = p.log_evidence + jax.nn.logsumexp(log_w, axis=1) - jnp.log(particles)
        chosen = jax.vmap(_systematic)(jax.random.split(resample_key, islands), log_w)
        z = jnp.take_along_axis(p.z, chosen[..., None], axis=1)
        moves = jnp.where(begun, jnp.where(new < 1, _MOVES, _FINAL_MOVES), 1)
        z, value = _move(evaluate, z, new, moves, move_key)
        return _State(Particles(z, value, evidence, p.stages + 1), new, key)

    start_key, key = jax.random.split(key)
    z = jax.random.normal(start_key, (islands, particles, dims))
    zero = jnp.zeros((), z.dtype)
    nothing = jnp.zeros_like(z[..., 0])
    start = Particles(z, nothing, nothing[:, 0], jnp.array(0))
    return jax.lax.while_loop(lambda s: s.temperature < 1, stage, _State(start, zero, key))[0]


def _next_temperature(
    log_likelihood: Float[Array, "islands particles"], old: Float[Array, ""]
) -> Float[Array, ""]:
    """The largest step that keeps the effective number of particles, by bisection."""

    def keeps(new: Float[Array, ""]) -> Array:
        w = jax.nn.softmax((new - old) * log_likelihood.ravel())
        return 1 / jnp.sum(w**2) > _EFFECTIVE_SHARE * w.size

    def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = (low + high) / 2
        ok = keeps(middle)
        return jnp.where(ok, middle, low), jnp.where(ok, high, middle)

    one = jnp.ones_like(old)
    low, _ = jax.lax.fori_loop(0, _BISECTIONS, halve, (old, one))
    return jnp.where(keeps(one), one, jnp.minimum(jnp.maximum(low, old + _MIN_STEP), one))


def _systematic(key: Key[Array, ""], log_w: Float[Array, " particles"]) -> Int[Array, " particles"]:
    """Systematic resampling."""
    n = len(log_w)
    points = (jnp.arange(n) + jax.random.uniform(key)) / n
    return jnp.minimum(jnp.searchsorted(jnp.cumsum(jax.nn.softmax(log_w)), points), n - 1)


def _move(
    evaluate: Callable,
    z: Float[Array, "islands particles dims"],
    temperature: Float[Array, ""],
    moves: Int[Array, ""],
    key: Key[Array, ""],
) -> tuple[Array, Array]:
    """Metropolis moves, fresh draws around the particles' mean alternating with random walks."""
    dims = z.shape[-1]
    flat = z.reshape(-1, dims)
    centre = flat.mean(axis=0)
    root = jnp.linalg.cholesky(jnp.cov(flat.T) + 1e-9 * jnp.eye(dims))

    def whiten(z: Array) -> Array:
        offsets = (z - centre).reshape(-1, dims).T
        return jax.scipy.linalg.solve_triangular(root, offsets, lower=True).T.reshape(z.shape)

    def log_fresh(w: Array) -> Array:
        """Density of a fresh proposal at whitened `w`, up to a constant."""
        squares = jnp.sum(w**2, axis=-1)
        wide = jnp.log(_WIDE_SHARE) - dims * jnp.log(_WIDE_SCALE) - squares / (2 * _WIDE_SCALE**2)
        return jnp.logaddexp(jnp.log1p(-_WIDE_SHARE) - squares / 2, wide)

    def one(i: int, carry: tuple) -> tuple:
        w, value, key = carry
        # One call for all random numbers: each would cost seconds of compilation.
        key, draw_key = jax.random.split(key)
        normal = jax.random.normal(draw_key, (*w.shape[:-1], dims + 2))
        step, u, v = normal[..., :-2], ndtr(normal[..., -2:-1]), ndtr(normal[..., -1])
        fresh = jnp.where(u < _WIDE_SHARE, _WIDE_SCALE, 1.0) * step
        walk = w + jnp.where(u < _SHORT_SHARE, _SHORT_SCALE, 1.0) * 2.38 / dims**0.5 * step
        is_fresh = i % 2 == 1
        # The first move stays where it is, and evaluates.
        proposed = jnp.where(i == 0, w, jnp.where(is_fresh, fresh, walk))
        z = centre + proposed @ root.T
        proposed_value = evaluate(z)
        log_ratio = temperature * (proposed_value - value) + _log_prior(z)
        log_ratio -= _log_prior(centre + w @ root.T)
        log_ratio += jnp.where(is_fresh, log_fresh(w) - log_fresh(proposed), 0.0)
        accept = (jnp.log(v) < log_ratio) | (i == 0)
        w = jnp.where(accept[..., None], proposed, w)
        return w, jnp.where(accept, proposed_value, value), key

    start = (whiten(z), jnp.zeros_like(z[..., 0]), key)
    w, value, _ = jax.lax.fori_loop(0, moves, one, start)
    return centre + w @ root.T, value


def _log_prior(z: Float[Array, "*batch dims"]) -> Float[Array, "*batch"]:
    return -0.5 * jnp.sum(z**2, axis=-1)
