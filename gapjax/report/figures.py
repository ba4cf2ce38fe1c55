"""Pictures of a run beside its posterior: did it learn, or did it only become surer?"""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gapjax.posterior.plots import COLOURS

_PASS = "#7a4fa3"


def progress_figure(trajectory: pd.DataFrame, *, title: str) -> Figure:
    """Accuracies, pass@N and the diversity of the answers along a run.

    Left: when the solver's accuracy rises while pass@N falls, the run concentrates
    probability on answers that the model already gave (sharpening) rather than learning
    new ones. Right: the same in the answers' entropy, the lengths and the share cut off.
    Without known answers there is only the right one.
    """
    passes = [str(name) for name in trajectory.columns if str(name).startswith("pass_at_")]
    figure = Figure(figsize=(8.6 if passes else 4.6, 3.9), layout="constrained")
    all_axes = figure.subplots(1, 2 if passes else 1, squeeze=False)[0]
    if passes:
        n = max(int(name.removeprefix("pass_at_")) for name in passes)
        _draw_accuracies(all_axes[0], trajectory, n)
        title = f"{title}: {_verdict(trajectory, n)}"
    _draw_answers(all_axes[-1], trajectory)
    for axes in all_axes:
        axes.set_xlabel("epoch")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="0.93")
    figure.suptitle(title, x=0.02, ha="left", fontsize=10)
    return figure


def _draw_accuracies(left: Axes, trajectory: pd.DataFrame, n: int) -> None:
    epochs = trajectory["epoch"]
    for column, label, colour in (
        (f"pass_at_{n}", f"pass@{n}: any of {n} right", _PASS),
        ("verifier_accuracy", f"verifier: best of {n}", COLOURS["verifier"]),
        ("solver_accuracy", "solver: one sample", COLOURS["solver"]),
    ):
        left.plot(epochs, trajectory[column], "o-", color=colour, markersize=4, label=label)
    left.set_ylim(0, 1.02)
    left.set_ylabel("accuracy on held-out problems")
    left.legend(frameon=False, fontsize=8.5)
    left.set_title(
        f"accuracy up while pass@{n} goes down is sharpening, not learning",
        fontsize=8.5,
        color="0.25",
    )


def _draw_answers(right: Axes, trajectory: pd.DataFrame) -> None:
    epochs, entropy = trajectory["epoch"], trajectory["answer_entropy"]
    right.plot(
        epochs,
        entropy / max(entropy.iloc[0], 1e-9),
        "o-",
        color=_PASS,
        markersize=4,
        label=f"entropy of the answers / {entropy.iloc[0]:.3g} nats",
    )
    lengths = trajectory["solver_tokens"]
    right.plot(
        epochs,
        lengths / lengths.iloc[0],
        "o-",
        color=COLOURS["gap"],
        markersize=4,
        label=f"answer length / {lengths.iloc[0]:.3g} tokens",
    )
    right.plot(
        epochs,
        trajectory["solver_cut_off"],
        "o-",
        color="0.5",
        markersize=4,
        label="share of answers cut off",
    )
    right.set_ylim(bottom=0)
    right.set_ylabel("relative to the scale in the legend")
    right.legend(frameon=False, fontsize=8.5)


def _verdict(trajectory: pd.DataFrame, n: int) -> str:
    first, last = trajectory.iloc[0], trajectory.iloc[-1]
    solver = f"solver {first['solver_accuracy']:.0%} → {last['solver_accuracy']:.0%}"
    spread = f"pass@{n} {first[f'pass_at_{n}']:.0%} → {last[f'pass_at_{n}']:.0%}"
    return f"{solver}, {spread}"
