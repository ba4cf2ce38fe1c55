"""`fit`: from trajectory tables to posteriors of their capability limits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from operator import index, itemgetter
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from gapjax import trajectories
from gapjax.dynamics.precision import float64_on_cpu
from gapjax.errors import UserError
from gapjax.posterior.base import AbstractModel
from gapjax.posterior.catalogue import STOCHASTIC, model_named
from gapjax.posterior.draws import (
    Described,
    Replicated,
    describe,
    in_own_units,
    replicate,
    thin,
)
from gapjax.posterior.mode import Mode, find_modes
from gapjax.posterior.model import Model, Noise
from gapjax.posterior.observations import (
    Observations,
    pad,
    scale_of,
    size_class,
    time_unit_of,
)
from gapjax.posterior.phase_plane import phase_plane
from gapjax.posterior.result import CurveFit, Fit
from gapjax.posterior.sampling import Progress, run_nuts
from gapjax.posterior.stochastic import StochasticModel, sample_stochastic
from gapjax.posterior.verdict import Diagnostics, disagreement, judge
from gapjax.trajectories import Curve, Source, Trajectories

_MAX_DRAWS = 100_000
_BLOCK = 32  # curves that are computed together
_MIN_FREEDOM = 6  # fewer degrees of freedom have no use for a mean
_METHODS = ("nuts", "map", "smc")
_CHECK_ISLANDS, _CHECK_PARTICLES = 4, 250  # of the stochastic fit beside another law
_DRAWS = {"nuts": 1000, "map": 1000, "smc": 500}  # a chain

Method = Literal["nuts", "map", "smc"]


class _Sampled(NamedTuple):
    """Draws of every curve in the batch.

    - `stats`: what the sampler recorded, under ArviZ's names.
    - `failures`: why a curve's draws may not be believed, as far as the sampler knows.
    """

    x: Float[np.ndarray, "curves chains draws x"]
    stats: dict[str, np.ndarray]
    failures: list[tuple[str, ...]]


def fit(
    data: Trajectories | Source | Sequence[Source],
    law: str = "exponential",
    *,
    method: Method | None = None,
    noise: Noise | None = None,
    seed: int = 0,
    chains: int = 4,
    draws: int | None = None,
    warmup: int = 600,
    check_laws: bool | None = None,
    progress: Progress | None = None,
    solver_column: str = trajectories.SOLVER,
    verifier_column: str = trajectories.VERIFIER,
    group_by: Sequence[str] | None = None,
) -> Fit:
    """The posterior of every curve's limit, rate and `ρ` under a law.

    In float64 on the CPU whatever the rest of the process does, many curves together. What comes of
    a curve depends on nothing but its measurements and the seed. Later calls reuse the compiled
    sampler as long as the number of checkpoints, and that of curves, stay within the same power
    of two.

    **Arguments:**

    - `data`: `Trajectories`, a tidy data frame, a path, or several of the latter two;
      `solver_column`, `verifier_column` and `group_by` as in `gapjax.trajectories.read`.
    - `law`: name of a law, see `gapjax.posterior.LAWS`.
    - `method`: `"nuts"` samples and is the default; `"map"` is the fast path, a Student-t
      around the mode.  The law `stochastic` has several modes and is sampled by `"smc"`.
    - `noise`: how measurements scatter around the law; the default is that of least squares.
    - `seed`: of all randomness, a whole number.
    - `chains`, `draws`, `warmup`: of the sampler; for `"smc"` islands and particles in each.
    - `check_laws`: also fit the stochastic dynamics, and call no limit identified on which
      the two disagree.  By default where the law is sampled by `"nuts"`.
    - `progress`: called with iterations done and their total.

    **Returns:** a `Fit`.

    **Raises:** `UserError` for bad input or an unknown law.
    """
    seed = _whole(seed)
    model = model_named(law, noise)
    method = _method_for(law, method)
    draws = _DRAWS[method] if draws is None else draws
    for name, count, smallest in (
        ("chains", chains, 2),
        ("draws", draws, 4),
        ("warmup", warmup, 20),
    ):
        if not smallest <= count <= _MAX_DRAWS:
            raise UserError(f"{name} is {count}, not between {smallest} and {_MAX_DRAWS}")
    curves = trajectories.read(
        data, solver_column=solver_column, verifier_column=verifier_column, group_by=group_by
    )
    scales = [scale_of(curve) for curve in curves]
    groups = _groups(curves)
    found: dict[int, CurveFit] = {}
    for number, group in enumerate(groups):
        of_all = None if progress is None else _part(progress, number, len(groups))
        fits = _fit_together(
            model,
            [curves[i] for i in group],
            [scales[i] for i in group],
            method=method,
            seed=seed,
            chains=chains,
            draws=draws,
            warmup=warmup,
            check_laws=check_laws,
            progress=of_all,
        )
        found.update(zip(group, fits, strict=True))
    return Fit(tuple(found[i] for i in range(len(curves))), law=law, method=method, seed=seed)


def _whole(seed: int) -> int:
    try:
        whole = index(seed)
    except TypeError:
        whole = -1
    if not 0 <= whole < 2**32:
        raise UserError(f"seed is {seed!r}, not a whole number from 0 to 2^32 - 1")
    return whole


def _groups(curves: Sequence[Curve]) -> list[list[int]]:
    """Which curves are computed together: those that are padded to the same length, in blocks.

    What comes of a curve must not depend on its neighbours, and sums over more padding are
    rounded otherwise; so are programs for another number of curves.
    """
    by_length: dict[int, list[int]] = {}
    for i, curve in enumerate(curves):
        by_length.setdefault(size_class(len(curve.epochs)), []).append(i)
    return [
        same[start : start + _BLOCK]
        for _, same in sorted(by_length.items())
        for start in range(0, len(same), _BLOCK)
    ]


def _part(progress: Progress, number: int, groups: int) -> Progress:
    """Progress of one group as a part of that of all."""

    def report(done: int, total: int) -> None:
        progress(number * total + done, groups * total)

    return report


def _keys(observed: Observations, seed: int) -> Key[Array, " curves"]:
    """A key for each curve, from the seed and what was measured, in the curve's own units."""
    root = jax.random.key(seed)
    return jnp.stack(
        [jax.random.fold_in(root, _digest(observed, i)) for i in range(len(observed.span))]
    )


def _digest(observed: Observations, curve: int) -> int:
    mask = observed.mask[curve]
    told = (observed.times[curve][mask], observed.pair[curve][mask])
    # The same in another unit, but for rounding.
    content = b"".join(np.round(each, 9).tobytes() for each in told)
    return int.from_bytes(hashlib.sha256(content).digest()[:4], "little")


def _fit_together(
    model: AbstractModel,
    curves: Sequence[Curve],
    scales: Sequence[float],
    *,
    method: Method,
    seed: int,
    chains: int,
    draws: int,
    warmup: int,
    check_laws: bool | None,
    progress: Progress | None,
) -> list[CurveFit]:
    """The fits of curves that are padded to one length."""
    observed = pad(curves, scales)
    with float64_on_cpu():
        keys = _keys(observed, seed)
        if isinstance(model, Model):
            mode = find_modes(model, observed)
            if method == "nuts":
                sampled = _by_nuts(model, observed, mode, keys, chains, draws, warmup, progress)
            else:
                sampled = _around_mode(mode, observed, seed, chains, draws)
        else:
            sampled = _by_smc(observed, keys, len(curves), chains, draws, progress)
        other = None
        if isinstance(model, Model) and (method == "nuts" if check_laws is None else check_laws):
            other = _other_limits(observed, keys, scales)
        described = jax.device_get(describe(model, observed, sampled.x))
        replicated = jax.device_get(replicate(model, observed, thin(sampled.x), keys))
    return [
        _one_curve(
            model,
            curve,
            scale,
            Diagnostics() if method == "map" else _diagnose(model, sampled, i),
            sampled.failures[i],
            None if other is None else other[i],
            *jax.tree.map(itemgetter(i), (sampled.x, sampled.stats, described, replicated)),
        )
        for i, (curve, scale) in enumerate(zip(curves, scales, strict=True))
    ]


def _method_for(law: str, method: str | None) -> Method:
    """The method to use: the one asked for, if it can sample this law."""
    possible: tuple[Method, ...] = ("smc",) if law == STOCHASTIC else ("nuts", "map")
    if method is None:
        return possible[0]
    for name in possible:
        if name == method:
            return name
    hint = " or ".join(repr(name) for name in possible)
    if method not in _METHODS:
        raise UserError(f"unknown method {method!r}", hint=f"for law {law!r} use {hint}")
    raise UserError(f"law {law!r} is not sampled by {method!r}", hint=f"use {hint}")


def _by_nuts(
    model: Model,
    observed: Observations,
    mode: Mode,
    keys: Key[Array, " curves"],
    chains: int,
    draws: int,
    warmup: int,
    progress: Progress | None,
) -> _Sampled:
    sampled = run_nuts(
        model, observed, mode, keys, chains=chains, warmup=warmup, draws=draws, progress=progress
    )
    stats = {name: value for name, value in sampled._asdict().items() if name != "x"}
    return _Sampled(sampled.x, stats, [()] * len(keys))


def _by_smc(
    observed: Observations,
    keys: Key[Array, " curves"],
    curves: int,
    islands: int,
    particles: int,
    progress: Progress | None,
) -> _Sampled:
    """The stochastic dynamics, curve by curve; the padding's curves repeat the first."""
    done = []
    if progress is not None:
        progress(0, curves)
    for i in range(curves):
        one = jax.tree.map(itemgetter(i), observed)
        x, lp = sample_stochastic(one, keys[i], islands=islands, particles=particles)
        done.append((np.asarray(x), np.asarray(lp)))
        if progress is not None:
            progress(i + 1, curves)
    done += [done[0]] * (len(keys) - curves)
    xs, lps = (np.stack(column) for column in zip(*done, strict=True))
    return _Sampled(xs, {"lp": lps}, [()] * len(keys))


def _other_limits(
    observed: Observations, keys: Key[Array, " curves"], scales: Sequence[float]
) -> list[Float[np.ndarray, " draws"]]:
    """Draws of each curve's solver limit under the stochastic dynamics (nats)."""
    sampled = _by_smc(observed, keys, len(scales), _CHECK_ISLANDS, _CHECK_PARTICLES, None)
    limits = StochasticModel.limits(sampled.x)[..., 0]
    return [limits[i].ravel() * scale for i, scale in enumerate(scales)]


def _around_mode(
    mode: Mode, observed: Observations, seed: int, chains: int, draws: int
) -> _Sampled:
    """Draws from a Student-t around each mode, in the shape of sampled chains.

    The noise at the mode is that of the residuals, too small by what the fit has used up; and
    it is not known.  The Gaussian's 90 % intervals would hold the truth in 86 % of cases.
    """
    centre, root = np.asarray(mode.centre), np.asarray(mode.root)
    values = 2 * np.sum(observed.mask, axis=-1)
    freedom = np.maximum(values - root.shape[-1], _MIN_FREEDOM)
    each, chi_squared = [], []
    for i in range(len(centre)):
        rng = np.random.default_rng([seed, _digest(observed, i)])
        each.append(rng.standard_normal((chains, draws, root.shape[-1])))
        chi_squared.append(rng.chisquare(freedom[i], (chains, draws, 1)))
    wider = np.sqrt(values[:, None, None, None] / np.stack(chi_squared))
    normal = np.stack(each)
    x = centre[:, None, None] + np.einsum("cij,ckdj->ckdi", root, wider * normal)
    failures: list[tuple[str, ...]] = [
        () if found else ("the optimiser did not reach the mode",) for found in mode.success
    ]
    return _Sampled(x, {"lp": -0.5 * np.sum(normal**2, axis=-1)}, failures)


def _diagnose(model: AbstractModel, sampled: _Sampled, curve: int) -> Diagnostics:
    stats = {name: values[curve] for name, values in sampled.stats.items()}
    return Diagnostics.of(sampled.x[curve, ..., : len(model.coordinates)], stats)


def _one_curve(
    model: AbstractModel,
    curve: Curve,
    scale: float,
    diagnostics: Diagnostics,
    failures: tuple[str, ...],
    other_limit: Float[np.ndarray, " draws"] | None,
    x: Float[np.ndarray, "chains draws x"],
    stats: dict[str, np.ndarray],
    described: Described,
    replicated: Replicated,
) -> CurveFit:
    """Cut the padding, return to nats, and judge."""
    n = len(curve.epochs)
    failures = (*failures, *diagnostics.failures)
    time_unit, plane = time_unit_of(curve), phase_plane(curve)
    numbers = in_own_units(described.numbers, scale, time_unit)
    return CurveFit(
        curve=curve,
        model=model,
        x=x,
        scale=scale,
        numbers=numbers,
        mean=np.asarray(described.mean)[..., :n, :] * scale,
        log_likelihood=np.asarray(described.log_likelihood)[..., :n] - 2 * np.log(scale),
        replicated=np.asarray(replicated.pair)[:, :n] * scale,
        sample_stats=stats,
        diagnostics=diagnostics,
        failures=failures,
        verdict=judge(
            law=model.name,
            covered=np.asarray(described.covered).ravel(),
            needed=np.asarray(described.needed).ravel() * time_unit,
            unrest=np.asarray(described.unrest).ravel(),
            time=curve.time,
            first_epoch=float(curve.epochs[0]),
            last_epoch=float(curve.epochs[-1]),
            pattern=np.asarray(replicated.pattern),
            pattern_by_chance=np.asarray(replicated.pattern_by_chance),
            bend=None if model.bends else plane.warning,
            opposite=plane.opposite if isinstance(model, Model) else None,
            disagreement=(
                None
                if other_limit is None
                else disagreement(numbers["solver_limit"].ravel(), other_limit)
            ),
            failures=failures,
        ),
    )
