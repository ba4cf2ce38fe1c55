"""Where the time went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gapjax.report.page import Section, Table
from gapjax.report.run_files import RunFiles

_PHASES = {"measure": "measuring", "select": "selecting", "train": "training"}


def timings_section(run: RunFiles) -> Section | None:
    """Seconds and tokens a second by phase; None if no times were written."""
    times: dict[tuple[str, str], list[tuple[float, float | None]]] = {}
    for row in run.events:
        for work, seconds, tokens in _works(row):
            times.setdefault((row["event"], work), []).append((seconds, tokens))
    total = sum(seconds for phase in times.values() for seconds, _ in phase)
    if not total:
        return None
    rows = [
        _row(f"{_PHASES[event]}{f': {work}' if work else ''}", phase, total)
        for (event, work), phase in sorted(
            times.items(), key=lambda item: list(_PHASES).index(item[0][0])
        )
    ]
    header = ("phase", "times", "seconds", "share", "the first", "median of the others", "tokens/s")
    return Section(
        "Timings",
        f"{_duration(total)} in all, by phase. Compilation is in the first of each phase, so "
        "tokens a second are those of the others (where there are others). Fitting, writing and "
        "loading are not counted.",
        tables=(Table(header, tuple(rows)),),
    )


def _works(row: Mapping[str, Any]) -> list[tuple[str, float, float | None]]:
    """Kind of work, seconds and tokens of an event; whole phases if they are not told apart."""
    seconds, tokens = row.get("seconds"), row.get("tokens")
    if row["event"] not in _PHASES or seconds is None:
        return []
    if not isinstance(seconds, dict):
        return [("", float(seconds), tokens)]
    # Tokens are those that were sampled.
    return [
        (str(work), float(value), tokens if work == "sample" else None)
        for work, value in seconds.items()
    ]


def _row(name: str, phase: list[tuple[float, float | None]], total: float) -> tuple[str, ...]:
    seconds = np.array([each for each, _ in phase])
    later = phase[1:] or phase
    counted = [(time, tokens) for time, tokens in later if tokens]
    rate = "–"
    if counted and (spent := sum(time for time, _ in counted)) > 0:
        rate = f"{sum(tokens or 0 for _, tokens in counted) / spent:,.0f}"
    return (
        name,
        str(len(phase)),
        f"{seconds.sum():.3g}",
        f"{seconds.sum() / total:.0%}",
        f"{seconds[0]:.3g}",
        f"{np.median(seconds[1:]):.3g}" if len(seconds) > 1 else "–",
        rate,
    )


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} seconds"
    minutes = seconds / 60
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"
