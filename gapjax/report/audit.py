"""The verifier on trial: its scores against the truth, which it never sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from scipy.stats import mannwhitneyu

from gapjax.dynamics.plots import COLOURS
from gapjax.report.page import Picture, Section, Table, Verdict, draw
from gapjax.report.run_files import RunFiles
from gapjax.trajectories import EPOCH

_BINS = 10
_CONSTANT = 1e-9
_RIGHT, _WRONG = COLOURS["gap"], COLOURS["verifier"]


class Scored(NamedTuple):
    """Candidates with a known answer and a score, one entry each.

    - `problem`: index of the problem; `score`: the verifier's, in [0, 1].
    - `surprise`: uncertainty a token (nats), by which the passing ones are ranked.
    """

    problem: Int[np.ndarray, " candidates"]
    right: Bool[np.ndarray, " candidates"]
    score: Float[np.ndarray, " candidates"]
    surprise: Float[np.ndarray, " candidates"]

    @property
    def constant(self) -> bool:
        """Whether the score says the same of every candidate."""
        return bool(np.ptp(self.score) < _CONSTANT)


def scored(problems: Sequence[Mapping[str, Any]]) -> Scored | None:
    """The candidates of probe samples; None if no answers are known or nothing has a score."""
    rows = [
        (p, each["grade"] == "correct", each["score"], -each["logprob"] / each["length"])
        for p, row in enumerate(problems)
        for each in row["candidates"]
        if each.get("grade") and each.get("score") is not None
    ]
    if not rows:
        return None
    problem, right, score, surprise = (np.array(column) for column in zip(*rows, strict=True))
    return Scored(problem, right.astype(bool), score.astype(float), surprise.astype(float))


def auc(right: Bool[np.ndarray, " n"], score: Float[np.ndarray, " n"]) -> float | None:
    """Probability that a right candidate outscores a wrong one, ties half; None without both."""
    if right.all() or not right.any():
        return None
    wins = mannwhitneyu(score[right], score[~right]).statistic
    return float(wins / (right.sum() * (~right).sum()))


def auc_within(found: Scored, score: Float[np.ndarray, " candidates"]) -> float | None:
    """`auc` among the candidates of one problem, mean over problems that have both kinds.

    This is what selection needs; over all candidates a score can shine by telling easy
    problems from hard ones.
    """
    each = [
        auc(found.right[mine], score[mine])
        for mine in (found.problem == p for p in np.unique(found.problem))
    ]
    both = [value for value in each if value is not None]
    return float(np.mean(both)) if both else None


class Reliability(NamedTuple):
    """Bins of equal width with at least one candidate: mean score, share right, how many."""

    score: Float[np.ndarray, " bins"]
    right: Float[np.ndarray, " bins"]
    size: Int[np.ndarray, " bins"]

    @property
    def error(self) -> float:
        """Expected calibration error (arXiv:1706.04599, equation 3)."""
        return float(np.average(np.abs(self.score - self.right), weights=self.size))


def reliability(found: Scored) -> Reliability:
    """The reliability diagram of scores against the truth."""
    bin_of = np.clip((found.score * _BINS).astype(int), 0, _BINS - 1)
    groups = pd.DataFrame({"score": found.score, "right": found.right}).groupby(bin_of)
    means = groups.mean()
    return Reliability(
        means["score"].to_numpy(float), means["right"].to_numpy(float), groups.size().to_numpy()
    )


def audit_section(run: RunFiles) -> Section | None:
    """Ranking and calibration at the first and last checkpoint; None without known answers."""
    before, after = scored(run.probe(0)), scored(run.probe(-1))
    if before is None or after is None:
        return None
    constant = before.constant and after.constant
    pictures = _likelihood_pictures(before, after) if constant else _score_pictures(before, after)
    if not constant and "verifier_auc" in run.trajectory:
        pictures.append(
            draw(
                lambda axes: _draw_quality(axes, run.trajectory),
                "AUC and Brier score of the verifier against the epoch",
                "Along the run: does the verifier keep its edge as the answers change?",
            )
        )
    return Section(
        "Verifier audit",
        "The verifier's scores against the truth, on all candidates of the probe problems.",
        (_verdict(after, constant),),
        tuple(pictures),
        (_table(before, after, constant),),
        (
            "AUC: the probability that a right answer ranks above a wrong one, ½ by chance. "
            "Within a problem is what selection needs.",
        ),
    )


def _verdict(after: Scored, constant: bool) -> Verdict:
    likelihood = auc_within(after, -after.surprise)
    text = "At the end all candidates of every problem are alike: nothing to rank."
    if constant:
        opening = "This verifier's score is a constant: the likelihood alone selects. "
        if likelihood is None:
            return Verdict(opening + text)
        return _ranked(
            likelihood, f"{opening}By uncertainty a token its AUC within a problem is", "likelihood"
        )
    score = auc_within(after, after.score)
    if score is None or likelihood is None:
        return Verdict(text)
    found = _ranked(score, "At the end the score's AUC within a problem is", "score")
    better = score > likelihood
    return Verdict(
        f"{found.text} It ranks {'' if better else 'no '}better than likelihood alone "
        f"({likelihood:.2f}); its calibration error is {reliability(after).error:.2f}.",
        found.tone if better or found.tone == "bad" else "unsure",
    )


def _ranked(value: float, opening: str, name: str) -> Verdict:
    if value < 0.5:
        return Verdict(f"{opening} {value:.2f}: the {name} prefers wrong answers.", "bad")
    if value < 0.6:
        return Verdict(f"{opening} {value:.2f}: hardly more than chance.", "unsure")
    return Verdict(f"{opening} {value:.2f}.", "good")


def _table(before: Scored, after: Scored, constant: bool) -> Table:
    def row(name: str, *values: float | None) -> tuple[str, ...]:
        return (name, *("–" if value is None else f"{value:.3f}" for value in values))

    pair = (before, after)
    rows = [
        row("likelihood a token: AUC", *(auc(f.right, -f.surprise) for f in pair)),
        row("likelihood: AUC within a problem", *(auc_within(f, -f.surprise) for f in pair)),
    ]
    if not constant:
        rows = [
            row("score: AUC", *(auc(f.right, f.score) for f in pair)),
            row("score: AUC within a problem", *(auc_within(f, f.score) for f in pair)),
            row("score: Brier", *(float(np.mean((f.score - f.right) ** 2)) for f in pair)),
            row("score: calibration error", *(reliability(f).error for f in pair)),
            *rows,
        ]
    rows.append(row("share of right candidates", *(float(f.right.mean()) for f in pair)))
    return Table(("", "first checkpoint", "last checkpoint"), tuple(rows))


def _score_pictures(before: Scored, after: Scored) -> list[Picture]:
    return [
        draw(
            lambda axes: _draw_reliability(axes, before, after),
            "Reliability diagram: share of right answers against the score",
            "Reliability: on the diagonal a score of 0.7 means 7 in 10 right. Larger points hold "
            "more candidates; bars are two standard errors.",
        ),
        draw(
            lambda axes: _draw_histogram(axes, after, after.score, "score", (0.0, 1.0)),
            "Histogram of scores of right and wrong candidates at the last checkpoint",
            "Scores at the last checkpoint: a verifier worth its price pulls the two apart.",
        ),
    ]


def _likelihood_pictures(before: Scored, after: Scored) -> list[Picture]:
    end = float(np.quantile(np.concatenate([before.surprise, after.surprise]), 0.99))
    return [
        draw(
            lambda axes, found=found: _draw_histogram(  # type: ignore[misc]
                axes, found, found.surprise, "uncertainty a token (nats)", (0.0, max(end, 1e-6))
            ),
            f"Histogram of uncertainty a token of right and wrong candidates, {when} checkpoint",
            f"The {when} checkpoint: what is least uncertain is chosen.",
        )
        for when, found in (("first", before), ("last", after))
    ]


def _draw_reliability(axes: Axes, before: Scored, after: Scored) -> None:
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.9, linestyle="--")
    for found, label, colour in (
        (before, "first checkpoint", "0.55"),
        (after, "last checkpoint", COLOURS["verifier"]),
    ):
        bins = reliability(found)
        error = 2 * np.sqrt(bins.right * (1 - bins.right) / bins.size)
        axes.errorbar(bins.score, bins.right, error, color=colour, linewidth=0.9)
        area = 12 + 90 * bins.size / bins.size.max()
        axes.scatter(bins.score, bins.right, area, color=colour, label=label, zorder=3)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("verifier's score")
    axes.set_ylabel("share of right answers")
    axes.legend(frameon=False, fontsize=8.5)


def _draw_histogram(
    axes: Axes,
    found: Scored,
    values: Float[np.ndarray, " candidates"],
    name: str,
    span: tuple[float, float],
) -> None:
    edges = np.linspace(*span, 26)
    for right, label, colour in ((True, "right", _RIGHT), (False, "wrong", _WRONG)):
        mine = np.clip(values[found.right == right], *span)
        axes.hist(mine, edges.tolist(), color=colour, alpha=0.5, label=f"{label} ({len(mine)})")
    axes.set_xlabel(name)
    axes.set_ylabel("candidates")
    axes.legend(frameon=False, fontsize=8.5)


def _draw_quality(axes: Axes, trajectory: pd.DataFrame) -> None:
    for column, label, colour in (
        ("verifier_auc", "AUC (1 is perfect, ½ chance)", COLOURS["solver"]),
        ("verifier_brier", "Brier score (0 is perfect)", COLOURS["verifier"]),
    ):
        if column in trajectory:
            values = trajectory[column]
            axes.plot(trajectory[EPOCH], values, "o-", color=colour, markersize=3.5, label=label)
    axes.axhline(0.5, color="0.7", linewidth=0.9, linestyle="--")
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("epoch")
    axes.legend(frameon=False, fontsize=8.5)
