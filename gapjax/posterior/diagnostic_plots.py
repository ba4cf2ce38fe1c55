"""Pictures that question a posterior: phase plane, limits side by side, prior, chains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from arviz_stats.base import array_stats
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gapjax.dynamics.plots import COLOURS, SYMBOLS
from gapjax.foreign import in_picture
from gapjax.posterior.phase_plane import phase_plane
from gapjax.posterior.result import SERIES, CurveFit

_RANK_BINS = 20
_WIDE_ROWS, _MOST_ROWS = 30, 400


def phase_plane_figure(fit: CurveFit) -> Figure:
    """`U_v` against `U_s`: measurements, the law's path, and the parabola that tests for a bend."""
    figure, axes = _canvas(5.4, 4.4)
    curve, plane = fit.curve, phase_plane(fit.curve)
    axes.plot(curve.solver, curve.verifier, "o-", color="0.35", markersize=4, linewidth=0.7)
    flat = fit.mean.reshape(-1, *fit.mean.shape[2:])
    path = np.median(flat, axis=0)
    axes.plot(path[:, 0], path[:, 1], color=COLOURS["solver"], label=f"{fit.model.name} law")
    x = np.linspace(curve.solver.min(), curve.solver.max(), 100)
    parabola = np.polynomial.Polynomial(plane.coefficients)(x)
    axes.plot(x, parabola, "--", color=COLOURS["verifier"], linewidth=1, label="parabola")
    start = (curve.solver[0], curve.verifier[0])
    axes.annotate("start", start, xytext=(5, 5), textcoords="offset points", fontsize=8)
    axes.set_xlabel(f"solver uncertainty ${SYMBOLS['solver']}$ (nats)")
    axes.set_ylabel(f"verifier uncertainty ${SYMBOLS['verifier']}$ (nats)")
    p = f"p = {plane.p_value:.3f}" if plane.p_value >= 0.001 else "p < 0.001"
    verdict = "bends" if plane.contradicts_constant_coupling else "is straight"
    _title(axes, f"{in_picture(curve.name)}: the path {verdict} ({p} for a line)")
    axes.legend(frameon=False, fontsize=9)
    return figure


def limits_figure(fits: Sequence[CurveFit]) -> Figure:
    """Limits of all curves, one row each: median, 50% and 90% intervals, pale if unidentified.

    Of very many the first.
    """
    left_out = len(fits) - len(fits := fits[:_MOST_ROWS])
    row_height, size = (0.42, 1.0) if len(fits) <= _WIDE_ROWS else (0.14, 0.45)
    figure = Figure(figsize=(8.6, 1.6 + row_height * len(fits)), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    for axes, series in zip(panels, SERIES, strict=True):
        for row, fit in enumerate(fits):
            q, alpha = fit.limit[series], 1.0 if fit.identified else 0.4
            style = {"color": COLOURS[series], "alpha": alpha, "solid_capstyle": "butt"}
            axes.plot([q["q05"], q["q95"]], [row, row], linewidth=1.6 * size, **style)
            axes.plot([q["q25"], q["q75"]], [row, row], linewidth=5 * size, **style)
            axes.plot(q["q50"], row, "|", color=COLOURS[series], markersize=13 * size)
        axes.set_xlabel(f"{series} limit ${SYMBOLS[series]}^\\infty$ (nats)")
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(y=0.5 / len(fits))
    names = [in_picture(f.curve.name) + ("" if f.identified else " (not identified)") for f in fits]
    panels[0].set_yticks(range(len(fits)), names, fontsize=max(4.5, 9 * size))
    panels[0].invert_yaxis()
    if left_out:
        figure.suptitle(f"and {left_out} more curves", x=0.02, ha="left", fontsize=9)
    return figure


def prior_figure(fit: CurveFit) -> Figure:
    """The solver limit before and after seeing the curve."""
    figure, axes = _canvas(5.4, 3.6)
    draws = fit.numbers["solver_limit"].ravel()
    before = fit.from_prior(draws=4000)[0]["solver_limit"]
    bins = np.linspace(0, max(2.5 * fit.scale, draws.max()), 80).tolist()
    axes.hist(draws, bins=60, density=True, color=COLOURS["solver"], alpha=0.6, label="posterior")
    axes.hist(
        before[before > 0], bins=bins, density=True, histtype="step", color="0.3", label="prior"
    )
    axes.set_xlabel(f"solver limit ${SYMBOLS['solver']}^\\infty$ (nats)")
    axes.set_ylabel("density (1/nat)")
    _title(axes, f"{in_picture(fit.curve.name)}: what the curve adds to the prior")
    axes.legend(frameon=False, fontsize=9)
    return figure


def chains_figure(fit: CurveFit) -> Figure:
    """Trace and rank histogram of the solver limit; chains that agree have flat ranks."""
    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    trace, ranks = figure.subplots(1, 2, width_ratios=[1.6, 1])
    draws = fit.numbers["solver_limit"]
    rank = array_stats.compute_ranks(draws.ravel()).reshape(draws.shape)
    for chain, (values, place) in enumerate(zip(draws, rank, strict=True)):
        trace.plot(values, linewidth=0.5, alpha=0.8, label=f"chain {chain + 1}")
        ranks.hist(
            place, bins=np.linspace(0, draws.size, _RANK_BINS + 1), histtype="step", linewidth=1.2
        )
    ranks.axhline(draws.shape[1] / _RANK_BINS, color="0.5", linewidth=0.9, linestyle="--")
    trace.set_xlabel("draw")
    trace.set_ylabel(f"solver limit ${SYMBOLS['solver']}^\\infty$ (nats)")
    ranks.set_xlabel("rank among all draws")
    ranks.set_ylabel("draws of the chain")
    worst = fit.diagnostics.r_hat_max
    note = "" if worst is None else f" (largest R-hat {worst:.3f})"
    _title(trace, f"{in_picture(fit.curve.name)}: chains{note}")
    for axes in (trace, ranks):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=9.5)
