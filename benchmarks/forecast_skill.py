"""How well are the rest of a run's checkpoints foretold?  Rolling origins, many contestants.

    python -m benchmarks.forecast_skill [DATA]     # about 20 minutes; writes two tables

The stochastic dynamics, as `gapjax forecast` uses them by default, against persistence, a
local line, a power law and one and two exponentials fitted to each series by least squares.
Sources: the published curves and the noisy re-run in DATA (`phi4_curves/`,
`qwen_arithmetic/`; left out where absent), and curves simulated from every law in plain
NumPy.  Nothing is tuned to a source.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from benchmarks.baselines import BASELINES, baseline_forecast
from benchmarks.curves import simulated_kinds
from benchmarks.timing import MACHINE
from gapjax import trajectories
from gapjax.errors import UserError
from gapjax.posterior.compare import PERSISTENCE, Case, cases_of, forecasts
from gapjax.trajectories import Curve

_OURS = "gapjax stochastic"
_RESULTS = Path(__file__).parent / "results"
_COLUMNS = ["rmse", "crps", "log_score", "coverage_50", "coverage_80", "coverage_90"]


def sources(data: Path) -> dict[str, list[Curve]]:
    """Curves by source."""
    found: dict[str, list[Curve]] = {}
    rerun = [data / f"qwen_arithmetic/seed_2026071{i}.csv" for i in (8, 9)]
    tables: dict[str, Callable[[], trajectories.Trajectories]] = {
        "published curves": lambda: trajectories.read(data / "phi4_curves/phi4_mini_qe.csv"),
        "noisy re-run": lambda: trajectories.read(rerun, group_by=["seed"]),
        "noisy re-run, per token": lambda: trajectories.read(
            rerun,
            group_by=["seed"],
            solver_column="solver_normalized_uncertainty",
            verifier_column="verifier_normalized_uncertainty",
        ),
    }
    for name, read in tables.items():
        try:
            found[name] = list(read())
        except UserError as error:
            print(f"left out: {error}", file=sys.stderr)
    for kind, frame in simulated_kinds().items():
        found[f"simulated: {kind}"] = list(trajectories.read(frame))
    return found


def score(cases: list[Case]) -> tuple[pd.DataFrame, float]:
    """Scores of all contestants, and our seconds a curve after compilation."""
    rows = []
    forecasts(cases[:1], "stochastic")  # compiles
    begin = time.perf_counter()
    ours = forecasts(cases, "stochastic")
    seconds = (time.perf_counter() - begin) / len(cases)
    for case, draws in zip(cases, ours, strict=True):
        rows += [{"forecast": _OURS, **row} for row in case.score(draws)]
        baselines = {name: baseline_forecast(case, name) for name in BASELINES}
        baselines[PERSISTENCE] = forecasts([case], PERSISTENCE)[0]
        for name, draws in baselines.items():
            rows += [{"forecast": name, **row} for row in case.score(draws)]
    return pd.DataFrame(rows), seconds


def table(scores: pd.DataFrame) -> pd.DataFrame:
    """Medians of errors and scores, means of coverages, one row a contestant."""
    grouped = scores.groupby("forecast", sort=False)
    middle = grouped[_COLUMNS[:3]].median()
    return middle.join(grouped[_COLUMNS[3:]].mean())


def main(data: Path) -> None:
    """Score every source and write `results/forecast_skill.md` and `.csv`."""
    text = [
        "# Forecast skill",
        "",
        f"Machine: {MACHINE}.  Origins at 50, 60, 70, 75 and 80 % of the checkpoints; series: "
        "solver, verifier, gap.  `rmse` (of the median forecast) and `crps` are in units of the "
        "range seen before the origin, `log_score` is in nats; medians over all cases, lower is "
        "better.  Coverages are means.  The baselines' spread is that of their residuals (of "
        "their steps, for persistence).",
    ]
    frames = []
    for name, curves in sources(data).items():
        cases = cases_of(curves)
        scores, seconds = score(cases)
        frames.append(scores.assign(source=name))
        summary = table(scores)
        best = summary["rmse"].drop(_OURS).idxmin()
        print(
            f"{name}: {summary.loc[_OURS, 'rmse']:.4f} against {best} {summary['rmse'][best]:.4f}"
        )
        text += ["", f"## {name[0].upper()}{name[1:]}", ""]
        text += [
            f"{len(curves)} curves, {(scores['forecast'] == _OURS).sum()} cases; "
            f"{seconds:.1f} s a forecast after compilation.",
            "",
        ]
        text += ["| forecast | " + " | ".join(_COLUMNS) + " |", "|---|" + "---|" * len(_COLUMNS)]
        for label, row in summary.iterrows():
            cells = [
                f"{row[c]:.4f}" if c in ("rmse", "crps") else f"{row[c]:.2f}" for c in _COLUMNS
            ]
            text.append(f"| {label} | " + " | ".join(cells) + " |")
    _RESULTS.mkdir(exist_ok=True)
    (_RESULTS / "forecast_skill.md").write_text("\n".join(text) + "\n")
    shown = ["source", "forecast", "origin_fraction", "series", "n_test", *_COLUMNS]
    pd.concat(frames)[shown].round(5).to_csv(_RESULTS / "forecast_skill.csv", index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data"))
