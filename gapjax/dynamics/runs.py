"""Simulated runs as people order them: plain numbers in, a trajectory table out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal, NamedTuple

import jax
import numpy as np
import pandas as pd

from gapjax.dynamics.external import external
from gapjax.dynamics.laws import Exponential, Limit, check_coefficients
from gapjax.dynamics.ode import GapSystem
from gapjax.dynamics.potentials import LinearPotential, PowerPotential
from gapjax.dynamics.precision import float64_on_cpu
from gapjax.dynamics.simulate import simulate
from gapjax.errors import UserError
from gapjax.trajectories import EPOCH, MIN_CHECKPOINTS, SOLVER, VERIFIER

_MAX_CHECKPOINTS = 100_000


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """A run to simulate.

    - `solver0`, `verifier0`: uncertainties at epoch 0, nats.
    - `alpha`, `beta`, `potential`, `k`, `b`, `exponent`: the gap equations.
    - `epochs`, `every`: length of the run and distance of its checkpoints, epochs.
    - `external_shares`, `gamma_x`: round to share of external data, and its strength.
    - `noise`: measurement noise, as a share of `solver0`.
    - `process_noise`: Brownian motion, nats per square root of an epoch.
    - `seed`: of both noises.
    """

    solver0: float
    verifier0: float
    alpha: float = 1.0
    beta: float = 0.4
    k: float = 0.5
    b: float = 0.0
    potential: Literal["linear", "power"] = "linear"
    exponent: float = 1.0
    epochs: float = 10.0
    every: float = 0.5
    external_shares: Mapping[int, float] = field(default_factory=dict)
    gamma_x: float = 0.2
    noise: float = 0.0
    process_noise: float = 0.0
    seed: int = 0

    @property
    def system(self) -> GapSystem:
        """The gap equations with these coefficients."""
        if self.potential == "linear":
            return GapSystem(self.alpha, self.beta, LinearPotential(self.k, self.b))
        return GapSystem(self.alpha, self.beta, PowerPotential(self.k, self.b, self.exponent))

    def check(self) -> None:
        """Raise `UserError` for a run that cannot be."""
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, float) and not abs(value) <= 1e6:
                raise UserError(f"{item.name} is {value:g}, which is out of range")
        for name in ("solver0", "verifier0", "epochs", "every"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} is {getattr(self, name):g} but must be positive")
        for name in ("exponent", "noise", "process_noise"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} is {getattr(self, name):g} but must not be negative")
        check_coefficients(self.alpha, self.beta, self.k)
        count = self.epochs / self.every + 1
        if not MIN_CHECKPOINTS <= math.floor(count + 1e-9) <= _MAX_CHECKPOINTS:
            raise UserError(
                f"{self.epochs:g} epochs, one checkpoint every {self.every:g}: "
                f"between {MIN_CHECKPOINTS} and {_MAX_CHECKPOINTS} checkpoints are possible"
            )


class Run(NamedTuple):
    """A simulated run: its table, where it tends without further data, and the method."""

    frame: pd.DataFrame
    limit: Limit
    method: str


def simulate_run(settings: RunSettings) -> Run:
    """Simulate checkpoints at 0, every, ..., epochs.

    **Raises:** `UserError` for settings that make no run, or one whose uncertainties
    become negative.
    """
    settings.check()
    s = settings
    jumps = external(s.external_shares, s.gamma_x, last_round=math.floor(s.epochs + 1e-9))
    epochs = np.arange(math.floor(s.epochs / s.every + 1e-9) + 1) * s.every
    with float64_on_cpu():
        simulation = simulate(
            s.system,
            s.solver0,
            s.verifier0,
            epochs,
            external=jumps if s.external_shares else None,
            process_noise=s.process_noise or None,
            key=jax.random.key(s.seed),
        )
        solver, verifier = np.asarray(simulation.solver), np.asarray(simulation.verifier)
        # The limits depend on where the last jump has left the verifier.
        end = Exponential(solver[-1], verifier[-1], 1.0, s.beta / s.alpha, s.b / s.k).limit
    if bool(simulation.failed):
        raise UserError("the gap equations could not be solved for these numbers")
    for name, values in ((SOLVER, solver), (VERIFIER, verifier)):
        if values.min() < 0:
            where = epochs[np.argmax(values < 0)]
            raise UserError(
                f"{name} becomes negative at epoch {where:g}",
                hint="start higher, or let the gap close earlier (larger b, smaller beta)",
            )
    scatter = s.noise * s.solver0 * np.random.default_rng(s.seed).standard_normal((2, len(epochs)))
    frame = pd.DataFrame(
        {
            EPOCH: epochs,
            # Measured uncertainties cannot be negative, however noisy.
            SOLVER: np.maximum(solver + scatter[0], 0.0),
            VERIFIER: np.maximum(verifier + scatter[1], 0.0),
        }
    )
    if s.external_shares:
        used = {float(number): share for number, share in s.external_shares.items()}
        frame["external_share"] = [used.get(t, 0.0) for t in epochs.tolist()]
    return Run(frame, end, simulation.method)
