"""Pictures of simulated runs, drawn without pyplot so that nothing global is touched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from gapjax.dynamics.laws import Limit
    from gapjax.dynamics.plans import Plan
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


def plan_figure(plan: Plan) -> Figure:
    """The planned run beside the usual allocations, its shares, and what each round brings."""
    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[1.3, 1, 1])
    styles = {"planned": ("#7a4fa3", "-"), "none": ("0.55", "--")}
    for name, path in plan.paths.items():
        colour, style = styles.get(name, ("0.75", {"early": "-", "uniform": "-."}.get(name, ":")))
        width = 2.0 if name == "planned" else 1.2
        label = f"{name}: {path[-1]:.3g}"
        left.plot(path, style, color=colour, linewidth=width, label=label)
    left.set_xlabel("round")
    left.set_ylabel("solver uncertainty $U_s$ (nats)")
    left.legend(frameon=False, fontsize=8.5, title="external data, final $U_s$", title_fontsize=8.5)
    middle.bar([*plan.shares], [100 * share for share in plan.shares.values()], color="#7a4fa3")
    middle.set_xlim(0.3, plan.rounds + 0.7)
    middle.set_xlabel("round")
    middle.set_ylabel("share of the external data (%)")
    price = plan.settings.price
    cost = [value + price * t for t, value in enumerate(plan.by_length)]
    right.plot(cost, "o-", color="#1f5fa8", markersize=3)
    right.plot(plan.rounds, cost[plan.rounds], "o", color="#7a4fa3", markersize=7)
    right.set_xlabel("length of the run (rounds)")
    goal = "limit" if plan.settings.objective == "limit" else "final $U_s$"
    right.set_ylabel(f"best {goal} + {price:g} × rounds (nats)" if price else f"best {goal} (nats)")
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure
