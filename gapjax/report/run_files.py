"""A run as its files tell it, finished or not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pandas as pd

from gapjax import json_files, yaml_files
from gapjax.errors import UserError
from gapjax.foreign import shown
from gapjax.ours import refuse_links
from gapjax.paths import Path, absolute
from gapjax.run_schema import check_events, check_samples
from gapjax.tables import read_table
from gapjax.trajectories import EPOCH, SOLVER, VERIFIER

_LABELS = ("recipe", "seed")
_TEXTS = ("recipe", "version")
# What a run measures whatever its task, and where answers are known.
_ALWAYS = ("answer_entropy", "solver_tokens", "solver_cut_off")
_GRADED = ("solver_accuracy", "verifier_accuracy")


@dataclass(frozen=True, eq=False)
class RunFiles:
    """What a run has written so far; made by `read_run`.

    - `trajectory`: a row a checkpoint; columns of numbers are numbers.
    - `events`: the whole lines of `metrics.jsonl`.
    - `recipe`, `versions`: as they were written; empty if the file is gone.
    """

    folder: Path
    trajectory: pd.DataFrame
    events: tuple[dict[str, Any], ...]
    recipe_text: str
    recipe: dict[str, Any]
    versions: dict[str, Any]

    @property
    def labels(self) -> list[str]:
        """The label columns of the trajectory that tell runs apart."""
        return [name for name in _LABELS if name in self.trajectory]

    @property
    def name(self) -> str:
        """The recipe's name."""
        if "recipe" in self.trajectory:
            return str(self.trajectory["recipe"].iloc[0])
        return absolute(self.folder).name

    @property
    def passes(self) -> list[int]:
        """The k for which pass@k was measured, ascending; none without known answers."""
        return measured_passes(self.trajectory)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The events of one kind."""
        return [row for row in self.events if row["event"] == kind]

    def problems(self, name: str) -> list[dict[str, Any]]:
        """The rows of `samples/NAME.jsonl`; none if there is no such file.

        **Raises:** `UserError` naming a line that is not what a run writes.
        """
        path = self.folder / "samples" / f"{name}.jsonl"
        if not path.exists():
            return []
        rows = json_files.read_whole_lines(path)
        check_samples(rows, where=path)
        return rows

    def probe(self, checkpoint: int) -> list[dict[str, Any]]:
        """The probe samples of a row of the trajectory; negative numbers count from its end."""
        return self.problems(f"probe-{checkpoint % len(self.trajectory):03d}")


def measured_passes(trajectory: pd.DataFrame) -> list[int]:
    """The k of the columns `pass_at_k`, ascending."""
    names = (re.fullmatch(r"pass_at_([1-9][0-9]{0,8})", str(name)) for name in trajectory)
    return sorted(int(found[1]) for found in names if found)


def read_run(folder: Path) -> RunFiles:
    """Read the files of a run.

    **Raises:** `UserError` if the folder holds no run, a link, or none that has measured anything.
    """
    if not (folder / "metrics.jsonl").is_file() and not (folder / "recipe.yaml").is_file():
        raise UserError("holds no run", where=folder, hint="give a folder that gapjax train wrote")
    refuse_links(folder)
    if not (folder / "trajectory.csv").is_file():
        raise UserError("this run has not measured anything yet", where=folder)
    table = read_table(folder / "trajectory.csv").frame
    trajectory = _as_numbers(table, where=folder / "trajectory.csv")
    if trajectory.empty:
        raise UserError("this run has not measured anything yet", where=folder)
    recipe_file, versions = folder / "recipe.yaml", folder / "versions.json"
    recipe_text = _text_of(recipe_file)
    metrics = folder / "metrics.jsonl"
    events = json_files.read_whole_lines(metrics) if metrics.exists() else []
    check_events(events, where=metrics)
    return RunFiles(
        folder=folder,
        trajectory=trajectory,
        events=tuple(events),
        recipe_text=recipe_text,
        recipe=yaml_files.read_table(recipe_file) if recipe_text else {},
        versions=json_files.read_json_object(versions) if versions.is_file() else {},
    )


def _as_numbers(table: pd.DataFrame, *, where: Path) -> pd.DataFrame:
    """Numbers in all columns but labels; NaN where nothing was written."""
    repeated = table.columns[table.columns.duplicated()]
    if len(repeated):
        raise UserError("appears more than once", where=f"{where}, column {shown(repeated[0])}")
    columns = {}
    for name, cells in table.items():
        columns[name] = cells if name in _TEXTS else pd.to_numeric(cells, errors="coerce")
        if name not in _TEXTS and (columns[name].isna() & (cells.str.strip() != "")).any():
            raise UserError("does not hold numbers", where=f"{where}, column {shown(name)}")
    numbers = pd.DataFrame(columns)
    graded = _GRADED if measured_passes(numbers) else ()
    for name in (EPOCH, SOLVER, VERIFIER, *_ALWAYS, *graded):
        # Of answers that could all not be graded nothing is known.
        if name not in numbers or (name not in graded and numbers[name].isna().any()):
            raise UserError("lacks numbers", where=f"{where}, column {name}")
    return numbers


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("cannot be read", where=path) from error
