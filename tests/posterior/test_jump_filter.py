"""The filter against joint densities and conditionals written out with SciPy."""

from __future__ import annotations

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from gapjax.dynamics import float64_on_cpu
from gapjax.posterior.jump_filter import Dynamics, draw_levels, jump_filter, log_marginal

TIMES = np.array([0.0, 0.5, 1.0, 2.5, 4.0])
N = len(TIMES)
WANDER = np.array([[0.04, 0.01], [0.01, 0.02]])
NOISE = np.array([0.01, 0.02])
START_MEAN, START_VARIANCE = (0.4, 0.3, 1.0, 0.6), (0.25, 0.16, 0.2, 0.3)
JUMP_VARIANCE = 0.5


@pytest.fixture(autouse=True)
def _double():
    with float64_on_cpu():
        yield


def dynamics(jump_rate):
    return Dynamics(
        remaining=np.exp(-np.outer(TIMES, [0.5, 0.3])),
        steps=np.diff(TIMES, prepend=0.0),
        wander=(jnp.asarray(WANDER[0, 0]), jnp.asarray(WANDER[0, 1]), jnp.asarray(WANDER[1, 1])),
        jump_rate=jnp.asarray(jump_rate),
        jump_variance=jnp.asarray(JUMP_VARIANCE),
        noise=(jnp.asarray(NOISE[0]), jnp.asarray(NOISE[1])),
        start_mean=START_MEAN,
        start_variance=START_VARIANCE,
    )


def joint(jumps):
    """Mean and covariance of (levels, amplitudes), and the matrix to the measurements."""
    level_s, level_v, first_s, first_v = START_MEAN
    var_s, var_v, first_var_s, first_var_v = START_VARIANCE
    size = 2 * N + 2
    mean = np.concatenate([np.tile([level_s, level_v], N), [first_s - level_s, first_v - level_v]])
    start = np.diag([var_s, var_v])
    cov = np.zeros((size, size))
    for i in range(N):
        for j in range(N):
            until = min(i, j)
            pushed = TIMES[until] * WANDER + JUMP_VARIANCE * sum(jumps[: until + 1]) * np.eye(2)
            cov[2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = start + pushed
        cov[2 * i : 2 * i + 2, -2:] = cov[-2:, 2 * i : 2 * i + 2] = -start
    cov[-2:, -2:] = np.diag([var_s + first_var_s, var_v + first_var_v])
    to_pair = np.zeros((2 * N, size))
    decay = np.exp(-np.outer(TIMES, [0.5, 0.3]))
    for i in range(N):
        to_pair[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = np.eye(2)
        to_pair[2 * i : 2 * i + 2, -2:] = np.diag(decay[i])
    return mean, cov, to_pair


def log_density(pair, jumps):
    mean, cov, to_pair = joint(jumps)
    total = to_pair @ cov @ to_pair.T + np.kron(np.eye(N), np.diag(NOISE))
    return multivariate_normal(to_pair @ mean, total).logpdf(pair.ravel())


def curve(jump):
    rng = np.random.default_rng(1)
    pair = 0.4 + np.exp(-np.outer(TIMES, [0.5, 0.3])) * [0.6, 0.3]
    pair = pair + 0.1 * rng.standard_normal(pair.shape)
    pair[3:] += jump
    return pair


@pytest.mark.fast
def test_without_jumps_the_likelihood_is_exact():
    pair = curve(0.0)
    filtered = jump_filter(dynamics(0.0), jnp.asarray(pair), jnp.ones(N, bool))
    expected = log_density(pair, [0] * N)
    np.testing.assert_allclose(filtered.log_likelihood.sum(), expected, rtol=1e-9)


@pytest.mark.parametrize(("jump", "tolerance"), [(3.0, 0.02), (0.8, 0.1), (0.0, 0.02)])
def test_with_jumps_it_is_close_to_the_sum_over_all_histories(jump, tolerance):
    pair = curve(jump)
    rate = 0.1
    p = 1 - np.exp(-rate * np.diff(TIMES))
    terms = []
    for history in product([0, 1], repeat=N - 1):
        log_prior = np.sum(np.log(np.where(history, p, 1 - p)))
        terms.append(log_prior + log_density(pair, [0, *history]))
    filtered = jump_filter(dynamics(rate), jnp.asarray(pair), jnp.ones(N, bool))
    exact = np.logaddexp.reduce(terms)
    assert abs(float(filtered.log_likelihood.sum()) - exact) < tolerance


def test_masked_checkpoints_tell_nothing():
    pair = curve(0.0)
    whole = dynamics(0.1)
    padded = whole._replace(
        remaining=np.concatenate([whole.remaining, whole.remaining[-1:]]),
        steps=np.append(whole.steps, 0.0),
    )
    mask = jnp.asarray([True] * N + [False])
    more = jnp.asarray(np.concatenate([pair, [[9.0, 9.0]]]))
    np.testing.assert_allclose(
        log_marginal(padded, more, mask), log_marginal(whole, jnp.asarray(pair), mask[:N])
    )


def test_drawn_levels_have_the_exact_conditional_moments():
    pair = curve(0.0) + 2.0  # far from zero: the limits' sign decides nothing
    filtered = jump_filter(dynamics(0.0), jnp.asarray(pair), jnp.ones(N, bool))
    draw = jax.jit(jax.vmap(partial(draw_levels, dynamics(0.0), filtered)))
    levels, amplitudes = draw(jax.random.split(jax.random.key(0), 20_000))
    draws = np.concatenate([levels.reshape(-1, 2 * N), amplitudes], axis=1)
    mean, cov, to_pair = joint([0] * N)
    gain = np.linalg.solve(
        to_pair @ cov @ to_pair.T + np.kron(np.eye(N), np.diag(NOISE)), to_pair @ cov
    ).T
    expected = mean + gain @ (pair.ravel() - to_pair @ mean)
    spread = cov - gain @ to_pair @ cov
    sd = np.sqrt(np.diag(spread))
    np.testing.assert_allclose(draws.mean(axis=0), expected, atol=5 * sd.max() / 20_000**0.5)
    scaled = (np.cov(draws.T) - spread) / np.outer(sd, sd)
    assert np.abs(scaled).max() < 0.05
