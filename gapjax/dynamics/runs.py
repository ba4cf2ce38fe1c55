"""Simulated runs as people order them: plain numbers in, a trajectory table out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import jax
import numpy as np
import pandas as pd
from jaxtyping import Float

from gapjax.dynamics.external import external
from gapjax.dynamics.laws import Exponential, Limit, check_coefficients
from gapjax.dynamics.ode import GapSystem
from gapjax.dynamics.potentials import LinearPotential, PowerPotential
from gapjax.dynamics.precision import float64_on_cpu
from gapjax.dynamics.simulate import MAX_NOISY_EPOCHS, simulate
from gapjax.errors import UserError
from gapjax.numbers import checked_seed, real_number
from gapjax.trajectories import EPOCH, MIN_CHECKPOINTS, SOLVER, VERIFIER

_MAX_CHECKPOINTS = 100_000
_LARGEST = 1e6


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
    def checkpoints(self) -> Float[np.ndarray, " time"]:
        """Epochs 0, every, 2·every, ..., and the end of the run, whether that is one or not."""
        whole = math.floor(self.epochs / self.every + 1e-9)
        # Rounded, so that 70 times 0.1 is the round 7.
        grid = np.round(np.arange(whole + 1) * self.every, 12)
        rest = self.epochs - grid[-1]
        return np.append(grid, self.epochs) if rest > 1e-6 * self.every else grid

    @property
    def system(self) -> GapSystem:
        """The gap equations with these coefficients."""
        if self.potential == "linear":
            return GapSystem(self.alpha, self.beta, LinearPotential(self.k, self.b))
        return GapSystem(self.alpha, self.beta, PowerPotential(self.k, self.b, self.exponent))

    def check(self) -> None:
        """Raise `UserError` for a run that cannot be."""
        for name in ("solver0", "verifier0", "epochs", "every"):
            real_number(name, getattr(self, name), 0, _LARGEST, above=True)
        for name in ("alpha", "beta", "k", "b", "gamma_x"):
            real_number(name, getattr(self, name), -_LARGEST, _LARGEST)
        for name in ("exponent", "noise", "process_noise"):
            real_number(name, getattr(self, name), 0, _LARGEST)
        checked_seed(self.seed)
        check_coefficients(self.alpha, self.beta, self.k)
        if not MIN_CHECKPOINTS <= self.epochs / self.every + 1 <= _MAX_CHECKPOINTS + 1e-9:
            raise UserError(
                f"{self.epochs:g} epochs, one checkpoint every {self.every:g}: "
                f"between {MIN_CHECKPOINTS} and {_MAX_CHECKPOINTS} checkpoints are possible"
            )
        if self.process_noise and self.epochs > MAX_NOISY_EPOCHS:
            raise UserError(
                f"epochs is {self.epochs:g}, with process noise at most {MAX_NOISY_EPOCHS}",
                hint="simulate a shorter run, or measurement noise alone",
            )


class Run(NamedTuple):
    """A simulated run: its table, where it tends without further data, and the method."""

    frame: pd.DataFrame
    limit: Limit
    method: str


def simulate_run(settings: RunSettings) -> Run:
    """Simulate checkpoints at 0, every, ..., and at the end of the run.

    **Raises:** `UserError` for settings that make no run, or one whose uncertainties
    become negative or leave the finite numbers.
    """
    settings.check()
    s = settings
    jumps = external(s.external_shares, s.gamma_x, last_round=math.floor(s.epochs + 1e-9))
    epochs = s.checkpoints
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
    if bool(simulation.failed) or not np.all(np.isfinite([solver, verifier])):
        raise UserError(
            "the gap equations leave the finite numbers",
            hint="a smaller k, a smaller exponent or a smaller gap at the start",
        )
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
        # Used since the checkpoint before, whether or not a checkpoint is at that round.
        rounds = np.array(jumps.rounds)
        place = np.searchsorted(epochs, rounds)
        frame["external_share"] = np.bincount(place, np.asarray(jumps.shares), len(epochs))
    return Run(frame, end, simulation.method)
