"""Does 90% mean 90%?  Curves and priors simulated in plain NumPy, nothing shared."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
from conftest import simulate
from scipy.stats import binom

from gapjax import posterior


def coverage(curves_a_rate, seed):
    rates = np.repeat([0.05, 0.1, 0.2, 0.3, 0.5, 0.7], curves_a_rate)
    frame = pd.concat(
        simulate(rate=rate, seed=seed + i).assign(run=f"{i:03d}") for i, rate in enumerate(rates)
    )
    fits = posterior.fit(frame, seed=seed, warmup=400, draws=300)
    covered = [f.limit["solver"]["q05"] < 0.8 < f.limit["solver"]["q95"] for f in fits]
    return rates, fits, np.array(covered)


def check_coverage(covered):
    n = len(covered)
    low, high = binom.ppf([0.005, 0.995], n, 0.9)
    assert low <= covered.sum() <= high, f"{covered.sum()} of {n}"


def test_intervals_cover_and_verdicts_follow_the_rate():
    rates, fits, covered = coverage(5, seed=100)
    check_coverage(covered)
    slow = [f for f, rate in zip(fits, rates, strict=True) if rate * 10 < 1]
    fast = [f for f, rate in zip(fits, rates, strict=True) if rate * 10 > 3]
    assert not any(f.identified for f in slow)
    # The two checks of the law may each reject a true one in a hundred.
    assert sum(f.identified for f in fast) >= len(fast) - 1


@pytest.mark.slow
def test_intervals_cover_on_many_curves():
    _, _, covered = coverage(40, seed=5000)
    check_coverage(covered)


def draw_from_prior(rng, n=16):
    """A curve and its truth under the priors written in `gapjax.posterior.model`."""
    solver0 = rng.lognormal(0.0, 0.5)
    verifier0 = rng.lognormal(np.log(0.5), 1.0)
    solver_limit = abs(rng.standard_normal())
    rate = rng.lognormal(np.log(0.5), 1.0)
    way = solver0 - solver_limit
    rho = rng.uniform() * (min(1.0, verifier0 / way) if way > 0 else 1.0)
    noise = rng.lognormal(np.log(0.02), 1.5)
    epoch = np.linspace(0, 10, n)
    done = 1 - np.exp(-rate * epoch)
    pair = np.stack([solver0 - way * done, verifier0 - rho * way * done])
    pair = pair + noise * rng.standard_normal(pair.shape)
    truth = {"solver_limit": solver_limit, "rate": rate, "rho": rho}
    return epoch, pair, truth


def simulation_based_ranks(replicates, seed):
    """Ranks of the truth among posterior draws, with the curve's unit held at 1."""
    from gapjax.dynamics import float64_on_cpu
    from gapjax.trajectories import Curve, Trajectories

    rng = np.random.default_rng(seed)
    curves, truths = [], []
    while len(curves) < replicates:
        epoch, pair, truth = draw_from_prior(rng)
        curves.append(Curve({"run": str(len(curves))}, epoch, pair[0], pair[1]))
        truths.append(truth)
    with pytest.MonkeyPatch.context() as patch, float64_on_cpu():
        # The unit is estimated from the data; the prior's own simulation has unit 1.
        patch.setattr(sys.modules["gapjax.posterior.fit"], "scale_of", lambda curve: 1.0)
        fits = posterior.fit(Trajectories(tuple(curves)), seed=seed, warmup=400, draws=100)
    return {
        name: np.array(
            [np.mean(f.numbers[name] < truth[name]) for f, truth in zip(fits, truths, strict=True)]
        )
        for name in truths[0]
    }


def check_uniform(ranks):
    """All points of the ECDF inside simultaneous 99% bands (Dvoretzky-Kiefer-Wolfowitz)."""
    n = len(ranks)
    band = np.sqrt(np.log(2 / 0.01) / (2 * n))
    ecdf = np.arange(1, n + 1) / n
    assert np.max(np.abs(np.sort(ranks) - ecdf)) < band + 1 / n


def test_ranks_of_the_truth_are_uniform():
    for ranks in simulation_based_ranks(50, seed=1).values():
        check_uniform(ranks)


@pytest.mark.slow
def test_ranks_of_the_truth_are_uniform_500():
    for ranks in simulation_based_ranks(500, seed=2).values():
        check_uniform(ranks)
