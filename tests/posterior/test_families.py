"""Every family of laws: its coordinates, its truth recovered, its limits told apart."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import shared, simulate

from gapjax import posterior
from gapjax.dynamics import float64_on_cpu
from gapjax.posterior.families import FAMILIES
from gapjax.posterior.model import Model

SPAN = 10.0


@pytest.mark.parametrize("name", FAMILIES)
def test_coordinates_are_a_bijection_with_their_jacobian(name):
    model = Model(FAMILIES[name])
    with float64_on_cpu():
        x = jnp.array([0.1, -0.7, 0.4, -0.5, 0.3, 0.6, -4.0][: len(model.coordinates)])

        def numbers(base):
            _, values, _ = model.law(x.at[:5].set(base), SPAN)
            return jnp.stack(list(values))

        law, _, log_det = model.law(x, SPAN)
        _, expected = np.linalg.slogdet(jax.jacfwd(numbers)(x[:5]))
        np.testing.assert_allclose(log_det, expected, rtol=1e-8)
        # The law passes through the value at the last checkpoint, whatever its shape.
        np.testing.assert_allclose(law.solver(SPAN), np.exp(-0.7), rtol=1e-8)
        np.testing.assert_allclose(law.remaining(law.time_to_remaining(0.3)), 0.3, rtol=1e-8)


@pytest.mark.parametrize("name", ["power", "curved"])
def test_priors_of_shapes_integrate_to_one(name):
    family = FAMILIES[name]
    with float64_on_cpu():
        grid = jnp.linspace(-8, 12, 200_001)[:, None]
        density = jnp.exp(jax.vmap(family.log_prior)(grid))
        np.testing.assert_allclose(np.trapezoid(density, grid[:, 0]), 1, atol=1e-3)


def power_curve(q=0.8, rate=0.8):
    frame = simulate(noise=0.0, seed=3)
    done = 1 - (1 + q * rate * frame["epoch"]) ** (-1 / q)
    rng = np.random.default_rng(4)
    frame["solver_uncertainty"] = 2 - 1.2 * done + 0.003 * rng.standard_normal(len(frame))
    frame["verifier_uncertainty"] = 1 - 0.48 * done + 0.003 * rng.standard_normal(len(frame))
    return frame


def test_power_law_is_recovered_where_the_exponential_is_contradicted():
    frame = power_curve()
    (power,) = posterior.fit(frame, "power", method="map")
    (exponential,) = posterior.fit(frame, method="map")
    assert power.limit["solver"]["q05"] < 0.8 < power.limit["solver"]["q95"]
    q = np.quantile(power.numbers["exponent"], [0.01, 0.99])
    assert q[0] < 0.8 < q[1]
    # The exponential law puts the limit too high, and its verdict says that it is wrong.
    assert exponential.limit["solver"]["q05"] > 0.8
    assert "does not describe" in exponential.reason


@pytest.mark.slow
def test_curved_coupling_describes_the_published_curves():
    for curve in posterior.fit(shared("phi4_curves/phi4_mini_qe.csv"), "curved", seed=1):
        assert curve.converged, curve.failures
        assert min(curve.r_squared.values()) > 0.995
