"""A run as its files tell it, finished or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from gapjax import json_files, yaml_files
from gapjax.errors import UserError
from gapjax.ours import refuse_links
from gapjax.paths import Path, absolute
from gapjax.tables import read_table
from gapjax.trajectories import EPOCH, SOLVER, VERIFIER

_LABELS = ("recipe", "seed")


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
        rows = _read_jsonl(path)
        for number, row in enumerate(rows, start=1):
            candidates = row.get("candidates")
            whole = isinstance(candidates, list) and all(
                isinstance(each, dict) and {"text", "logprob", "length"} <= set(each)
                for each in candidates
            )
            if not (whole and candidates and "prompt" in row and "chosen" in row):
                raise UserError("is not a row of samples", where=f"{path}, row {number}")
        return rows

    def probe(self, checkpoint: int) -> list[dict[str, Any]]:
        """The probe samples of a row of the trajectory; negative numbers count from its end."""
        return self.problems(f"probe-{checkpoint % len(self.trajectory):03d}")


def measured_passes(trajectory: pd.DataFrame) -> list[int]:
    """The k of the columns `pass_at_k`, ascending."""
    prefix = "pass_at_"
    columns = [str(name) for name in trajectory if str(name).startswith(prefix)]
    return sorted(int(name.removeprefix(prefix)) for name in columns)


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
    trajectory = table.apply(_numbers_where_possible)
    for column in (EPOCH, SOLVER, VERIFIER):
        if column not in trajectory or not pd.api.types.is_numeric_dtype(trajectory[column]):
            where = f"{folder / 'trajectory.csv'}, column {column}"
            raise UserError("does not hold numbers", where=where)
    if trajectory.empty:
        raise UserError("this run has not measured anything yet", where=folder)
    recipe_file, versions = folder / "recipe.yaml", folder / "versions.json"
    recipe_text = _text_of(recipe_file)
    events = _read_jsonl(folder / "metrics.jsonl")
    return RunFiles(
        folder=folder,
        trajectory=trajectory,
        events=tuple(row for row in events if "event" in row),
        recipe_text=recipe_text,
        recipe=yaml_files.read_table(recipe_file) if recipe_text else {},
        versions=json_files.read_json_object(versions) if versions.is_file() else {},
    )


def _numbers_where_possible(column: pd.Series) -> pd.Series:
    given = column.astype(str).str.strip() != ""
    numbers = pd.to_numeric(column, errors="coerce")
    return numbers if given.any() and numbers[given].notna().all() else column


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("cannot be read", where=path) from error


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The lines of a file, but for one that was being written when the run was killed."""
    *whole, _ = _text_of(path).split("\n")
    rows = []
    for number, line in enumerate(whole, start=1):
        try:
            row = json_files.parse(line)
        except json_files.BadJSON as error:
            raise UserError(str(error), where=f"{path}, row {number}") from error
        if not isinstance(row, dict):
            raise UserError("is not a JSON object", where=f"{path}, row {number}")
        rows.append(row)
    return rows
