"""Plans as people order them: plain numbers in, shares and the length of the run out."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gapjax import __version__
from gapjax.dynamics.external import early, exponential_decay, external, late, uniform
from gapjax.dynamics.planning import allocate, rounds_path, solver_after
from gapjax.dynamics.precision import float64_on_cpu
from gapjax.dynamics.runs import RunSettings
from gapjax.errors import UserError
from gapjax.numbers import real_number, whole_number

_MAX_ROUNDS = 200
_SHOWN = 5e-4  # smaller shares are nothing that one could act upon


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """A run to plan.

    - `run`: the gap equations, where they start, and the strength of external data.
    - `rounds`: the longest run that is considered.
    - `decay`: `γ_x` shrinks by `exp(−decay)` each round.
    - `objective`: judge a plan by `U_s` at the end, or by the limit from there on.
    - `price`: what a round costs, in nats of `U_s`.
    """

    run: RunSettings
    rounds: int = 10
    decay: float = 0.0
    objective: Literal["final", "limit"] = "final"
    price: float = 0.0

    def check(self) -> None:
        """Raise `UserError` for what cannot be planned."""
        whole_number("rounds", self.rounds, 1, _MAX_ROUNDS)
        for name in ("decay", "price"):
            real_number(name, getattr(self, name), 0, 1e6)
        if self.price and self.objective == "limit":
            raise UserError("a price per round needs the objective 'final'")
        replace(self.run, epochs=float(self.rounds), every=self.rounds / 10).check()
        strength = exponential_decay(self.run.gamma_x, self.decay)
        external(uniform(self.rounds), strength, last_round=self.rounds)


class Plan(NamedTuple):
    """The best plan for a run, and what it is compared with (uncertainties in nats).

    - `rounds`: the length of the run that is worth its price.
    - `shares`: round to share of the external data.
    - `solver`: what the plan and the usual allocations achieve in that many rounds.
    - `paths`: `U_s` at rounds 0, 1, ... for each of them.
    - `by_length`: the best achievable in 0, 1, ... rounds.
    - `slack`: at most this much better (nats) would be any other plan near this one.
    """

    settings: PlanSettings
    rounds: int
    shares: dict[int, float]
    solver: dict[str, float]
    paths: dict[str, Float[np.ndarray, " rounds"]]
    by_length: Float[np.ndarray, " lengths"]
    slack: float

    def to_dict(self) -> dict[str, Any]:
        """The contents of `plan.json`."""
        s, planned = self.settings, self.solver["planned"]
        others = {name: value for name, value in self.solver.items() if name != "planned"}
        return {
            "gapjax": __version__,
            "objective": s.objective,
            "gamma_x": s.run.gamma_x,
            "decay": s.decay,
            "price": s.price,
            "rounds": self.rounds,
            "shares": {str(number): share for number, share in self.shares.items()},
            "solver": self.solver,
            "gain_over": {name: value - planned for name, value in others.items()},
            "solver_by_rounds": self.by_length.tolist(),
            "slack": self.slack,
        }


def plan_run(settings: PlanSettings) -> Plan:
    """Choose the shares of external data, and the number of rounds if they have a price.

    **Raises:** `UserError` for settings that make no run, or data so strong that the
    uncertainties would become negative.
    """
    settings.check()
    run, limit = settings.run, settings.objective == "limit"
    start = (run.system, run.solver0, run.verifier0)
    numbers = np.arange(1, settings.rounds + 1)
    with float64_on_cpu():
        strengths = run.gamma_x * jnp.exp(-settings.decay * numbers)
        best = jax.device_get(allocate(*start, strengths, jnp.asarray(numbers), limit=limit))
        nothing = float(solver_after(*start, jnp.ones(1), 0, limit=limit))
        by_length = np.concatenate([[nothing], best.solver])
        rounds = settings.rounds
        if settings.price:
            rounds = int(np.argmin(by_length + settings.price * np.arange(len(by_length))))
        if rounds == 0:
            raise UserError(f"no round is worth {settings.price:g} nats", hint="lower the price")
        chosen = best.shares[rounds - 1]
        plans = {"planned": dict(enumerate(chosen.tolist(), start=1)), "none": {}}
        plans |= {plan.__name__: plan(rounds) for plan in (early, uniform, late)}
        solver, paths = {}, {}
        for name, shares in plans.items():
            used = np.array([shares.get(t, 0.0) for t in numbers.tolist()])
            factors = 1 / (1 + strengths * used)
            path = np.asarray(rounds_path(*start, factors))[: rounds + 1]
            if not np.all(np.isfinite(path)):
                raise UserError(
                    "the gap equations leave the finite numbers",
                    hint="a smaller k, a smaller exponent or a smaller gap at the start",
                )
            if path.min() < 0 and name == "planned":
                where = math.floor(np.argmax(path.min(axis=1) < 0))
                raise UserError(
                    f"uncertainties would become negative at round {where}",
                    hint="start higher, or take weaker data (smaller gamma-x)",
                )
            solver[name] = float(solver_after(*start, factors, rounds, limit=limit))
            paths[name] = path[:, 0]
    shares = {t: share for t, share in plans["planned"].items() if share >= _SHOWN}
    return Plan(settings, rounds, shares, solver, paths, by_length, float(best.slack[rounds - 1]))
