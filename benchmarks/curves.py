"""Simulated curves in plain NumPy: they share no code with the models that are fitted."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd


def exponential_curve(
    *,
    rate: float = 0.5,
    rho: float = 0.4,
    solver0: float = 2.0,
    verifier0: float = 1.0,
    solver_limit: float = 0.8,
    n: int = 21,
    noise: float = 0.01,
    seed: int = 0,
) -> pd.DataFrame:
    """The paper's law at `n` checkpoints of 10 epochs, with independent noise.

    - `rate`: per epoch; `noise`: as a share of `solver0`; uncertainties in nats.
    """
    rng = np.random.default_rng(seed)
    epoch = np.linspace(0, 10, n)
    decay = 1 - np.exp(-rate * epoch)
    solver = solver0 - (solver0 - solver_limit) * decay
    verifier = verifier0 - rho * (solver0 - solver_limit) * decay
    scatter = noise * solver0 * rng.standard_normal((2, n))
    return pd.DataFrame(
        {
            "epoch": epoch,
            "solver_uncertainty": solver + scatter[0],
            "verifier_uncertainty": verifier + scatter[1],
        }
    )


class PriorDraw(NamedTuple):
    """A curve drawn from the priors, with its truth and the log-likelihood of that truth."""

    epoch: np.ndarray
    pair: np.ndarray
    truth: dict[str, float]


def draw_from_prior(rng: np.random.Generator, n: int = 16) -> PriorDraw:
    """A curve under the priors written in `gapjax.posterior.model`, in units of the scale."""
    solver0 = rng.lognormal(0.0, 0.5)
    verifier0 = rng.lognormal(np.log(0.5), 1.0)
    solver_limit = abs(rng.standard_normal())
    rate = rng.lognormal(np.log(0.5), 1.0)
    way = solver0 - solver_limit
    rho = rng.uniform() * (min(1.0, verifier0 / way) if way > 0 else 1.0)
    noise = rng.lognormal(np.log(0.02), 1.5) + 1e-5  # the floor of the model
    epoch = np.linspace(0, 10, n)
    done = 1 - np.exp(-rate * epoch)
    scatter = rng.standard_normal((2, n))
    pair = np.stack([solver0 - way * done, verifier0 - rho * way * done]) + noise * scatter
    log_likelihood = np.sum(-0.5 * scatter**2 - np.log(noise) - 0.5 * np.log(2 * np.pi))
    truth = {
        "solver_limit": solver_limit,
        "rate": rate,
        "rho": rho,
        "log_likelihood": float(log_likelihood),
    }
    return PriorDraw(epoch, pair, truth)
