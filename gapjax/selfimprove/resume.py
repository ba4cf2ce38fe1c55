"""How far a run has come, by its files, and whether it may go on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gapjax.errors import UserError
from gapjax.json_files import read_json_object
from gapjax.ours import refuse_links
from gapjax.paths import Path, read_jsonl
from gapjax.selfimprove.problems import make_splits
from gapjax.selfimprove.provenance import digests, versions
from gapjax.selfimprove.recipe import Recipe, read_recipe, recipe_differences
from gapjax.selfimprove.start import Start
from gapjax.tasks import Problem

# Fields of a row of `metrics.jsonl` that are not metrics of a measurement.
_ABOUT = ("event", "epoch", "seconds", "tokens", "speed")


def check_unchanged(folder: Path, recipe: Recipe, warn: Callable[[str], None]) -> str:
    """Make sure that a folder holds a run of this recipe.

    **Arguments:**

    - `warn`: is told about packages of another version.

    **Returns:** the name of the run.

    **Raises:** `UserError` if it holds none, or a link, or the recipe, its files or its problems
    have changed.
    """
    refuse_links(folder)
    if not (folder / "recipe.yaml").is_file():
        raise UserError("holds no run to resume", where=folder)
    if changes := recipe_differences(read_recipe(folder / "recipe.yaml"), recipe):
        raise UserError(
            f"the recipe has changed since the run began: {', '.join(changes)}",
            where=folder,
            hint="use the old recipe, or --overwrite to begin anew",
        )
    then = read_json_object(folder / "versions.json")
    for package, version in versions().items():
        if then.get(package) != version:
            warn(f"{package} was {then.get(package)} and is {version}: results may differ")
    for path, digest in digests(recipe).items():
        if then.get("files", {}).get(path, digest) != digest:
            raise UserError("has changed since the run began", where=path)
    splits = make_splits(recipe)
    for what, name, problems in (
        ("probe", "probe-000", splits.probe),
        ("training", "round-000", splits.train),
    ):
        if not _are_of(problems, folder / "samples" / f"{name}.jsonl", recipe):
            raise UserError(f"the {what} problems have changed since the run began", where=folder)
    return then["name"]


def progress(
    rows: Sequence[Mapping[str, Any]],
    saved: Start | None,
    step: int,
    has_samples: Callable[[str], bool],
) -> tuple[Start, int] | None:
    """Where to go on, but for the state.

    **Arguments:**

    - `rows`: of `metrics.jsonl`.
    - `saved`: the round and its steps of the newest checkpoint; `step`: of the whole run.
    - `has_samples`: whether `samples/NAME.jsonl` is there.

    **Returns:** beside it the number of rows of phases that are finished; None if files lack
    what came before the checkpoint.
    """
    kept = 0
    for i, row in enumerate(rows):
        if row["event"] == "train" and row["step"] <= step:
            kept = i + 1
    start = Start()
    if saved is not None:
        made = kept > 0 and rows[kept - 1]["step"] == step
        if not made or not has_samples(f"round-{saved.round:03d}"):
            return None
        start = dataclasses.replace(saved, selected=True)
    # What follows the last training, in this order: a measurement, a selection.
    n_measured = sum(row["event"] == "measure" for row in rows[:kept])
    for i in range(kept, len(rows)):
        row = rows[i]
        if row["event"] == "measure" and not start.measured:
            if not has_samples(f"probe-{n_measured:03d}"):
                break
            start, kept = dataclasses.replace(start, measured=True), i + 1
        elif row["event"] == "select" and start.measured:
            if has_samples(f"round-{row['round']:03d}"):
                start = Start(row["round"], measured=True, selected=True)
                kept = i + 1
            break
        elif row["event"] == "train":
            break
    return dataclasses.replace(start, history=measured(rows[:kept])), kept


def measured(rows: Sequence[Mapping[str, Any]]) -> tuple[tuple[float, dict[str, float]], ...]:
    """Epoch and metrics of the measurements among rows of `metrics.jsonl`."""
    return tuple(
        (row["epoch"], {k: v for k, v in row.items() if k not in _ABOUT and v is not None})
        for row in rows
        if row["event"] == "measure"
    )


def _are_of(problems: Sequence[Problem], path: Path, recipe: Recipe) -> bool:
    """Whether the rows of a file, if it is there, are of these problems."""
    if not path.exists():
        return True
    rows = list(read_jsonl(path))

    def is_of(problem: Problem, row: Mapping[str, Any]) -> bool:
        cut = row.get("shortened_by")
        if isinstance(cut, int):
            problem = problem.shortened(cut, recipe.task.template or "{prompt}")
        return (row["prompt"], row["answer"]) == (problem.prompt, problem.answer)

    if recipe.task.overlong == "skip":  # the rest, in their order
        remaining = iter(problems)
        return all(any(is_of(problem, row) for problem in remaining) for row in rows)
    return len(rows) == len(problems) and all(map(is_of, problems, rows))
