"""Pictures of simulated runs, drawn without pyplot so that nothing global is touched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from gapjax.dynamics.laws import Limit
    from gapjax.trajectories import Curve

COLOURS = {"solver": "#1f5fa8", "verifier": "#c8641b", "gap": "#4f7a3a"}
SYMBOLS = {"solver": "U_s", "verifier": "U_v", "gap": "G"}


def simulation_figure(curve: Curve, limit: Limit, jumps: Mapping[int, float], title: str) -> Figure:
    """A simulated run with its limits (dashed) and the rounds that used external data."""
    figure = Figure(figsize=(7.2, 4.3), layout="constrained")
    axes = figure.subplots()
    series = {"solver": curve.solver, "verifier": curve.verifier, "gap": curve.gap}
    for name, values in series.items():
        colour = COLOURS[name]
        label = f"{name} ${SYMBOLS[name]}$"
        axes.plot(curve.epochs, values, "o-", color=colour, markersize=3.5, label=label)
        level = float(getattr(limit, name))
        axes.axhline(level, color=colour, linestyle="--", linewidth=1, alpha=0.7)
        axes.annotate(
            f" ${SYMBOLS[name]}^\\infty$ = {level:.3g}",
            (1, level),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8.5,
            color=colour,
            annotation_clip=False,
        )
    for number, share in jumps.items():
        axes.axvline(number, color="0.75", linewidth=1, linestyle=":", zorder=0)
        axes.annotate(
            f"{share:.0%} of external data",
            (number, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, -3),
            textcoords="offset points",
            rotation=90,
            va="top",
            fontsize=7.5,
            color="0.45",
        )
    axes.set_xlabel("epoch")
    axes.set_ylabel("uncertainty (nats)")
    axes.set_title(title, loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=9, loc="best")
    axes.spines[["top", "right"]].set_visible(False)
    return figure
