"""What was said about the run while it went on: cautions, and the live limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from gapjax.dynamics.plots import COLOURS
from gapjax.report.page import Picture, Section, Table, Verdict, draw
from gapjax.report.run_files import RunFiles
from gapjax.trajectories import EPOCH, SOLVER

_LISTED = 12  # epochs named a caution


def judgements_section(run: RunFiles) -> Section | None:
    """Cautions with their epochs, and the limit as it was estimated along the run."""
    judged = run.of("judge")
    if not judged:
        return None
    estimates = [row for row in judged if row.get("limit")]
    pictures: tuple[Picture, ...] = ()
    if estimates:
        pictures = (
            draw(
                lambda axes: _draw_estimates(axes, run, estimates),
                "The estimated limit of U_s with its 90% interval against the epoch",
                "The limit of U_s as the fast fit of the exponential law saw it at the time: "
                "median and 90% interval; hollow where it was not identified. Small dots: U_s as "
                "measured. Intervals that miss what came later were too narrow.",
            ),
        )
    kinds = _by_kind(judged)
    rows = tuple((kind, _epochs(epochs), last) for kind, (epochs, last) in kinds.items())
    tables = (Table(("caution", "at epochs", "last time"), rows),) if rows else ()
    share = max((len(epochs) for epochs, _ in kinds.values()), default=0) / len(judged)
    if rows:
        count = sum(bool(row.get("cautions")) for row in judged)
        text = f"Cautions at {count} of {len(judged)} judgements."
        verdict = Verdict(text, "bad" if share > 0.5 else "unsure")
    else:
        verdict = Verdict(f"No cautions at any of {len(judged)} judgements.", "good")
    return Section(
        "Judgements along the way",
        "After each measurement the run so far is fitted and looked at with suspicion.",
        (verdict,),
        pictures,
        tables,
    )


def _by_kind(judged: Sequence[dict[str, Any]]) -> dict[str, tuple[list[float], str]]:
    """Epochs of each caution, told by what stands before the colon, and its last details."""
    kinds: dict[str, tuple[list[float], str]] = {}
    for row in judged:
        for text in row.get("cautions", ()):
            kind, _, details = str(text).partition(": ")
            epochs, _ = kinds.get(kind, ([], ""))
            kinds[kind] = ([*epochs, float(row["epoch"])], details)
    return kinds


def _epochs(epochs: Sequence[float]) -> str:
    names = [f"{epoch:.3g}" for epoch in epochs]
    if len(names) <= _LISTED:
        return ", ".join(names)
    left = len(names) - _LISTED
    return f"{', '.join(names[: _LISTED - 1])}, … ({left} more) …, {names[-1]}"


def _draw_estimates(axes: Axes, run: RunFiles, estimates: Sequence[dict[str, Any]]) -> None:
    colour = COLOURS["solver"]
    for row in estimates:
        q, sure = row["limit"], row.get("identified")
        strength = 1.0 if sure else 0.45
        axes.plot([row["epoch"]] * 2, [q["q05"], q["q95"]], color=colour, alpha=strength)
        inside = colour if sure else "none"
        axes.plot(row["epoch"], q["q50"], "o", color=colour, markerfacecolor=inside, markersize=5)
    axes.plot(run.trajectory[EPOCH], run.trajectory[SOLVER], ".", color="0.4", markersize=4)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("epoch at which it was estimated")
    axes.set_ylabel("limit of $U_s$ (nats)")
