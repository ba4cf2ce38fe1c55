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


def draw_from_stochastic_prior(rng: np.random.Generator, n: int = 16) -> PriorDraw:
    """A curve under the priors written in `gapjax.posterior.stochastic`, limits positive."""
    epoch = np.linspace(0, 10, n)
    steps = np.diff(epoch)
    while True:
        rate = rng.lognormal(np.log(0.5), 1.0)
        rates = rate * np.array([1.0, rng.lognormal(0.0, 0.5)])
        exponents = rng.exponential(size=2)
        noise = rng.lognormal(np.log(0.02), 1.5) + 1e-5
        noises = noise * np.array([1.0, rng.lognormal(0.0, 0.7)])
        wander = rng.lognormal(np.log(0.01), 1.5)
        wanders = wander * np.array([1.0, rng.lognormal(0.0, 0.7)])
        correlation = np.tanh(0.8 * rng.standard_normal())
        jump_rate, jump_size = rng.lognormal(np.log(0.02), 1.0), rng.lognormal(np.log(0.3), 0.7)
        level = np.array([rng.normal(0.4, 0.5), rng.normal(0.3, 0.4)])
        first = np.array([rng.normal(1.0, 0.5), rng.normal(0.6, 0.8)])
        covariance = np.outer(wanders, wanders) * [[1, correlation], [correlation, 1]]
        pushes = rng.multivariate_normal([0, 0], covariance, n - 1) * np.sqrt(steps)[:, None]
        jumped = rng.uniform(size=(n - 1, 1)) < 1 - np.exp(-jump_rate * steps[:, None])
        pushes += jumped * jump_size * rng.standard_normal((n - 1, 2))
        levels = level + np.concatenate([np.zeros((1, 2)), np.cumsum(pushes, axis=0)])
        if np.all(levels[-1] > 0):
            break
    remaining = (1 + exponents * rates * epoch[:, None]) ** (-1 / exponents)
    pair = levels + (first - level) * remaining + noises * rng.standard_normal((n, 2))
    truth = {
        "solver_limit": float(levels[-1, 0]),
        "gap_limit": float(levels[-1, 0] - levels[-1, 1]),
        "rate": rate,
        "exponent": float(exponents[0]),
        "solver_noise": float(noises[0]),
        "solver_wander": wander,
        "jump_rate": jump_rate,
        "jump_size": jump_size,
    }
    return PriorDraw(epoch, pair.T, truth)


def simulated_kinds(runs: int = 4, n: int = 20, seed: int = 0) -> dict[str, pd.DataFrame]:
    """Curves of every law: `runs` of each kind with 1 % noise, `n` checkpoints in 10 epochs."""
    rng = np.random.default_rng(seed)
    epoch = np.linspace(0, 10, n)
    kinds = {
        kind: pd.concat(
            [_noisy(rng, epoch, *path(rng, epoch)).assign(run=str(run)) for run in range(runs)]
        )
        for kind, path in _KINDS.items()
    }
    return kinds


def _noisy(
    rng: np.random.Generator, epoch: np.ndarray, solver: np.ndarray, verifier: np.ndarray
) -> pd.DataFrame:
    scatter = 0.01 * solver[0] * rng.standard_normal((2, len(epoch)))
    return pd.DataFrame(
        {
            "epoch": epoch,
            "solver_uncertainty": np.maximum(solver + scatter[0], 0),
            "verifier_uncertainty": np.maximum(verifier + scatter[1], 0),
        }
    )


def _ends(rng: np.random.Generator) -> tuple[float, float, float, float]:
    """`U_s0`, `U_s∞`, `U_v0` (nats) and `ρ`."""
    solver0 = rng.uniform(5, 20)
    limit = rng.uniform(0.1, 0.7) * solver0
    verifier0 = rng.uniform(0.3, 0.9) * solver0
    rho = rng.uniform(0.1, 0.8) * min(1.0, verifier0 / (solver0 - limit))
    return solver0, limit, verifier0, rho


def _exponential(rng: np.random.Generator, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    solver0, limit, verifier0, rho = _ends(rng)
    done = (solver0 - limit) * (1 - np.exp(-rng.uniform(0.05, 0.7) * t))
    return solver0 - done, verifier0 - rho * done


def _power(rng: np.random.Generator, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    solver0, limit, verifier0, rho = _ends(rng)
    q = rng.uniform(0.3, 2)
    done = (solver0 - limit) * (1 - (1 + q * rng.uniform(0.1, 1) * t) ** (-1 / q))
    return solver0 - done, verifier0 - rho * done


def _curved(rng: np.random.Generator, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The coupling rises from nothing to twice its mean along the way."""
    solver0, limit, verifier0, rho = _ends(rng)
    z = 1 - np.exp(-rng.uniform(0.1, 0.7) * t)
    way = solver0 - limit
    return solver0 - way * z, verifier0 - rho * way * z**2


def _two_rates(rng: np.random.Generator, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    solver0, limit, verifier0, rho = _ends(rng)
    fast, slow = np.exp(-rng.uniform(0.7, 2) * t), np.exp(-rng.uniform(0.05, 0.3) * t)
    share = rng.uniform(0.2, 0.8)
    way = solver0 - limit
    solver = solver0 - way * (1 - share * fast - (1 - share) * slow)
    return solver, verifier0 - rho * way * (1 - slow)


def _change_point(rng: np.random.Generator, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The learning rate is cut: from some epoch on everything takes three times as long."""
    solver0, limit, verifier0, rho = _ends(rng)
    change = rng.uniform(2, 8)
    clock = np.minimum(t, change) + np.maximum(t - change, 0) / 3
    done = (solver0 - limit) * (1 - np.exp(-rng.uniform(0.1, 0.7) * clock))
    return solver0 - done, verifier0 - rho * done


def _pushed(rng: np.random.Generator, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The paper's equations with Brownian motion, by Euler's method in 100 steps a checkpoint."""
    solver0, limit, verifier0, rho = _ends(rng)
    rate, push = rng.uniform(0.1, 0.7), rng.uniform(0.005, 0.05) * solver0
    gap_limit = solver0 - verifier0 - (1 - rho) * (solver0 - limit)
    steps = 100
    dt = (t[1] - t[0]) / steps
    state, path = np.array([solver0, verifier0]), []
    for _ in t:
        path.append(state)
        for _ in range(steps):
            drive = rate / (1 - rho) * (state[0] - state[1] - gap_limit)
            state = state - np.array([1, rho]) * drive * dt
            state = np.maximum(state + push * np.sqrt(dt) * rng.standard_normal(2), 0)
    solver, verifier = np.array(path).T
    return solver, verifier


def _plateaus(rng: np.random.Generator, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nothing changes but for a jump now and then."""
    solver0, _, verifier0, _ = _ends(rng)
    jumps = rng.uniform(size=(2, len(t))) < 0.08
    sizes = np.where(jumps, rng.normal(0, 0.3 * solver0, (2, len(t))), 0.0)
    pair = np.array([[solver0], [verifier0]]) + np.cumsum(sizes, axis=1)
    solver, verifier = np.maximum(pair, 0.05 * solver0)
    return solver, verifier


_KINDS = {
    "exponential": _exponential,
    "power": _power,
    "curved coupling": _curved,
    "two rates": _two_rates,
    "change point": _change_point,
    "pushed": _pushed,
    "plateaus": _plateaus,
}
