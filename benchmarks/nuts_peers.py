"""NUTS on one density: gapjax against NumPyro, BlackJAX and PyMC with nutpie.

    python -m benchmarks.nuts_peers      # some minutes; needs pymc, nutpie and blackjax

The density is the default posterior (exponential law) of a simulated curve in gapjax's own
coordinates.  It is written out once more in `benchmarks.density`, in operations that
NumPy, JAX and PyTensor share, and must agree with gapjax's to 1e-8 before anything is timed.
Everyone draws 4 × 1000 and starts within 0.1 of the posterior mode; gapjax finds that mode
itself, within its time.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import nutpie
import pandas as pd
import pymc as pm
import pytensor
import pytensor.tensor as pt
from arviz_stats.base import array_stats
from numpyro.infer import MCMC, NUTS

from benchmarks.curves import exponential_curve
from benchmarks.density import OPERATIONS, log_density
from benchmarks.timing import MACHINE, quartiles
from gapjax import posterior, trajectories
from gapjax.dynamics import float64_on_cpu
from gapjax.posterior.families import FAMILIES
from gapjax.posterior.mode import find_modes, potential
from gapjax.posterior.model import Model
from gapjax.posterior.observations import Observations, pad, scale_of

CHAINS, DRAWS, WARMUP = 4, 1000, 600
TARGET_ACCEPT = 0.9
MODEL = Model(FAMILIES["exponential"])
SIZE = len(MODEL.coordinates)
_LONGEST, _PREFIXES = 127, 100
_RESULT = Path(__file__).parent / "results/nuts_peers.md"


class Data(NamedTuple):
    """A curve in units of its scale, as arrays of its own length, and its posterior mode."""

    frame: pd.DataFrame
    times: np.ndarray
    solver: np.ndarray
    verifier: np.ndarray
    mode: np.ndarray

    @property
    def arguments(self) -> tuple[np.ndarray, ...]:
        return self.times, self.solver, self.verifier, self.times[-1]


def observed(frame: pd.DataFrame) -> Observations:
    """`frame` as gapjax's sampler sees it: one padded curve."""
    (curve,) = trajectories.read(frame)
    return jax.tree.map(lambda leaf: leaf[0], pad([curve], [scale_of(curve)]))


def data_of(frame: pd.DataFrame) -> Data:
    one = observed(frame)
    mode = find_modes(MODEL, jax.tree.map(lambda leaf: leaf[None], one)).centre[0]
    n = int(one.mask.sum())
    return Data(frame, one.times[:n], one.pair[:n, 0], one.pair[:n, 1], np.asarray(mode))


def starts(data: Data, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return data.mode + 0.1 * rng.standard_normal((CHAINS, SIZE))


# --- contestants: each turns (data, seed) into draws [chains, draws, coordinates] ------------

Sampler = Callable[[Data, int], np.ndarray]


def gapjax_fit(data: Data, seed: int) -> np.ndarray:
    """All of `fit`: mode, sampling, predictive checks, diagnostics, verdict."""
    # The peers fit one law: no second opinion by the stochastic dynamics here either.
    settings = {"chains": CHAINS, "draws": DRAWS, "warmup": WARMUP, "check_laws": False}
    return posterior.fit(data.frame, seed=seed, **settings)[0].x


def numpyro_plain() -> Sampler:
    """NumPyro by hand, one `MCMC` a curve: it compiles for every new curve."""

    def run(data: Data, seed: int) -> np.ndarray:
        def energy(x: jax.Array) -> jax.Array:
            return -log_density(x, *data.arguments, jnp)

        kernel = NUTS(potential_fn=energy, dense_mass=True, target_accept_prob=TARGET_ACCEPT)
        mcmc = MCMC(
            kernel,
            num_warmup=WARMUP,
            num_samples=DRAWS,
            num_chains=CHAINS,
            chain_method="vectorized",
            progress_bar=False,
        )
        mcmc.run(jax.random.key(seed), init_params=jnp.asarray(starts(data, seed)))
        return np.asarray(mcmc.get_samples(group_by_chain=True))

    return run


def blackjax_jitted() -> Sampler:
    """BlackJAX by hand, all in one `jit` with the data as arguments: compiles once a length."""

    def energy(x: jax.Array, arguments: Any) -> jax.Array:
        return log_density(x, *arguments, jnp)

    def chain(key: jax.Array, start: jax.Array, arguments: Any) -> jax.Array:
        target = partial(energy, arguments=arguments)
        warm, draw = jax.random.split(key)
        adapt = blackjax.window_adaptation(
            blackjax.nuts,
            target,
            is_mass_matrix_diagonal=False,
            target_acceptance_rate=TARGET_ACCEPT,
        )
        (state, parameters), _ = adapt.run(warm, start, num_steps=WARMUP)
        kernel = blackjax.nuts(target, **parameters).step

        def step(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
            state, _ = kernel(key, state)
            return state, state.position

        return jax.lax.scan(step, state, jax.random.split(draw, DRAWS))[1]

    compiled = jax.jit(jax.vmap(chain, in_axes=(0, 0, None)))

    def run(data: Data, seed: int) -> np.ndarray:
        keys = jax.random.split(jax.random.key(seed), CHAINS)
        return np.asarray(compiled(keys, starts(data, seed), data.arguments))

    return run


def pymc_model(data: Data) -> pm.Model:
    """The density as a potential over flat coordinates, the curve as data of any length."""
    xp = SimpleNamespace(**{name: getattr(pt, name) for name in OPERATIONS})
    with pm.Model() as model:
        given = [
            pm.Data(name, value)
            for name, value in zip(("times", "solver", "verifier"), data.arguments, strict=False)
        ]
        x = pm.Flat("x", shape=SIZE, initval=data.mode)
        pm.Potential("density", log_density(x, *given, given[0][-1], xp))
    return model


def nutpie_recompiling() -> Sampler:
    """PyMC and nutpie as people use them: a model for each curve."""
    return lambda data, seed: _nutpie(nutpie.compile_pymc_model(pymc_model(data)), data, seed)


def nutpie_with_data() -> Sampler:
    """PyMC and nutpie at their best: one compiled model, to which each curve is given."""
    compiled: list[Any] = []

    def run(data: Data, seed: int) -> np.ndarray:
        if not compiled:
            compiled.append(nutpie.compile_pymc_model(pymc_model(data)))
        given = dict(zip(("times", "solver", "verifier"), data.arguments, strict=False))
        return _nutpie(compiled[0].with_data(**given), data, seed)

    return run


def _nutpie(compiled: Any, data: Data, seed: int) -> np.ndarray:
    trace = nutpie.sample(
        compiled,
        draws=DRAWS,
        tune=WARMUP,
        chains=CHAINS,
        seed=seed,
        target_accept=TARGET_ACCEPT,
        progress_bar=False,
        save_warmup=False,
    )
    return trace.posterior["x"].to_numpy()


SAMPLERS: dict[str, Callable[[], Sampler]] = {
    "gapjax `fit`, all of it": lambda: gapjax_fit,
    "NumPyro by hand": numpyro_plain,
    "BlackJAX by hand, jitted over the data": blackjax_jitted,
    "PyMC + nutpie, a model a curve": nutpie_recompiling,
    "PyMC + nutpie, one model, `with_data`": nutpie_with_data,
}

# They compile for every curve, or for every length.
_SLOW = (
    "NumPyro by hand",
    "BlackJAX by hand, jitted over the data",
    "PyMC + nutpie, a model a curve",
)


# --- checks and measures --------------------------------------------------------------------


def largest_disagreement(data: Data, points: int = 50) -> float:
    """How far the densities are from gapjax's at random points (NumPy, JAX and PyTensor)."""
    rng = np.random.default_rng(0)
    xs = data.mode + rng.standard_normal((points, SIZE))
    gapjax = jax.vmap(potential(MODEL, observed(data.frame)))(jnp.asarray(xs))
    compiled = pymc_model(data).compile_logp()
    modules: list[ModuleType] = [np, jnp]
    worst = 0.0
    for x, energy in zip(xs, np.asarray(gapjax), strict=True):
        values = [float(log_density(x, *data.arguments, xp)) for xp in modules]
        values.append(float(compiled({"x": x})))
        worst = max(worst, *(abs(value + energy) / max(1, abs(energy)) for value in values))
    return worst


def smallest_ess(draws: np.ndarray) -> float:
    """The smallest bulk effective sample size among the coordinates."""
    return float(np.min(array_stats.ess(np.moveaxis(draws, -1, 0), method="bulk")))


class Timed(NamedTuple):
    seconds: float
    ess: float
    mean: np.ndarray


def timed(sampler: Sampler, data: Data, seed: int) -> Timed:
    begin = time.perf_counter()
    draws = sampler(data, seed)
    seconds = time.perf_counter() - begin
    return Timed(seconds, smallest_ess(draws), draws.mean(axis=(0, 1)))


def one_curve(repeats: int) -> list[str]:
    """One curve: the first call, then later ones, the contestants taking turns."""
    data = data_of(exponential_curve(seed=1))
    samplers = {name: make() for name, make in SAMPLERS.items()}
    first = {}
    for name, sampler in samplers.items():
        first[name] = timed(sampler, data, 0)
    later: dict[str, list[Timed]] = {name: [] for name in samplers}
    for seed in range(1, repeats + 1):
        for name, sampler in samplers.items():
            if len(later[name]) < 3 or first[name].seconds < 60:
                later[name].append(timed(sampler, data, seed))
    rows = []
    for name, runs in later.items():
        seconds = np.array([run.seconds for run in runs])
        ess = np.array([run.ess for run in runs])
        rows.append(
            f"| {name} | {first[name].ess / first[name].seconds:,.3g} "
            f"| {quartiles(ess / seconds, 1)} | {first[name].seconds:.3g} "
            f"| {quartiles(seconds, 1)} | {np.median(ess):.0f} |"
        )
        print(rows[-1], flush=True)
    _assert_same_posterior({name: [first[name], *runs] for name, runs in later.items()})
    return rows


def _assert_same_posterior(runs: dict[str, list[Timed]]) -> None:
    """All contestants' means agree within what their sample sizes allow (in nats of scale)."""
    means = {name: np.mean([run.mean for run in some], axis=0) for name, some in runs.items()}
    reference, *others = means.values()
    for name, mean in zip([*means][1:], others, strict=True):
        assert np.max(np.abs(mean - reference)) < 0.05, (name, mean, reference)


def prefixes(subset: int) -> list[str]:
    """100 successive prefixes of a curve, from a cold start; slow contestants do `subset`."""
    whole = exponential_curve(n=_LONGEST, seed=2)
    lengths = range(_LONGEST - _PREFIXES + 1, _LONGEST + 1)
    curves = [data_of(whole.iloc[:n].reset_index(drop=True)) for n in lengths]
    totals, rows = {}, []
    for name, make in SAMPLERS.items():
        jax.clear_caches()
        sampler, some = make(), curves
        if name in _SLOW:
            some = curves[:: _PREFIXES // subset]
        runs = [timed(sampler, data, seed) for seed, data in enumerate(some)]
        seconds = np.array([run.seconds for run in runs])
        totals[name] = seconds.sum() * len(curves) / len(some)
        ess = np.array([run.ess for run in runs])
        note = (
            "" if len(some) == len(curves) else f" (×{len(curves) // len(some)} from {len(some)})"
        )
        rows.append(
            f"| {name}{note} | {totals[name]:.4g} | {quartiles(seconds, 1)} "
            f"| {seconds.max():.3g} | {ess.sum() / seconds.sum():,.3g} |"
        )
        print(rows[-1], flush=True)
    ours = totals[next(iter(SAMPLERS))]
    return [f"{row} {total / ours:.3g} |" for row, total in zip(rows, totals.values(), strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description="NUTS on one density.")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--subset", type=int, default=5, help="prefixes of those that recompile")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    # Everybody compiles from nothing, whatever earlier runs have left on the disk.
    jax.config.update("jax_enable_compilation_cache", False)
    pytensor.config.numba__cache = False
    with float64_on_cpu():
        disagreement = largest_disagreement(data_of(exponential_curve(seed=1)))
        assert disagreement < 1e-8, disagreement
        print(f"largest disagreement of the log-densities: {disagreement:.0e}", flush=True)
        single, successive = one_curve(arguments.repeats), prefixes(arguments.subset)
    versions = ", ".join(f"{m.__name__} {m.__version__}" for m in (jax, pm, nutpie, blackjax))
    text = [
        "# NUTS on one density",
        "",
        "The default posterior of simulated curves with 1% noise (six coordinates), 4 chains of "
        f"{WARMUP} warm-up steps and {DRAWS} draws, target acceptance {TARGET_ACCEPT}. The "
        f"log-densities agree to {disagreement:.0e} (relative) at 50 random points. {MACHINE}; "
        f"{versions}. Medians with quartiles. Written by `python -m benchmarks.nuts_peers`.",
        "",
        "## One curve of 21 checkpoints",
        "",
        "| sampler | min bulk ESS/s, first call (compiles) | min bulk ESS/s, later calls "
        "| first call (s) | later calls (s) | min bulk ESS |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *single,
        "",
        f"## {_PREFIXES} successive prefixes of a curve ({_LONGEST - _PREFIXES + 1} to {_LONGEST} "
        "checkpoints), from a cold start",
        "",
        "| sampler | all prefixes (s) | one prefix (s) | slowest prefix (s) | min bulk ESS/s "
        "| times gapjax's total |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *successive,
        "",
    ]
    _RESULT.write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
