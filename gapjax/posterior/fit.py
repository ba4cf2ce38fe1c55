"""`fit`: from trajectory tables to posteriors of their capability limits."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Literal

import jax
import numpy as np

from gapjax import trajectories
from gapjax.dynamics.precision import float64_on_cpu
from gapjax.errors import UserError
from gapjax.posterior.draws import IN_NATS, Described, Replicated, describe, replicate, thin
from gapjax.posterior.families import family_named
from gapjax.posterior.mode import Mode, find_modes
from gapjax.posterior.model import Model, Noise
from gapjax.posterior.observations import pad, scale_of
from gapjax.posterior.phase_plane import phase_plane
from gapjax.posterior.result import CurveFit, Fit
from gapjax.posterior.sampling import Chains, Progress, run_nuts
from gapjax.posterior.verdict import Diagnostics, judge
from gapjax.trajectories import Curve, Source, Trajectories

_MAX_DRAWS = 100_000
_METHODS = ("nuts", "map")


def fit(
    data: Trajectories | Source | Sequence[Source],
    law: str = "exponential",
    *,
    method: Literal["nuts", "map"] = "nuts",
    noise: Noise | None = None,
    seed: int = 0,
    chains: int = 4,
    draws: int = 1000,
    warmup: int = 600,
    progress: Progress | None = None,
    solver_column: str = trajectories.SOLVER,
    verifier_column: str = trajectories.VERIFIER,
    group_by: Sequence[str] | None = None,
) -> Fit:
    """The posterior of every curve's limit, rate and `ρ` under a law.

    All curves, however long, are fitted in one vectorised call, in float64 on the CPU
    whatever the rest of the process does.  Later calls reuse the compiled sampler as long
    as the longest curve and the number of curves stay within the same power of two.

    **Arguments:**

    - `data`: `Trajectories`, a tidy data frame, a path, or several of the latter two;
      `solver_column`, `verifier_column` and `group_by` as in `gapjax.trajectories.read`.
    - `law`: name of a family of laws, see `gapjax.posterior.FAMILIES`.
    - `method`: `"nuts"` samples; `"map"` is the fast path, a Gaussian around the mode.
    - `noise`: how measurements scatter around the law; the default is that of least squares,
      and for the law `stochastic` noise in the dynamics as well.
    - `seed`: of all randomness; a curve's draws depend on it and on the curve's position.
    - `chains`, `draws`, `warmup`: of the sampler.
    - `progress`: called with iterations done and their total.

    **Returns:** a `Fit`.

    **Raises:** `UserError` for bad input or an unknown law.
    """
    curves = trajectories.read(
        data, solver_column=solver_column, verifier_column=verifier_column, group_by=group_by
    )
    family = family_named(law)
    model = Model(family, Noise(process=family.process) if noise is None else noise)
    if model.noise.process and family.bends:
        raise UserError(f"law {law!r} has no noise in its dynamics", hint="use law 'stochastic'")
    if method not in _METHODS:
        raise UserError(f"unknown method {method!r}", hint=f"methods are: {', '.join(_METHODS)}")
    for name, count, smallest in (
        ("chains", chains, 2),
        ("draws", draws, 4),
        ("warmup", warmup, 20),
    ):
        if not smallest <= count <= _MAX_DRAWS:
            raise UserError(f"{name} is {count}, not between {smallest} and {_MAX_DRAWS}")
    scales = [scale_of(curve) for curve in curves]
    observed = pad(list(curves), scales)
    with float64_on_cpu():
        root = jax.random.key(seed)
        keys = jax.vmap(lambda i: jax.random.fold_in(root, i))(np.arange(len(observed.span)))
        mode = find_modes(model, observed)
        failures = [
            "" if found else "the optimiser did not reach the mode" for found in mode.success
        ]
        if method == "nuts":
            sampled = run_nuts(
                model,
                observed,
                mode,
                keys,
                chains=chains,
                warmup=warmup,
                draws=draws,
                progress=progress,
            )
        else:
            sampled = _gaussian(mode, seed, chains, draws)
        described = jax.device_get(describe(model, observed, sampled.x))
        replicated = jax.device_get(replicate(model, observed, thin(sampled.x), keys))
    return Fit(
        tuple(
            _one_curve(
                model,
                curve,
                scale,
                method,
                failures[i],
                *jax.tree.map(itemgetter(i), (sampled, described, replicated)),
            )
            for i, (curve, scale) in enumerate(zip(curves, scales, strict=True))
        ),
        law=law,
        method=method,
        seed=seed,
    )


def _mode_failure(found: bool) -> str:
    return "" if found else "the optimiser did not reach the mode"


def _gaussian(mode: Mode, seed: int, chains: int, draws: int) -> Chains:
    """Draws from the Gaussian around each mode, in the shape of sampled chains."""
    centre, root = np.asarray(mode.centre), np.asarray(mode.root)
    normal = np.random.default_rng(seed).standard_normal(
        (len(centre), chains, draws, root.shape[-1])
    )
    x = centre[:, None, None] + np.einsum("cij,ckdj->ckdi", root, normal)
    lp = -0.5 * np.sum(normal**2, axis=-1)
    zeros = np.zeros_like(lp)
    return Chains(x, lp, -lp, zeros.astype(bool), zeros.astype(int), zeros + 1, zeros + 1)


def _one_curve(
    model: Model,
    curve: Curve,
    scale: float,
    method: str,
    failure: str,
    sampled: Chains,
    described: Described,
    replicated: Replicated,
) -> CurveFit:
    """Cut the padding, return to nats, and judge."""
    n = len(curve.epochs)
    if method == "nuts":
        diagnostics = Diagnostics.of(sampled.x, sampled.energy, sampled.diverging)
        failures = diagnostics.failures
    else:
        diagnostics = Diagnostics()
        failures = (failure,) if failure else ()
    numbers = {
        name: np.asarray(values) * (scale if name in IN_NATS else 1.0)
        for name, values in described.numbers.items()
    }
    stats = {name: value for name, value in sampled._asdict().items() if name != "x"}
    return CurveFit(
        curve=curve,
        model=model,
        x=sampled.x,
        scale=scale,
        numbers=numbers,
        mean=np.asarray(described.mean)[..., :n, :] * scale,
        log_likelihood=np.asarray(described.log_likelihood)[..., :n] - 2 * np.log(scale),
        replicated=np.asarray(replicated.pair)[:, :n] * scale,
        sample_stats=stats,
        diagnostics=diagnostics,
        failures=failures,
        verdict=judge(
            law=model.family.name,
            covered=np.asarray(described.covered).ravel(),
            needed=np.asarray(described.needed).ravel(),
            first_epoch=float(curve.epochs[0]),
            last_epoch=float(curve.epochs[-1]),
            pattern=np.asarray(replicated.pattern),
            pattern_by_chance=np.asarray(replicated.pattern_by_chance),
            bend=None if model.family.bends else phase_plane(curve).warning,
            failures=failures,
        ),
    )
