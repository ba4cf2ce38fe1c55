"""Tempered particles on posteriors with known answers."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from gapjax.dynamics import float64_on_cpu
from gapjax.posterior.smc import sample_smc


@pytest.fixture(autouse=True)
def _double():
    with float64_on_cpu():
        yield


def run(log_likelihood, dims, seed=0):
    sampler = partial(sample_smc, log_likelihood, dims, islands=4, particles=500)
    return jax.jit(sampler)(jax.random.key(seed))


@pytest.mark.fast
def test_a_gaussian_and_its_evidence():
    noise = np.array([[0.02, 0.015], [0.015, 0.03]])
    data = np.array([1.5, -0.5])
    precision = jnp.asarray(np.linalg.inv(noise))
    constant = -0.5 * np.log(np.linalg.det(2 * np.pi * noise))

    def log_likelihood(z):
        return constant - 0.5 * (z - data) @ precision @ (z - data)

    found = run(log_likelihood, 2)
    posterior = np.linalg.inv(np.eye(2) + np.linalg.inv(noise))
    mean = posterior @ np.linalg.solve(noise, data)
    z = np.asarray(found.z).reshape(-1, 2)
    sd = np.sqrt(np.diag(posterior))
    np.testing.assert_allclose((z.mean(axis=0) - mean) / sd, 0, atol=0.1)
    scaled = (np.cov(z.T) - posterior) / np.outer(sd, sd)
    np.testing.assert_allclose(scaled, 0, atol=0.15)
    evidence = multivariate_normal(cov=noise + np.eye(2)).logpdf(data)
    np.testing.assert_allclose(np.mean(found.log_evidence), evidence, atol=0.15)
    np.testing.assert_allclose(
        found.log_likelihood, jax.vmap(jax.vmap(log_likelihood))(found.z), rtol=1e-6
    )


def test_two_modes_keep_their_weights():
    def log_likelihood(z):
        near = jnp.log(0.3) - 0.5 * jnp.sum((z - 1.2) ** 2) / 0.01
        far = jnp.log(0.7) - 0.5 * jnp.sum((z + 1.2) ** 2) / 0.01
        return jnp.logaddexp(near, far)

    z = np.asarray(run(log_likelihood, 3, seed=1).z)
    share = (z[..., 0] > 0).mean(axis=1)  # in each island
    assert abs(share.mean() - 0.3) < 0.08
    assert np.all(share > 0.1)


def test_same_key_same_particles():
    first, second = (run(lambda z: -jnp.sum((z - 1) ** 2), 2).z for _ in range(2))
    np.testing.assert_array_equal(first, second)
