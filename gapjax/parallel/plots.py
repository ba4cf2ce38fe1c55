"""Pictures of estimates, drawn without pyplot so that nothing global is touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from gapjax.parallel.hardware import Hardware
    from gapjax.parallel.roofline import Estimate

_BOUNDS = {"compute": "#1f5fa8", "memory": "#c8641b", "network": "#4f7a3a"}
_HELD = {
    "weights": "#1f5fa8",
    "trained": "#5b8fc9",
    "optimizer": "#a3c0e0",
    "gradient": "#d3e0ef",
    "cache": "#c8641b",
    "activations": "#4f7a3a",
    "logits": "#7a4fa3",
}
_MODELS = ("#1f5fa8", "#c8641b", "#4f7a3a", "#7a4fa3")
_NOTE = "estimates at published peaks; not run on TPUs"
_GIB = 2**30


def estimate_figure(found: Estimate, hardware: Hardware, title: str) -> Figure:
    """Seconds that each phase needs of each of three things, and what a chip holds meanwhile."""
    figure = Figure(figsize=(9.6, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.35, 1])
    names = [phase.name for phase in found.phases]
    for number, (what, colour) in enumerate(_BOUNDS.items()):
        seconds = [getattr(phase.times, what) * phase.repeated for phase in found.phases]
        rows = [row + 0.27 * (number - 1) for row in range(len(names))]
        left.barh(rows, seconds, height=0.25, color=colour, label=what)
        for row, value, phase in zip(rows, seconds, found.phases, strict=True):
            bold = "bold" if phase.times.bound == what else "normal"
            text = f" {value:.3g}"
            left.annotate(text, (value, row), va="center", fontsize=7.5, fontweight=bold)
    left.set_yticks(range(len(names)), names)
    left.invert_yaxis()
    left.set_xscale("log")
    left.margins(x=0.12)
    left.set_xlabel("seconds of the whole phase if nothing else took time (log; bold: the bound)")
    left.xaxis.label.set_fontsize(8.5)
    kinds = [kind for kind in _HELD if any(kind in phase.step.resident for phase in found.phases)]
    base = [0.0] * len(names)
    for kind in kinds:
        sizes = [phase.step.resident.get(kind, 0.0) / _GIB for phase in found.phases]
        right.barh(names, sizes, left=base, height=0.6, color=_HELD[kind], label=kind)
        base = [below + size for below, size in zip(base, sizes, strict=True)]
    room = hardware.generation.memory / _GIB
    right.axvline(room, color="0.3", linestyle="--", linewidth=1)
    right.annotate(
        f"HBM, {room:.0f} GiB ",
        (room, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-2, -3),
        textcoords="offset points",
        rotation=90,
        ha="right",
        va="top",
        fontsize=8,
        color="0.3",
    )
    right.invert_yaxis()
    right.set_xlim(0, 1.06 * max(room, *base))
    right.set_xlabel("held by a chip (GiB)")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    entries = [axes.get_legend_handles_labels() for axes in (left, right)]
    for axes, (handles, labels), where in zip((left, right), entries, (0.0, 1.0), strict=True):
        axes.legend(
            handles,
            labels,
            frameon=False,
            fontsize=8,
            ncols=4,
            loc="lower left" if not where else "lower right",
            bbox_to_anchor=(where, 1.0),
            columnspacing=0.9,
            handlelength=1.0,
        )
    figure.suptitle(f"{title} ({_NOTE})", x=0.02, ha="left", fontsize=10)
    return figure


def growth_figure(
    costs: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]], label: str
) -> Figure:
    """How a cost grows with the chips, for several models.

    **Arguments:**

    - `costs`: for each generation and model the numbers of chips that it fits, and the costs.
    - `label`: what the cost is.
    """
    figure = Figure(figsize=(8.6, 4.0), layout="constrained")
    panels = figure.subplots(1, len(costs), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (generation, models) in zip(panels, costs.items(), strict=True):
        for (name, points), colour in zip(models.items(), _MODELS, strict=False):
            if not points:
                continue
            chips, values = zip(*points, strict=True)
            axes.loglog(chips, values, "o-", color=colour, markersize=4)
            axes.annotate(
                f" {name}", (chips[-1], values[-1]), va="center", fontsize=8.5, color=colour
            )
        axes.set_title(generation, loc="left", fontsize=9.5)
        axes.set_xlabel("chips")
        axes.grid(axis="y", color="0.93")
        axes.spines[["top", "right"]].set_visible(False)
    every = sorted({n for models in costs.values() for each in models.values() for n, _ in each})
    panels[0].set_xticks(every, [str(chips) for chips in every])
    panels[0].set_xlim(every[0] / 1.2, every[-1] * 2.2)
    panels[0].minorticks_off()
    panels[0].set_ylabel(label)
    figure.suptitle(_NOTE, x=0.02, ha="left", fontsize=10)
    return figure
