"""Does 90% mean 90%?  Curves and priors simulated in plain NumPy, nothing shared."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, norm

from benchmarks.calibration import coverage, ecdf_bands, simulation_based_ranks


def check_coverage(table):
    n = len(table)
    low, high = binom.ppf([0.005, 0.995], n, 0.9)
    assert low <= table["covered"].sum() <= high, table.groupby("rate")["covered"].mean()


def check_uniform(ranks):
    """Each ECDF stays inside its simultaneous 99% bands."""
    for name, values in ranks.items():
        assert ecdf_bands(values).holds, name


def test_intervals_cover_and_verdicts_follow_the_rate():
    table = coverage(2, seed=100, warmup=400, draws=600)
    check_coverage(table)
    slow, fast = table[table["rate"] < 0.1], table[table["rate"] > 0.3]
    assert not slow["identified"].any()
    # The two checks of the law may each reject a true one in a hundred.
    assert fast["identified"].sum() >= len(fast) - 1


@pytest.mark.slow
def test_intervals_cover_on_many_curves():
    check_coverage(coverage(40, seed=5000))


def test_ranks_of_the_truth_are_uniform():
    check_uniform(simulation_based_ranks(50, seed=1).ranks)


@pytest.mark.slow
def test_ranks_of_the_truth_are_uniform_500():
    check_uniform(simulation_based_ranks(500, seed=2, draws=400, thin=4).ranks)


@pytest.mark.slow
def test_ranks_under_the_stochastic_dynamics_are_uniform():
    found = simulation_based_ranks(150, seed=3, law="stochastic", draws=300)
    assert found.converged.mean() > 0.95
    check_uniform(found.ranks)


def test_bands_see_ranks_that_are_not_uniform():
    uniform = (np.arange(200) + 0.5) / 200
    assert ecdf_bands(uniform).holds
    # Intervals that are 1.5 times too narrow, and a bias of half a standard deviation.
    for scale, shift in ((1.5, 0.0), (1.0, 0.5)):
        assert not ecdf_bands(norm.cdf(scale * norm.ppf(uniform) + shift)).holds
