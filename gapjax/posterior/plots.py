"""Pictures of a posterior, drawn without pyplot so that nothing global is touched."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gapjax.dynamics.plots import COLOURS, SYMBOLS
from gapjax.foreign import in_picture
from gapjax.posterior.result import SERIES, CurveFit, measurements
from gapjax.trajectories import Curve

if TYPE_CHECKING:
    from gapjax.posterior.result import Quantiles


_BEYOND = 0.5  # how far the fan runs past the last checkpoint, in lengths of the curve


def trajectory_figure(fit: CurveFit) -> Figure:
    """Measurements, posterior fan and limits of one curve.

    Left: checkpoints, median and 50% and 90% bands of the law, continued half as far
    again as the run has got.  Right: the limits, median with 50% and 90% intervals.
    """
    figure = Figure(figsize=(8.6, 4.9), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3.2, 1])
    first, last = fit.curve.epochs[[0, -1]]
    epochs = np.linspace(first, last + _BEYOND * (last - first), 150)
    paths, measured = fit.paths(epochs), measurements(fit.curve)
    for series in SERIES:
        colour = COLOURS[series]
        q05, q25, q50, q75, q95 = np.quantile(paths[series], [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
        left.fill_between(epochs, q05, q95, color=colour, alpha=0.15, linewidth=0)
        left.fill_between(epochs, q25, q75, color=colour, alpha=0.25, linewidth=0)
        left.plot(epochs, q50, color=colour, linewidth=1.4)
        left.plot(
            fit.curve.epochs,
            measured[series],
            "o",
            color=colour,
            markersize=4.5,
            markeredgecolor="white",
            markeredgewidth=0.6,
            label=f"{series} ${SYMBOLS[series]}$",
        )
    _mark_epoch(left, last, "last checkpoint")
    left.set_xlim(first - 0.02 * (last - first), epochs[-1])
    left.set_xlabel(fit.curve.time)
    left.set_ylabel("uncertainty (nats)")
    left.legend(frameon=False, fontsize=9, loc="best")
    _draw_limits(right, fit)
    _frame_values(left, fit, paths)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(
        f"{in_picture(fit.curve.name)}: {fit.model.name} law", x=0.06, ha="left", fontweight="bold"
    )
    verdict = "\n".join(textwrap.wrap(f"{fit.reason[0].upper()}{fit.reason[1:]}.", 96))
    left.set_title(verdict, loc="left", fontsize=8.5, color="0.25" if fit.identified else "#b02a2a")
    return figure


def forecast_figure(fit: CurveFit, table: pd.DataFrame, known: Curve) -> Figure:
    """A forecast (median, 50% and 90% bands) against what was measured afterwards.

    - `fit`: of the checkpoints up to the origin.
    - `table`: from `gapjax.posterior.forecast.forecast_table`.
    - `known`: the whole curve; what lies beyond the origin is drawn hollow.
    """
    figure = Figure(figsize=(7.6, 4.6), layout="constrained")
    axes = figure.subplots()
    origin, past, later = fit.curve.epochs[-1], measurements(fit.curve), measurements(known)
    for series in SERIES:
        colour, q = COLOURS[series], table[table["series"] == series]
        start = past[series][-1]
        epochs = np.append(origin, q[fit.curve.time])
        for low, high, alpha in (("q05", "q95", 0.15), ("q25", "q75", 0.28)):
            bands = (np.append(start, q[low]), np.append(start, q[high]))
            axes.fill_between(epochs, *bands, color=colour, alpha=alpha, linewidth=0)
        axes.plot(epochs, np.append(start, q["q50"]), color=colour, linewidth=1.4)
        label = f"{series} ${SYMBOLS[series]}$"
        axes.plot(fit.curve.epochs, past[series], "o", color=colour, markersize=4.5, label=label)
        unseen = known.epochs > origin
        axes.plot(
            known.epochs[unseen],
            later[series][unseen],
            "o",
            markerfacecolor="white",
            markeredgecolor=colour,
            markersize=4.5,
        )
    _mark_epoch(axes, origin, "forecast from here")
    axes.set_xlabel(fit.curve.time)
    axes.set_ylabel("uncertainty (nats)")
    axes.set_title(
        f"{in_picture(fit.curve.name)}: forecast by the {fit.model.name} law\n"
        "50% and 90% bands; hollow: measured later",
        loc="left",
        fontsize=9.5,
    )
    axes.legend(frameon=False, fontsize=9, loc="best")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _mark_epoch(axes: Axes, epoch: float, text: str) -> None:
    """A dotted line from top to bottom with a word beside it."""
    axes.axvline(epoch, color="0.6", linewidth=0.9, linestyle=":")
    axes.annotate(
        text,
        (epoch, 1),
        xycoords=("data", "axes fraction"),
        xytext=(4, -4),
        textcoords="offset points",
        va="top",
        color="0.45",
        fontsize=8,
    )


def _draw_limits(axes: Axes, fit: CurveFit) -> None:
    """One column a series: median, 50% and 90% interval, and the numbers beside them."""
    for column, series in enumerate(SERIES):
        q: Quantiles = fit.limit[series]
        colour = COLOURS[series]
        # An unidentified limit is drawn pale: it is the prior speaking, or a wrong law.
        strength = 1.0 if fit.identified else 0.45
        axes.plot([column] * 2, [q["q05"], q["q95"]], color=colour, linewidth=1.6, alpha=strength)
        axes.plot([column] * 2, [q["q25"], q["q75"]], color=colour, linewidth=5, alpha=strength)
        axes.plot(column, q["q50"], "_", color=colour, markersize=15, markeredgewidth=1.6)
    axes.set_xlim(-0.6, 2.6)
    axes.set_xticks(range(3), [_limit_text(fit.limit[s], s) for s in SERIES], fontsize=8.5)
    for label, series in zip(axes.get_xticklabels(), SERIES, strict=True):
        label.set_color(COLOURS[series])
    axes.set_title("limits (nats),\n50% and 90% intervals", fontsize=8.5, color="0.25")
    axes.tick_params(axis="y", left=False)
    axes.spines["left"].set_visible(False)


def _limit_text(q: Quantiles, series: str) -> str:
    low, middle, high = (f"{q[level]:.3g}" for level in ("q05", "q50", "q95"))
    return f"${SYMBOLS[series]}^\\infty$\n{middle}\n[{low},\n{high}]"


def _frame_values(axes: Axes, fit: CurveFit, paths: dict[str, np.ndarray]) -> None:
    """Show all measurements and the inner bands; wide tails may leave the picture."""
    shown = [*measurements(fit.curve).values()]
    shown += [np.quantile(paths[series], [0.1, 0.9], axis=0).ravel() for series in SERIES]
    shown += [np.array([q["q05"], q["q95"]]) for q in fit.limit.values()]
    low, high = (extreme([extreme(v) for v in shown]) for extreme in (min, max))
    low = min(low, 0.0)
    margin = 0.06 * (high - low)
    axes.set_ylim(low - margin, high + margin)
    if low < 0:
        axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
