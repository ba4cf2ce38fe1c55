"""Closed forms against the equations they solve, integrated by code that is not ours."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from gapjax.dynamics import (
    Exponential,
    FunctionPotential,
    GapSystem,
    LinearPotential,
    Power,
    PowerPotential,
    check_coefficients,
    float64_on_cpu,
    integrate,
)
from gapjax.dynamics.laws import fraction_time, remaining_fraction
from gapjax.errors import UserError

TIMES = np.linspace(0, 10, 21)

coefficients = st.fixed_dictionaries(
    {
        "solver0": st.floats(0.5, 40),
        "verifier0": st.floats(0.1, 40),
        "alpha": st.floats(0.5, 2),
        "beta": st.floats(0, 0.45),
        "k": st.floats(0.05, 1.5),
        "b": st.floats(-1, 1),
        "q": st.floats(0, 2),
    }
)


@pytest.fixture(autouse=True)
def _double():
    with float64_on_cpu():
        yield


def scipy_solution(c, potential):
    """DOP853 at near machine precision."""

    def slope(t, y):
        energy = potential(y[0] - y[1])
        return [-c["alpha"] * energy, -c["beta"] * energy]

    start = [c["solver0"], c["verifier0"]]
    return solve_ivp(slope, (0, 10), start, "DOP853", TIMES, rtol=1e-12, atol=1e-12).y


def exponential(c):
    return Exponential.from_coefficients(
        c["solver0"], c["verifier0"], alpha=c["alpha"], beta=c["beta"], k=c["k"], b=c["b"]
    )


@given(coefficients)
@settings(max_examples=25, deadline=None)
def test_exponential_law_solves_the_equations(c):
    law = exponential(c)
    solver, verifier = scipy_solution(c, lambda gap: c["k"] * gap - c["b"])
    np.testing.assert_allclose(law.solver(TIMES), solver, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(law.verifier(TIMES), verifier, rtol=1e-8, atol=1e-8)


@given(coefficients)
@settings(max_examples=25, deadline=None)
def test_power_law_solves_the_equations(c):
    delta = c["solver0"] - c["verifier0"] - c["b"] / c["k"]
    rate = c["k"] * (c["alpha"] - c["beta"]) * abs(delta) ** c["q"]
    law = Power(c["solver0"], c["verifier0"], rate, c["beta"] / c["alpha"], c["b"] / c["k"], c["q"])

    def potential(gap):
        distance = gap - c["b"] / c["k"]
        return c["k"] * abs(distance) ** c["q"] * distance

    solver, verifier = scipy_solution(c, potential)
    np.testing.assert_allclose(law.solver(TIMES), solver, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(law.verifier(TIMES), verifier, rtol=1e-7, atol=1e-7)


@pytest.mark.fast
def test_diffrax_equals_the_closed_form_and_its_gradient():
    def closed(k):
        return Exponential.from_coefficients(12.0, 8.0, alpha=1.0, beta=0.4, k=k, b=0.3)

    def solved(k):
        system = GapSystem(1.0, 0.4, LinearPotential(k, 0.3))
        return integrate(system, 12.0, 8.0, jnp.asarray(TIMES), rtol=1e-11, atol=1e-12)

    path = solved(0.5)
    assert not path.failed
    np.testing.assert_allclose(path.solver, closed(0.5).solver(TIMES), atol=1e-8)
    np.testing.assert_allclose(path.verifier, closed(0.5).verifier(TIMES), atol=1e-8)
    exact = jax.grad(lambda k: closed(k).solver(jnp.asarray(TIMES)).sum())(0.5)
    numerical = jax.grad(lambda k: solved(k).solver.sum())(0.5)
    np.testing.assert_allclose(numerical, exact, rtol=1e-6)


def test_any_increasing_potential_can_be_integrated():
    c = {"alpha": 1.0, "beta": 0.3, "solver0": 5.0, "verifier0": 2.0}
    system = GapSystem(1.0, 0.3, FunctionPotential(jnp.sinh))
    path = integrate(system, 5.0, 2.0, jnp.asarray(TIMES), rtol=1e-10, atol=1e-10)
    solver, verifier = scipy_solution(c, np.sinh)
    np.testing.assert_allclose(path.solver, solver, atol=1e-7)
    np.testing.assert_allclose(path.verifier, verifier, atol=1e-7)


def test_failures_are_reported_and_do_not_raise():
    # The gap grows like 1/(t0 − t) and leaves the finite numbers at t = 1/3.
    system = GapSystem(1.0, 0.0, FunctionPotential(lambda gap: -(gap**2)))
    starts = jnp.array([3.0, 0.01])
    failed = jax.vmap(lambda s: integrate(system, s, 0.0, jnp.asarray(TIMES)).failed)(starts)
    np.testing.assert_array_equal(failed, [True, False])


@given(coefficients)
@settings(max_examples=25, deadline=None)
def test_limit_is_the_paper_s_formula(c):
    alpha, beta = c["alpha"], c["beta"]
    limit = exponential(c).limit
    expected = (alpha * c["verifier0"] - beta * c["solver0"] + alpha * c["b"] / c["k"]) / (
        alpha - beta
    )
    np.testing.assert_allclose(limit.solver, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(limit.solver - limit.verifier, c["b"] / c["k"], atol=1e-9)
    np.testing.assert_allclose(exponential(c).solver(1e6), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.fast
def test_a_larger_initial_gap_means_a_stronger_final_solver():
    def limit(initial_gap, verifier0=8.0):
        law = Exponential.from_coefficients(
            verifier0 + initial_gap, verifier0, alpha=1.0, beta=0.4, k=0.5, b=0.3
        )
        return law.limit.solver

    np.testing.assert_allclose(jax.grad(limit)(4.0), -0.4 / 0.6, rtol=1e-12)


@pytest.mark.parametrize("q", [0.0, 1e-9, 0.5, 2.0])
def test_time_to_within(q):
    law = Power(12.0, 8.0, 0.3, 0.4, 0.6, q)
    at = law.solver(law.time_to_within(0.01))
    np.testing.assert_allclose(at - law.limit.solver, 0.01, rtol=1e-6)
    assert law.time_to_within(1e3) == 0


@given(st.floats(0, 50), st.floats(0, 3))
def test_remaining_fraction_against_its_definition(x, q):
    x, q = float(x), float(q)
    # np.float128 stands in for a computer algebra system where q is tiny.
    big_q, big_x = np.longdouble(max(q, 1e-9)), np.longdouble(x)
    expected = np.exp(-np.log1p(big_q * big_x) / big_q)
    np.testing.assert_allclose(remaining_fraction(x, max(q, 1e-9)), float(expected), rtol=1e-11)
    np.testing.assert_allclose(remaining_fraction(x, 0.0), np.exp(-x), rtol=1e-12)


@pytest.mark.fast
def test_remaining_fraction_is_smooth_where_it_switches_to_its_series():
    q = jnp.array([0.999e-4, 1.001e-4])
    slope = jax.vmap(jax.grad(remaining_fraction, argnums=1), (None, 0))(1.0, q)
    # d/dq at q = 0 is x²/2·exp(−x); its relative change over the step is about 1e-7.
    np.testing.assert_allclose(slope[0], slope[1], rtol=1e-6)
    np.testing.assert_allclose(slope, 0.5 * np.exp(-1), rtol=1e-3)
    np.testing.assert_allclose(fraction_time(remaining_fraction(3.0, q), q), 3.0, rtol=1e-12)


@pytest.mark.fast
def test_laws_map_over_thousands_of_curves():
    rates = jnp.linspace(0.01, 2, 4096)
    law = jax.vmap(lambda r: Power(2.0, 1.0, r, 0.3, 0.1, 0.5).solver(jnp.asarray(TIMES)))(rates)
    assert law.shape == (4096, 21)
    assert bool(jnp.all(jnp.isfinite(law)))


@pytest.mark.fast
def test_power_potential_has_a_gradient_at_the_limit():
    slope = jax.grad(lambda gap: PowerPotential(0.5, 0.3, 0.7)(gap))(0.6)
    assert slope == 0


@pytest.mark.parametrize(
    ("alpha", "beta", "k"), [(1, -0.1, 1), (1, 1, 1), (0.5, 0.8, 1), (1, 0.5, 0), (1, 0.5, np.nan)]
)
def test_coefficients_without_a_limit_are_refused(alpha, beta, k):
    with pytest.raises(UserError):
        check_coefficients(alpha, beta, k)
