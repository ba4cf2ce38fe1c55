"""Panels that show a run's measurements: did it learn, or did it only become surer?"""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gapjax.dynamics.plots import COLOURS, SYMBOLS
from gapjax.report.run_files import measured_passes
from gapjax.trajectories import EPOCH

TRUTH = "#7a4fa3"


def progress_figure(trajectory: pd.DataFrame, *, title: str) -> Figure:
    """Accuracies, pass@k and the diversity of the answers along a run.

    Left: when the solver's accuracy rises while pass@N falls, the run concentrates
    probability on answers that the model already gave (sharpening) rather than learning
    new ones. Right: the same in the answers' entropy, the lengths and the share cut off.
    Without known answers there is only the right one.
    """
    passes = measured_passes(trajectory)
    figure = Figure(figsize=(8.6 if passes else 4.6, 3.9), layout="constrained")
    all_axes = figure.subplots(1, 2 if passes else 1, squeeze=False)[0]
    if passes:
        n = max(passes)
        draw_arms(all_axes[0], trajectory, n)
        all_axes[0].set_title(
            f"accuracy up while pass@{n} goes down is sharpening, not learning",
            fontsize=8.5,
            color="0.25",
        )
        title = f"{title}: {_from_to(trajectory, n)}"
    draw_answers(all_axes[-1], trajectory)
    for axes in all_axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="0.93")
    figure.suptitle(title, x=0.02, ha="left", fontsize=10)
    return figure


def draw_series(axes: Axes, trajectory: pd.DataFrame) -> None:
    """U_s, U_v and the gap, without a posterior (nats)."""
    solver, verifier = trajectory["solver_uncertainty"], trajectory["verifier_uncertainty"]
    values = {"solver": solver, "verifier": verifier, "gap": solver - verifier}
    for series, column in values.items():
        label = f"{series} ${SYMBOLS[series]}$"
        _line(axes, trajectory[EPOCH], column, COLOURS[series], label)
    axes.set_ylabel("uncertainty (nats)")
    axes.legend(frameon=False, fontsize=8.5)


def draw_arms(axes: Axes, trajectory: pd.DataFrame, n: int) -> None:
    """Accuracy of a random, the verifier's, and the best possible choice among n samples."""
    epochs = trajectory[EPOCH]
    for column, label, colour in (
        (f"pass_at_{n}", f"truth: any of {n} right, pass@{n}", TRUTH),
        ("verifier_accuracy", f"verifier: best of {n}", COLOURS["verifier"]),
        ("solver_accuracy", "random: one sample, the solver", COLOURS["solver"]),
    ):
        values = trajectory[column]
        _line(axes, epochs, values, colour, label)
        if f"{column}_sem" in trajectory:
            around = 2 * trajectory[f"{column}_sem"]
            axes.fill_between(
                epochs, values - around, values + around, color=colour, alpha=0.13, linewidth=0
            )
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("accuracy on held-out problems")
    axes.legend(frameon=False, fontsize=8.5)


def draw_passes(axes: Axes, trajectory: pd.DataFrame) -> None:
    """pass@k for every k that was measured, named at its right end."""
    epochs, passes = trajectory[EPOCH], measured_passes(trajectory)
    for number, k in enumerate(passes):
        values = trajectory[f"pass_at_{k}"]
        strength = 0.35 + 0.65 * number / max(len(passes) - 1, 1)
        colour = COLOURS["solver"] if k == 1 else TRUTH
        alpha = 1.0 if k == 1 else strength
        axes.plot(epochs, values, "o-", color=colour, markersize=3, linewidth=1.1, alpha=alpha)
        axes.annotate(
            f"pass@{k}",
            (epochs.iloc[-1], values.iloc[-1]),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=colour,
            alpha=alpha,
            annotation_clip=False,
        )
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("epoch")
    axes.set_ylabel("probability on held-out problems")


def draw_answers(axes: Axes, trajectory: pd.DataFrame) -> None:
    """Entropy and length of the answers, relative to the first checkpoint; the share cut off."""
    epochs, entropy = trajectory[EPOCH], trajectory["answer_entropy"]
    label = f"entropy of the answers / {entropy.iloc[0]:.3g} nats"
    _line(axes, epochs, entropy / max(entropy.iloc[0], 1e-9), TRUTH, label)
    lengths = trajectory["solver_tokens"]
    label = f"answer length / {lengths.iloc[0]:.3g} tokens"
    _line(axes, epochs, lengths / lengths.iloc[0], COLOURS["gap"], label)
    _line(axes, epochs, trajectory["solver_cut_off"], "0.5", "share of answers cut off")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("relative to the scale in the legend")
    axes.legend(frameon=False, fontsize=8.5)


def _line(axes: Axes, epochs: pd.Series, values: pd.Series, colour: str, label: str) -> None:
    axes.plot(epochs, values, "o-", color=colour, markersize=3.5, linewidth=1.2, label=label)
    axes.set_xlabel("epoch")


def _from_to(trajectory: pd.DataFrame, n: int) -> str:
    first, last = trajectory.iloc[0], trajectory.iloc[-1]
    solver = f"solver {first['solver_accuracy']:.0%} → {last['solver_accuracy']:.0%}"
    spread = f"pass@{n} {first[f'pass_at_{n}']:.0%} → {last[f'pass_at_{n}']:.0%}"
    return f"{solver}, {spread}"
