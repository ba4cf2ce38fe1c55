"""Plans against brute force and against calculus."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gapjax.dynamics import (
    External,
    GapSystem,
    LinearPotential,
    PowerPotential,
    float64_on_cpu,
    simulate,
)
from gapjax.dynamics.planning import allocate, rounds_path
from gapjax.dynamics.plans import PlanSettings, plan_run
from gapjax.dynamics.runs import RunSettings
from gapjax.errors import UserError

SYSTEM = GapSystem(1.0, 0.4, LinearPotential(0.7, 0.42))


@pytest.fixture(autouse=True)
def _double():
    with float64_on_cpu():
        yield


@pytest.mark.parametrize("potential", [LinearPotential(0.7, 0.42), PowerPotential(0.7, 0.42, 0.5)])
def test_rounds_follow_the_simulator(potential):
    shares, strengths = np.array([0.2, 0.0, 0.5, 0.3]), np.array([0.4, 0.3, 0.2, 0.1])
    system = GapSystem(1.0, 0.4, potential)
    run = simulate(
        system, 12.0, 8.0, np.arange(5.0), external=External((1, 2, 3, 4), shares, strengths)
    )
    path = rounds_path(system, 12.0, 8.0, 1 / (1 + strengths * shares))
    np.testing.assert_allclose(path, np.stack([run.solver, run.verifier], axis=-1), rtol=1e-12)


@pytest.mark.parametrize("limit", [False, True], ids=["final", "limit"])
@pytest.mark.parametrize(
    ("beta", "strengths"),
    [
        (0.4, [0.5, 0.5, 0.5]),
        (0.05, [3.0, 3.0, 3.0]),  # U_v hardly moves: strong data are better spread
        (0.05, [1.0, 1.5, 2.5]),  # and better late if they become stronger
        (0.8, [0.02, 0.02, 0.02]),
    ],
)
def test_allocation_beats_every_point_of_a_grid(limit, beta, strengths):
    system, strengths = GapSystem(1.0, beta, LinearPotential(0.7, 0.42)), jnp.array(strengths)
    steps = np.arange(41) / 40
    grid = np.array(
        [(a, b, 1 - a - b) for a, b in itertools.product(steps, steps) if a + b <= 1 + 1e-12]
    )

    def value(shares):
        solver, verifier = rounds_path(system, 12.0, 8.0, 1 / (1 + strengths * shares))[3]
        return solver - (solver - verifier - 0.6) / (1 - beta) if limit else solver

    values = jax.jit(jax.vmap(value))(jnp.asarray(grid))
    plan = allocate(system, 12.0, 8.0, strengths, jnp.array([3]), limit=limit)
    assert plan.solver[0] <= values.min() + 1e-9
    assert plan.solver[0] >= values.min() - 0.02 * (values.max() - values.min())
    np.testing.assert_allclose(plan.shares[0].sum(), 1)
    np.testing.assert_allclose(value(plan.shares[0]), plan.solver[0])
    assert 0 <= plan.slack[0] < 1e-6


def test_shorter_runs_use_their_own_rounds_only():
    plan = allocate(SYSTEM, 12.0, 8.0, jnp.full(6, 0.5), jnp.arange(1, 7))
    for length, shares in enumerate(np.asarray(plan.shares), start=1):
        assert np.all(shares[length:] == 0)
        np.testing.assert_allclose(shares.sum(), 1)
    alone = allocate(SYSTEM, 12.0, 8.0, jnp.full(3, 0.5), jnp.array([3]))
    np.testing.assert_allclose(plan.solver[2], alone.solver[0], rtol=1e-9)


def settings(**changes):
    run = {name: changes.pop(name) for name in [*changes] if name in RunSettings.__annotations__}
    equations = {"solver0": 12.0, "verifier0": 8.0, "k": 0.7, "b": 0.42, "gamma_x": 0.5} | run
    return PlanSettings(run=RunSettings(**equations), **changes)


def test_a_plan_is_no_worse_than_the_usual_allocations():
    plan = plan_run(settings(rounds=6, beta=0.1))
    assert plan.solver["planned"] == min(plan.solver.values())
    assert plan.solver["planned"] < plan.solver["early"] - 0.1
    np.testing.assert_allclose(sum(plan.shares.values()), 1, atol=0.01)
    assert plan.solver["none"] == max(plan.solver.values())


def test_rounds_are_worth_their_price_as_long_as_the_slope_exceeds_it():
    # Data too weak to matter: U_s falls by A·exp(−γT)·(1 − exp(−γ)) in the round after T.
    price, rate, way = 0.4, 0.42, (4 - 0.6) / 0.6
    plan = plan_run(settings(rounds=6, gamma_x=1e-9, price=price))
    worth = [t for t in range(6) if way * np.exp(-rate * t) * -np.expm1(-rate) > price]
    assert plan.rounds == len(worth) < 6


@pytest.mark.parametrize(
    "wrong",
    [
        {"rounds": 0},
        {"rounds": 1000},
        {"decay": -1.0},
        {"price": float("nan")},
        {"price": 1.0, "objective": "limit"},
        {"beta": 2.0},
        {"gamma_x": 0.0},
        {"gamma_x": float("nan")},
    ],
)
def test_impossible_plans_are_refused(wrong):
    with pytest.raises(UserError):
        plan_run(settings(**wrong))


@pytest.mark.parametrize(
    "hopeless", [{"price": 50.0}, {"gamma_x": 100.0, "b": 0.0}, {"gamma_x": 100.0}]
)
def test_plans_that_lead_nowhere_say_so(hopeless):
    with pytest.raises(UserError):
        plan_run(settings(rounds=6, **hopeless))
