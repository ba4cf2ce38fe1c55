"""Curves from plain NumPy, and fits that several tests look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gapjax import posterior

SHARED_DATA = Path(__file__).parents[2].parent / "shared/data"


def simulate(
    *, rate=0.5, rho=0.4, solver0=2.0, verifier0=1.0, solver_limit=0.8, n=21, noise=0.01, seed=0
):
    """An exponential curve with independent noise, written without any of gapjax."""
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


def shared(name):
    path = SHARED_DATA / name
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    return path


@pytest.fixture(scope="session")
def simulated_fit():
    return posterior.fit(simulate(), seed=1)


@pytest.fixture(scope="session")
def phi4_fit():
    return posterior.fit(shared("phi4_curves/phi4_mini_qe.csv"))
