"""What came with the falling uncertainty, and what the verification is worth."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from gapjax.dynamics.plots import COLOURS
from gapjax.paired import SURE
from gapjax.report import figures
from gapjax.report.page import Section, Tone, Verdict, draw
from gapjax.report.run_files import RunFiles
from gapjax.trajectories import EPOCH, SOLVER, VERIFIER

_LOSSES = 300  # points of the loss curve


def progress_section(run: RunFiles) -> Section:
    """Accuracies, pass@k, entropy, lengths, cut off, and the training loss."""
    table = run.trajectory
    pictures = []
    if run.passes:
        pictures.append(
            draw(
                lambda axes: figures.draw_passes(axes, table),
                "pass@k against the epoch",
                "pass@k: the probability that one of k samples is right; pass@1 is the solver's "
                "accuracy. Lines that close up from above show sharpening.",
            )
        )
    if {"answer_entropy", "solver_tokens", "solver_cut_off"} <= set(table.columns):
        pictures.append(
            draw(
                lambda axes: figures.draw_answers(axes, table),
                "Entropy of the answers, their length and the share cut off against the epoch",
                "Entropy falls when sampling sharpens, whether or not answers get better; a change "
                "of length alone moves U_s.",
            )
        )
    if run.of("train"):
        pictures.append(
            draw(
                lambda axes: _draw_losses(axes, run),
                "Training loss against the epoch",
                "Loss on the selected answers, which the model gave itself: a small loss says that "
                "it repeats them, not that they are right.",
            )
        )
    known = "grading_errors" in table
    reason = "No answer could be graded" if known else "No answers are known"
    notes = [] if run.passes else [f"{reason}, so nothing can be said about accuracy."]
    if "ungraded" in table:
        share = table["ungraded"].max()
        notes.append(f"{share:.1%} of the problems have no answer, and count for no accuracy.")
    notes += _cut_off(run)
    failed = {"grading_timeouts": "timed out", "grading_errors": "failed"}
    for column, what in failed.items():
        if column in table and table[column].max() > 0:
            notes.append(f"Grading {what} for up to {table[column].max():.1%} of the answers.")
    return Section(
        "Progress",
        "What came with the falling uncertainty, on problems that are never trained on.",
        pictures=tuple(pictures),
        notes=tuple(notes),
    )


def _cut_off(run: RunFiles) -> list[str]:
    """What became of answers to learn from that had not ended."""
    rows = [row["cut_off"] for row in run.of("select") if isinstance(row.get("cut_off"), dict)]
    cut, problems, learned = (
        sum(int(row.get(name, 0)) for row in rows) for name in ("candidates", "problems", "learned")
    )
    if not cut:
        return []
    return [
        f"Of the answers to learn from {cut} were cut off at max_new_tokens; {learned} of them are "
        f"learnt all the same, and of {problems} problems no answer ended (over all rounds)."
    ]


def arms_section(run: RunFiles) -> Section | None:
    """Random, verifier's and true choice among the same samples; None without known answers."""
    table = run.trajectory
    if not run.passes or "verifier_accuracy" not in table:
        return None
    n = max(run.passes)
    last = table.iloc[-1]
    random, chosen, best = (
        float(last[name]) for name in ("solver_accuracy", "verifier_accuracy", f"pass_at_{n}")
    )
    room, won = best - random, chosen - random
    text = (
        f"At the end choosing at random is right for {random:.1%}, the verifier for {chosen:.1%}, "
        f"and no choice could do better than {best:.1%}"
    )
    text += f": the verifier realises {won / room:.0%} of what there is to gain." if room else "."
    error = _error(last)
    tone: Tone = "plain" if error is None else "good" if won > SURE * error else "unsure"
    if error is not None and abs(won) <= SURE * error:
        text += " Its advantage over chance is within noise."
    elif won < 0:
        text += " It chooses worse than chance."
        tone = "bad"
    pictures = [
        draw(
            lambda axes: figures.draw_arms(axes, table, n),
            "Accuracy of random choice, the verifier's choice and the best possible choice",
            "Accuracy; shaded: two standard errors.",
        )
    ]
    if "oracle_uncertainty" in table:
        pictures.append(
            draw(
                lambda axes: _draw_oracle(axes, table),
                "U_s, U_v and the uncertainty of what the truth would choose",
                "Uncertainty of the answers chosen. Where the verifier lies below the truth, it "
                "prefers likely answers to right ones.",
            )
        )
    return Section(
        "Control arms",
        f"Three ways of choosing among the same {n} samples: at random (the solver), by the "
        "verifier, and by the truth (any right one), with which no verifier can compete.",
        (Verdict(text, tone),),
        tuple(pictures),
    )


def _error(row: pd.Series) -> float | None:
    """Standard error of verifier minus solver accuracy, at most (they go together)."""
    if not {"solver_accuracy_sem", "verifier_accuracy_sem"} <= set(row.index):
        return None
    return float(np.hypot(row["solver_accuracy_sem"], row["verifier_accuracy_sem"]))


def _draw_losses(axes: Axes, run: RunFiles) -> None:
    steps = run.of("train")
    # Means over as many neighbours as leave a few hundred points, however long the run.
    width = -(-len(steps) // _LOSSES)
    values = pd.DataFrame([(row["epoch"], row["loss"]) for row in steps])
    means = values.groupby(np.arange(len(values)) // width).mean()
    axes.plot(means[0], means[1], color=COLOURS["solver"], linewidth=1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss (nats an answer token)")


def _draw_oracle(axes: Axes, table: pd.DataFrame) -> None:
    for column, label, colour in (
        (SOLVER, "random $U_s$", COLOURS["solver"]),
        ("oracle_uncertainty", "truth", figures.TRUTH),
        (VERIFIER, "verifier $U_v$", COLOURS["verifier"]),
    ):
        axes.plot(table[EPOCH], table[column], "o-", color=colour, markersize=3.5, label=label)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("epoch")
    axes.set_ylabel("uncertainty (nats)")
    axes.legend(frameon=False, fontsize=8.5)
