"""The stochastic dynamics against integrals and densities computed another way."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import multivariate_normal

from gapjax.dynamics import Exponential, Power, float64_on_cpu
from gapjax.posterior.process import directions, kalman_filter, steps, wander

TIMES = np.array([0.0, 0.5, 1.0, 1.0, 2.5, 4.0])
DRIVE, LEVEL = 0.3, 0.2


@pytest.fixture(autouse=True)
def _double():
    with float64_on_cpu():
        yield


LAWS = [Exponential(2.0, 1.0, 0.5, 0.3, 0.1), Power(2.0, 1.0, 0.5, 0.3, 0.1, 0.8)]


def covariance_by_quadrature(law):
    """All pairs' covariance straight from its definition as an integral over the noise."""

    def remaining(t):
        return float(law.remaining(jnp.asarray(t)))

    def pulled(s, t):
        power = 1 + float(law.potential_exponent)
        both = remaining(s) * remaining(t)
        integral = quad(lambda u: (both / remaining(u) ** 2) ** power, 0, min(s, t))[0]
        return DRIVE**2 * integral

    along, level = np.array([1.0, law.rho]), np.ones(2)
    n = len(TIMES)
    total = np.zeros((2 * n, 2 * n))
    for i, s in enumerate(TIMES):
        for j, t in enumerate(TIMES):
            block = pulled(s, t) * np.outer(along, along)
            block += LEVEL**2 * min(s, t) * np.outer(level, level)
            total[2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = block
    return total


@pytest.mark.parametrize("law", LAWS, ids=["exponential", "power"])
def test_filter_gives_the_joint_density_of_all_checkpoints(law):
    noise = np.array([[0.01, 0.004], [0.004, 0.02]])
    residual = 0.3 * np.random.default_rng(0).standard_normal((len(TIMES), 2))
    total = covariance_by_quadrature(law) + np.kron(np.eye(len(TIMES)), noise)
    expected = multivariate_normal(cov=total).logpdf(residual.ravel())
    move = steps(law, DRIVE, LEVEL, jnp.asarray(TIMES))
    mask = jnp.ones(len(TIMES), bool)
    filtered = kalman_filter(law, move, jnp.asarray(noise), jnp.asarray(residual), mask)
    np.testing.assert_allclose(filtered.log_likelihood.sum(), expected, rtol=1e-8)
    # The state's mean is the regression of the last deviation on all measurements.
    deviation = covariance_by_quadrature(law)[-2:] @ np.linalg.solve(total, residual.ravel())
    np.testing.assert_allclose(directions(law) @ filtered.mean, deviation, rtol=1e-6, atol=1e-9)


@pytest.mark.fast
def test_padding_changes_nothing():
    law, noise = LAWS[1], 0.01 * jnp.eye(2)
    residual = jnp.asarray(np.random.default_rng(1).standard_normal((6, 2)))
    plain = kalman_filter(
        law, steps(law, DRIVE, LEVEL, jnp.asarray(TIMES)), noise, residual, jnp.ones(6, bool)
    )
    times = jnp.asarray(np.pad(TIMES, (0, 3), mode="edge"))
    padded = kalman_filter(
        law,
        steps(law, DRIVE, LEVEL, times),
        noise,
        jnp.pad(residual, ((0, 3), (0, 0)), constant_values=9.0),
        jnp.arange(9) < 6,
    )
    np.testing.assert_allclose(padded.mean, plain.mean)
    np.testing.assert_allclose(padded.covariance, plain.covariance)
    np.testing.assert_allclose(padded.log_likelihood[:6], plain.log_likelihood)


def test_simulated_deviations_have_the_covariance():
    law = LAWS[0]
    move = steps(law, DRIVE, LEVEL, jnp.asarray(TIMES))
    keys = jax.random.split(jax.random.key(0), 20_000)
    paths = jax.vmap(lambda key: wander(law, move, jnp.zeros(2), key))(keys)
    flat = np.asarray(paths).reshape(len(keys), -1)
    expected = covariance_by_quadrature(law)
    np.testing.assert_allclose(np.cov(flat.T), expected, atol=0.05 * expected.max())
