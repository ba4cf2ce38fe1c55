"""The sampler's coordinates: a bijection with the Jacobian it claims."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gapjax.dynamics import float64_on_cpu
from gapjax.posterior.coordinates import to_numbers

SPAN = 10.0

coordinate = st.floats(-2, 2)


def numbers_at(x):
    return to_numbers(x, lambda log_r, rho: -log_r / SPAN)


@given(st.lists(coordinate, min_size=5, max_size=5))
@settings(deadline=None, max_examples=50)
def test_jacobian(values):
    if abs(values[0] - values[1]) < 1e-3:  # the kink between falling and rising curves
        return
    with float64_on_cpu():
        x = jnp.array(values)
        jacobian = jax.jacfwd(lambda x: jnp.stack(list(numbers_at(x)[0])))(x)
        _, expected = np.linalg.slogdet(jacobian)
        np.testing.assert_allclose(numbers_at(x)[1], expected, rtol=1e-8, atol=1e-8)


@given(st.lists(coordinate, min_size=5, max_size=5))
@settings(deadline=None, max_examples=50)
def test_curves_pass_through_their_end_and_stay_positive(values):
    with float64_on_cpu():
        numbers, _ = numbers_at(jnp.array(values))
        way = numbers.solver0 - numbers.solver_limit
        last = numbers.solver_limit + way * jnp.exp(-numbers.rate * SPAN)
        np.testing.assert_allclose(last, np.exp(values[1]), rtol=1e-6)
        assert numbers.solver_limit >= 0
        assert 0 < numbers.rho < 1
        assert numbers.solver_limit - numbers.gap_limit >= -1e-9
