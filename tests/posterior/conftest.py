"""Curves from plain NumPy, and fits that several tests look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.curves import exponential_curve as simulate
from gapjax import posterior

__all__ = ["SHARED_DATA", "shared", "simulate"]

SHARED_DATA = Path(__file__).parents[2].parent / "shared/data"


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
