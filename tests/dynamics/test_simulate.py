"""The simulator: external data, choice of method, noise, other laws."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from gapjax.dynamics import (
    CurvedCoupling,
    Exponential,
    External,
    FunctionPotential,
    GapSystem,
    LinearPotential,
    Persistence,
    Power,
    PowerPotential,
    TwoRate,
    early,
    exponential_decay,
    external,
    float64_on_cpu,
    late,
    simulate,
    uniform,
)
from gapjax.dynamics.runs import RunSettings, simulate_run
from gapjax.errors import UserError

EPOCHS = np.linspace(0, 10, 21)


@pytest.fixture(autouse=True)
def _double():
    with float64_on_cpu():
        yield


def scipy_with_jumps(potential, shares, strength, alpha=1.0, beta=0.4):
    """Restart DOP853 after every jump; a jump at round t shows at epoch t."""
    state, states, begin = np.array([12.0, 8.0]), np.empty((2, 21)), 0.0

    def slope(t, y):
        return -np.array([alpha, beta]) * potential(y[0] - y[1])

    for jump in [*sorted(shares), 11.0]:
        inside = (begin <= EPOCHS) & (jump > EPOCHS)
        if jump > begin:
            at = np.append(EPOCHS[inside], jump)
            path = solve_ivp(slope, (begin, jump), state, "DOP853", at, rtol=1e-12, atol=1e-12).y
            states[:, inside], state = path[:, :-1], path[:, -1]
        if jump in shares:
            state = np.array([state[0], state[1] / (1 + strength * shares[jump])])
        begin = jump
    return states


@pytest.mark.parametrize(
    "shares", [{2: 0.5, 5: 0.5}, {0: 1.0}, {10: 1.0}, {1: 0.2, 2: 0.3, 9: 0.4}]
)
@pytest.mark.parametrize(
    ("potential", "plain", "method"),
    [
        (LinearPotential(0.5, 0.3), lambda g: 0.5 * g - 0.3, "closed form"),
        (
            PowerPotential(0.5, 0.3, 0.7),
            lambda g: 0.5 * abs(g - 0.6) ** 0.7 * (g - 0.6),
            "closed form",
        ),
        (FunctionPotential(jnp.tanh), np.tanh, "diffrax"),
    ],
    ids=["linear", "power", "tanh"],
)
def test_external_data_against_scipy(shares, potential, plain, method):
    data = external(shares, 0.2, last_round=10)
    system = GapSystem(1.0, 0.4, potential)
    run = simulate(system, 12.0, 8.0, EPOCHS, external=data, rtol=1e-11, atol=1e-11)
    assert run.method == method
    assert not run.failed
    expected = scipy_with_jumps(plain, shares, 0.2)
    np.testing.assert_allclose(np.stack([run.solver, run.verifier]), expected, atol=1e-8)


def test_a_run_is_differentiable_in_its_shares():
    def final(shares):
        data = External((2, 5), shares, jnp.array([0.2, 0.2]))
        system = GapSystem(1.0, 0.4, LinearPotential(0.5, 0.3))
        return simulate(system, 12.0, 8.0, EPOCHS, external=data).solver[-1]

    at, step = jnp.array([0.5, 0.3]), 1e-5
    numerical = [
        (final(at.at[i].add(step)) - final(at.at[i].add(-step))) / (2 * step) for i in range(2)
    ]
    np.testing.assert_allclose(jax.grad(final)(at), numerical, rtol=1e-6)
    many = jax.vmap(final)(jnp.linspace(0, 0.5, 1000)[:, None] * jnp.ones(2))
    assert bool(jnp.all(jnp.diff(many) < 0))  # more data, a stronger solver


def test_timing_hardly_matters_where_data_is_limited():
    # The paper's claim, and where it ends: data strong enough to reopen the gap.
    def final(shares, strength, rounds):
        data = external(shares, strength, last_round=rounds)
        system = GapSystem(1.0, 0.4, LinearPotential(0.5, 0.3))
        return float(
            simulate(system, 12.0, 8.0, EPOCHS[: 2 * rounds + 1], external=data).solver[-1]
        )

    def spread(strength, rounds):
        """Best against worst timing, as a share of what training achieves."""
        finals = [final(plan(rounds), strength, rounds) for plan in (early, uniform, late)]
        return (max(finals) - min(finals)) / (12 - min(finals))

    assert final(uniform(10), 0.02, 10) < final({}, 0.02, 10)
    assert spread(0.02, 10) < 0.05
    assert spread(1.0, 10) > 0.3


def test_allocations_use_all_data_inside_the_run():
    for plan in (early, uniform, late):
        for rounds in (1, 2, 10):
            shares = plan(rounds)
            np.testing.assert_allclose(sum(shares.values()), 1)
            external(shares, exponential_decay(0.3, 0.1), last_round=rounds)


@pytest.mark.parametrize(
    ("shares", "strength"),
    [({2: 0.6, 3: 0.6}, 0.2), ({11: 0.5}, 0.2), ({-1: 0.5}, 0.2), ({2: -0.1}, 0.2), ({2: 0.5}, 0)],
)
def test_impossible_external_data_is_refused(shares, strength):
    with pytest.raises(UserError):
        external(shares, strength, last_round=10)


@jax.jit
def velocity(law, state):
    return law.vector_field(state)


@pytest.mark.parametrize(
    ("rho", "rho_end", "rate", "gap_limit"),
    [(0.3, 0.7, 0.5, 0.1), (0.8, 0.1, 1.2, -0.4), (0.05, 0.9, 0.15, 0.5)],
)
def test_laws_solve_their_own_equations(rho, rho_end, rate, gap_limit):
    laws = [
        CurvedCoupling(2.0, 1.0, rate, rho, gap_limit, rho_end),
        TwoRate(2.0, 1.0, gap_limit + 1, 0.3, jnp.array([rate + 0.2, 0.1]), rho_end, 0.1),
        Power(2.0, 1.0, rate, rho, gap_limit, 2 * rho_end),
        Exponential(2.0, 1.0, rate, rho, gap_limit),
        Persistence(2.0, 1.0),
    ]
    for law in laws:
        start = [2.0, 1.0]
        solver, verifier = solve_ivp(
            lambda t, y, law=law: np.asarray(velocity(law, jnp.asarray(y))),
            (0, 10),
            start,
            "DOP853",
            EPOCHS,
            rtol=1e-10,
            atol=1e-10,
        ).y
        np.testing.assert_allclose(law.solver(EPOCHS), solver, atol=1e-7)
        np.testing.assert_allclose(law.verifier(EPOCHS), verifier, atol=1e-7)
        late_state = jnp.array([law.solver(1e12), law.verifier(1e12)])
        np.testing.assert_allclose(late_state, law.limit[:2], atol=1e-3)
        np.testing.assert_allclose(law.gap(EPOCHS), solver - verifier, atol=1e-7)


@pytest.mark.fast
def test_without_a_bend_the_coupling_is_the_paper_s():
    curved = CurvedCoupling(2.0, 1.0, 0.5, 0.3, 0.1, 0.3)
    law = Exponential(2.0, 1.0, 0.5, 0.3, 0.1)
    np.testing.assert_allclose(curved.solver(EPOCHS), law.solver(EPOCHS), rtol=1e-12)
    np.testing.assert_allclose(curved.verifier(EPOCHS), law.verifier(EPOCHS), rtol=1e-12)


def test_process_noise_has_the_variance_of_an_ornstein_uhlenbeck_gap():
    # dG = −γ(G − G∞)dt + √2·σ dW has variance σ²(1 − exp(−2γt))/γ.
    system = GapSystem(1.0, 0.4, LinearPotential(0.5, 0.3))

    def gap(key):
        run = simulate(system, 12.0, 8.0, jnp.array([0.0, 4.0]), process_noise=0.1, key=key)
        return run.solver[-1] - run.verifier[-1]

    gaps = jax.jit(jax.vmap(gap))(jax.random.split(jax.random.key(0), 1000))
    expected = 0.01 * (1 - np.exp(-2 * 0.3 * 4)) / 0.3
    np.testing.assert_allclose(np.var(gaps), expected, rtol=0.2)
    mean = 0.6 + 3.4 * np.exp(-0.3 * 4)
    assert abs(np.mean(gaps) - mean) < 4 * np.sqrt(expected / 1000)


@pytest.mark.fast
def test_same_seed_same_run():
    settings_ = RunSettings(solver0=12.0, verifier0=8.0, noise=0.01, process_noise=0.05, seed=3)
    first, second = simulate_run(settings_), simulate_run(settings_)
    assert first.method == "diffrax SDE"
    assert first.frame.equals(second.frame)


@pytest.mark.parametrize(
    "wrong",
    [
        {"beta": 1.0},
        {"k": 0.0},
        {"every": 0.0},
        {"epochs": float("nan")},
        {"epochs": 1e5, "every": 1e-3},
        {"noise": -1.0},
        {"solver0": float("inf")},
        {"external_shares": {2: 0.7, 3: 0.7}},
        {"verifier0": 1.0, "b": -5.0},  # the gap limit takes uncertainties below zero
    ],
)
def test_impossible_runs_are_refused(wrong):
    with pytest.raises(UserError):
        simulate_run(RunSettings(**{"solver0": 12.0, "verifier0": 8.0, **wrong}))


@pytest.mark.fast
def test_checkpoints_end_where_the_run_ends():
    run = RunSettings(solver0=12.0, verifier0=8.0, epochs=10.0, every=3.0)
    frame = simulate_run(run).frame
    assert frame["epoch"].tolist() == [0, 3, 6, 9, 10]
    # k(α − β) = 0.3 a unit of time, gap from 4 to 0, of which the solver goes 1/0.6.
    expected = 12 - 4 / 0.6 * (1 - np.exp(-0.3 * frame["epoch"]))
    np.testing.assert_allclose(frame["solver_uncertainty"], expected, rtol=1e-12)


@pytest.mark.fast
@pytest.mark.parametrize("every", [0.1, 0.7, 1.0, 3.0])
def test_all_external_data_is_in_the_table(every):
    shares = {0: 0.1, 2: 0.3, 5: 0.2, 7: 0.2, 10: 0.2}
    run = RunSettings(solver0=12.0, verifier0=8.0, every=every, external_shares=shares)
    frame = simulate_run(run).frame
    np.testing.assert_allclose(frame["external_share"].sum(), 1.0)
    used = np.interp(frame["epoch"], sorted(shares), np.cumsum([*shares.values()]))
    at = frame["epoch"].isin([*shares])
    np.testing.assert_allclose(frame["external_share"].cumsum()[at], used[at])


@pytest.mark.fast
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"epochs": 5000.0, "process_noise": 0.1}, "with process noise at most 2000"),
        ({"potential": "power", "exponent": 1000.0}, "finite numbers"),
        ({"k": 1e6, "process_noise": 1.0}, "finite numbers"),
        ({"exponent": 1e9}, "exponent is 1e\\+09, not from 0 to 1e\\+06"),
        ({"seed": 1.5}, "seed is 1.5, not a whole number"),
        ({"noise": True}, "noise is True, not a number"),
        ({"alpha": 10**400}, "alpha is a number of more than 300 digits"),
    ],
)
def test_what_is_wrong_with_a_run_is_said(wrong, said):
    with pytest.raises(UserError, match=said):
        simulate_run(RunSettings(**{"solver0": 12.0, "verifier0": 8.0, **wrong}))
