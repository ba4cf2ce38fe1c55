"""The posterior's density against the same written out in NumPy, from its description."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.curves import exponential_curve
from benchmarks.density import log_density
from gapjax import trajectories
from gapjax.dynamics import float64_on_cpu
from gapjax.posterior.families import FAMILIES
from gapjax.posterior.mode import potential
from gapjax.posterior.model import Model
from gapjax.posterior.observations import pad, scale_of


@pytest.mark.fast
@pytest.mark.parametrize("solver_limit", [0.8, 2.6], ids=["falling", "rising"])
def test_density_is_the_one_described(solver_limit):
    (curve,) = trajectories.read(exponential_curve(solver_limit=solver_limit, rho=0.3))
    scale = scale_of(curve)
    observed = jax.tree.map(lambda leaf: leaf[0], pad([curve], [scale]))
    model = Model(FAMILIES["exponential"])
    rng = np.random.default_rng(0)
    xs = np.array([0, -0.5, 1, -0.7, 0, -4]) + 0.5 * rng.standard_normal((50, 6))
    times, span = curve.epochs, curve.epochs[-1]
    with float64_on_cpu():
        energies = jax.jit(jax.vmap(potential(model, observed)))(jnp.asarray(xs))
        expected = [
            log_density(x, times, curve.solver / scale, curve.verifier / scale, span, np)
            for x in xs
        ]
        np.testing.assert_allclose(-energies, expected, rtol=1e-9)
