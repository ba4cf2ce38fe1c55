"""Value and gradient of many curves: closed form and diffrax against scipy and torchdiffeq.

    python -m benchmarks.dynamics_gradients      # some minutes; needs torchdiffeq

The task is the inner loop of every fit: for each curve the sum of squares between the gap
equations' solution (linear potential) at 21 checkpoints and the data, and its gradient in
the five numbers `U_s0, U_v0, γ, ρ, G∞`.  Each contestant runs with the fastest of a range of
settings whose gradients are right to `TARGET`; the errors achieved are in the table.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
from scipy.integrate import solve_ivp

from benchmarks.timing import MACHINE, interleaved, quartiles
from gapjax.dynamics import Exponential, GapSystem, LinearPotential, float64_on_cpu, integrate

COUNTS = (1, 64, 1024, 16384)
TIMES = np.linspace(0.0, 10.0, 21)
TARGET = 1e-6  # largest error of a gradient, relative to its largest entry
_RESULT = Path(__file__).parent / "results/dynamics_gradients.md"

# (numbers [curves, 5], data [curves, 2, time]) -> losses [curves], gradients [curves, 5]
Contestant = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def task(curves: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random curves (rates from 0.05 to 0.7), and data that lie about 5% off them."""
    rng = np.random.default_rng(seed)

    def draw(factor: np.ndarray) -> np.ndarray:
        return factor * np.stack([solver0, verifier0, rate, rho, gap_limit], axis=-1)

    solver0, verifier0 = rng.uniform(1.5, 2.5, curves), rng.uniform(0.8, 1.2, curves)
    rate, rho = rng.uniform(0.05, 0.7, curves), rng.uniform(0.1, 0.7, curves)
    gap_limit = rng.uniform(0.05, 0.3, curves)
    numbers = draw(np.ones((curves, 1)))
    other = draw(1 + 0.05 * rng.standard_normal((curves, 5)))
    data = np.stack([plain(numbers) for numbers in other])
    return numbers, data


def plain(numbers: np.ndarray, exp: Any = np.exp, times: Any = TIMES) -> Any:
    """The closed form once more, without gapjax: for data, and for mpmath."""
    solver0, verifier0, rate, rho, gap_limit = numbers
    way = (solver0 - verifier0 - gap_limit) / (1 - rho)
    done = np.array([1 - exp(-rate * t) for t in times])
    return np.stack([solver0 - way * done, verifier0 - rho * way * done])


# --- gapjax ---------------------------------------------------------------------------------


def _closed_form(numbers: jax.Array) -> jax.Array:
    law = Exponential(*numbers)
    return jnp.stack([law.solver(TIMES), law.verifier(TIMES)])


def _diffrax(numbers: jax.Array, tolerance: float) -> jax.Array:
    solver0, verifier0, rate, rho, gap_limit = numbers
    k = rate / (1 - rho)
    system = GapSystem(1.0, rho, LinearPotential(k, k * gap_limit))
    path = integrate(system, solver0, verifier0, TIMES, rtol=tolerance, atol=tolerance)
    return jnp.stack([path.solver, path.verifier])


def gapjax_contestant(curve: Callable[[jax.Array], jax.Array]) -> Contestant:
    """Reverse-mode gradients of `curve`, mapped over the curves and compiled."""

    def loss(numbers: jax.Array, data: jax.Array) -> jax.Array:
        return 0.5 * jnp.sum((curve(numbers) - data) ** 2)

    compiled = jax.jit(jax.vmap(jax.value_and_grad(loss)))
    return lambda numbers, data: jax.block_until_ready(compiled(numbers, data))


# --- peers ----------------------------------------------------------------------------------


def _slope(t: float, state: np.ndarray, k: Any, rho: Any, gap_limit: Any) -> np.ndarray:
    solver, verifier = state.reshape(2, -1)
    energy = k * (solver - verifier - gap_limit)
    return np.concatenate([-energy, -rho * energy])


def _scipy_paths(numbers: np.ndarray, tolerance: float) -> np.ndarray:
    """All rows of `numbers` in one system with a common step: `[rows, 2, time]`."""
    solver0, verifier0, rate, rho, gap_limit = numbers.T
    solution = solve_ivp(
        _slope,
        (0, TIMES[-1]),
        np.concatenate([solver0, verifier0]),
        "DOP853",
        TIMES,
        rtol=tolerance,
        atol=tolerance,
        args=(rate / (1 - rho), rho, gap_limit),
    )
    return np.moveaxis(solution.y.reshape(2, len(numbers), -1), 1, 0)


def _differences(step: float) -> np.ndarray:
    """The centre and the ten displaced points of central differences."""
    return np.concatenate([np.zeros((1, 5)), step * np.eye(5), -step * np.eye(5)])


def _collect(paths: np.ndarray, data: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    losses = 0.5 * np.sum((paths - data[:, None]) ** 2, axis=(2, 3))
    return losses[:, 0], (losses[:, 1:6] - losses[:, 6:]) / (2 * step)


def scipy_each(tolerance: float, step: float) -> Contestant:
    """scipy as most people use it: one `solve_ivp` a curve and displaced point."""
    moves = _differences(step)

    def run(numbers: np.ndarray, data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        paths = [
            [_scipy_paths((row + move)[None], tolerance)[0] for move in moves] for row in numbers
        ]
        return _collect(np.array(paths), data, step)

    return run


def scipy_stacked(tolerance: float, step: float) -> Contestant:
    """scipy at its best: all curves and displaced points as one large system."""
    moves = _differences(step)

    def run(numbers: np.ndarray, data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        points = (numbers[:, None] + moves).reshape(-1, 5)
        paths = _scipy_paths(points, tolerance).reshape(len(numbers), len(moves), 2, -1)
        return _collect(paths, data, step)

    return run


def torchdiffeq_contestant(tolerance: float, method: str) -> Contestant:
    """torchdiffeq, all curves as one batch (a common step), gradients through the solver."""
    import torch
    from torchdiffeq import odeint

    times = torch.from_numpy(TIMES)

    def run(numbers: np.ndarray, data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = torch.from_numpy(numbers).requires_grad_()
        solver0, verifier0, rate, rho, gap_limit = x.unbind(-1)
        k = rate / (1 - rho)

        def slope(t: Any, state: Any) -> Any:
            energy = k * (state[0] - state[1] - gap_limit)
            return torch.stack([-energy, -rho * energy])

        start = torch.stack([solver0, verifier0])
        path = odeint(slope, start, times, rtol=tolerance, atol=tolerance, method=method)
        residual = path.permute(2, 1, 0) - torch.from_numpy(data)
        losses = 0.5 * (residual**2).sum((1, 2))
        (gradient,) = torch.autograd.grad(losses.sum(), x)
        return losses.detach().numpy(), gradient.numpy()

    return run


# --- the comparison -------------------------------------------------------------------------


class Entry(NamedTuple):
    """A contestant with the settings it runs with."""

    name: str
    run: Contestant
    settings: str


def gradient_error(got: tuple[Any, Any], reference: tuple[Any, Any]) -> float:
    """The largest error of a gradient, relative to that gradient's largest entry."""
    exact = np.asarray(reference[1])
    error = np.max(np.abs(np.asarray(got[1]) - exact), axis=1) / np.max(np.abs(exact), axis=1)
    return float(np.max(error))


def loss_error(got: tuple[Any, Any], reference: tuple[Any, Any]) -> float:
    """The largest relative error of a loss."""
    exact = np.asarray(reference[0])
    return float(np.max(np.abs(np.asarray(got[0]) / exact - 1)))


def reference_error(curves: int = 4) -> float:
    """How far the closed form is from mpmath with 40 digits (gradients)."""
    numbers, data = task(curves)
    _, gradients = gapjax_contestant(_closed_form)(numbers, data)
    worst = 0.0
    with mpmath.workdps(40):
        times = [mpmath.mpf(t) for t in TIMES.tolist()]
        for row, measured, gradient in zip(numbers, data, np.asarray(gradients), strict=True):
            point = [mpmath.mpf(v) for v in row.tolist()]

            def loss(*numbers: Any, measured: np.ndarray = measured) -> Any:
                residual = plain(numbers, mpmath.exp, times) - measured
                return sum(r * r for r in residual.ravel()) / 2

            exact = [
                mpmath.diff(loss, tuple(point), tuple(int(i == j) for j in range(5)))
                for i in range(5)
            ]
            scale = max(abs(value) for value in exact)
            worst = max(
                worst, *(float(abs(g - e) / scale) for g, e in zip(gradient, exact, strict=True))
            )
    return worst


def fastest(
    name: str, make: Callable[..., Contestant], ladders: list[list[dict[str, Any]]], curves: int
) -> Entry:
    """The quickest settings whose gradients are right to `TARGET` on `curves` curves.

    Each of `ladders` goes from loose to tight tolerances and is climbed no further than needed.
    A few curves stand for many with a margin.
    """
    target = TARGET if curves >= max(COUNTS[:-1]) else TARGET / 5
    numbers, data = task(curves)
    reference = gapjax_contestant(_closed_form)(numbers, data)
    passed: dict[str, Contestant] = {}
    for ladder in ladders:
        for options in ladder:
            run = make(**options)
            if gradient_error(run(numbers, data), reference) <= target:
                words = (v if k == "method" else f"{k} {v:g}" for k, v in options.items())
                passed[", ".join(words)] = run
                break
    calls = {settings: partial(run, numbers, data) for settings, run in passed.items()}
    seconds = interleaved(calls, repeats=5)
    best = min(passed, key=lambda settings: float(np.median(seconds[settings])))
    return Entry(name, passed[best], best)


def entries() -> list[Entry]:
    tolerances = [10.0**-p for p in range(5, 13)]
    alone = [[{"tolerance": tolerance} for tolerance in tolerances]]
    with_step = [
        [{"tolerance": tolerance, "step": step} for tolerance in tolerances]
        for step in (1e-5, 3e-6, 1e-6)  # larger ones are off by more than the target
    ]
    with_method = [
        [{"tolerance": tolerance, "method": method} for tolerance in tolerances]
        for method in ("dopri5", "dopri8")
    ]
    return [
        Entry("gapjax closed form", gapjax_contestant(_closed_form), "exact"),
        fastest(
            "gapjax diffrax",
            lambda tolerance: gapjax_contestant(partial(_diffrax, tolerance=tolerance)),
            alone,
            1024,
        ),
        fastest("scipy DOP853, curve by curve", scipy_each, with_step, 64),
        fastest("scipy DOP853, one stacked system", scipy_stacked, with_step, 1024),
        fastest("torchdiffeq, one batch", torchdiffeq_contestant, with_method, 1024),
    ]


def compile_seconds(run: Contestant, numbers: np.ndarray, data: np.ndarray) -> float:
    begin = time.perf_counter()
    run(numbers, data)
    return time.perf_counter() - begin


def compare(repeats: int, subset: int) -> list[str]:
    """The table, a row for each contestant and number of curves."""
    contestants = entries()
    each = contestants[2].name
    rows = []
    for curves in COUNTS:
        numbers, data = task(curves)
        reference = gapjax_contestant(_closed_form)(numbers, data)
        calls, errors, compiled = {}, {}, {}
        for name, run, _ in contestants:
            n = min(curves, subset) if name == each else curves
            some = (numbers[:n], data[:n])
            jax.clear_caches()
            first = compile_seconds(run, *some)
            compiled[name] = f"{first:.2g}" if name.startswith("gapjax") else "–"
            got = run(*some)
            part = (reference[0][:n], reference[1][:n])
            errors[name] = f"{loss_error(got, part):.0e} | {gradient_error(got, part):.0e}"
            calls[name] = partial(run, *some)
        # What `clear_caches` dropped is compiled again before the clock runs.
        for call in calls.values():
            call()
        seconds = interleaved(calls, repeats=repeats)
        if curves > subset:
            seconds[each] *= curves / subset
        base = np.median(seconds[each])
        for name, _, settings in contestants:
            note = (
                f" (×{curves // subset} from {subset})" if name == each and curves > subset else ""
            )
            rows.append(
                f"| {curves} | {name}{note} | {settings} | {errors[name]} "
                f"| {quartiles(seconds[name])} | {compiled[name]} "
                f"| {base / np.median(seconds[name]):,.3g} |"
            )
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Value and gradient of many curves.")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--subset", type=int, default=1024, help="most curves for scipy's loop")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    with float64_on_cpu():
        mp_error = reference_error()
        rows = compare(arguments.repeats, arguments.subset)
    text = [
        "# Value and gradient of many curves",
        "",
        "Sum of squares against 21 checkpoints and its gradient in five numbers a curve, float64; "
        "every contestant with the fastest settings whose gradients are right, at up to 1024 "
        f"curves, to {TARGET:g}. "
        f"The reference, the closed form, agrees with 40-digit mpmath to {mp_error:.0e}. "
        f"{MACHINE}. Contestants take turns; medians with quartiles, compile time apart. "
        "Written by `python -m benchmarks.dynamics_gradients`.",
        "",
        "| curves | contestant | settings | loss error | gradient error | time (ms) "
        "| first call (s) | times faster than scipy curve by curve |",
        "| ---: | --- | --- | ---: | ---: | ---: | ---: | ---: |",
        *rows,
        "",
    ]
    _RESULT.write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
