"""The files of a run, in the formats users and tests lean on.

    recipe.yaml  versions.json  trajectory.csv  metrics.jsonl
    samples/round-000.jsonl  samples/probe-000.jsonl  checkpoints/  export/

`metrics.jsonl` grows by a line an event; every other file is written under a temporary
name and renamed, so that a killed run leaves no half of anything. The line of a
measurement or a selection is written after the samples it speaks of: it says that the phase
is finished.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from gapjax import __version__, trajectories
from gapjax.errors import UserError
from gapjax.models import LoadedModel, save
from gapjax.selfimprove.checkpoint import Checkpoints, Saved
from gapjax.selfimprove.problems import make_splits
from gapjax.selfimprove.recipe import Recipe, read_recipe, recipe_differences, recipe_to_yaml
from gapjax.selfimprove.rounds import (
    Event,
    Finished,
    Judged,
    Measured,
    Selected,
    Snapshot,
    Start,
    Trained,
    selected_answers,
)
from gapjax.selfimprove.sft import Dataset, TrainState

_VERSIONS_OF = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "transformers",
    "tokenizers",
    "numpy",
)


class RunFolder:
    """Writes the events of one run, and finds out how far a run has come.

    Made by `create` or `open`.
    """

    def __init__(self, folder: Path, recipe: Recipe, *, name: str) -> None:
        self._folder, self._recipe = folder, recipe
        self._labels = {"recipe": name, "version": f"gapjax {__version__}", "seed": recipe.seed}
        self._measured: list[dict[str, Any]] = []
        self._checkpoints = Checkpoints(folder / "checkpoints", keep=recipe.train.keep_checkpoints)

    @classmethod
    def create(cls, folder: Path, recipe: Recipe, *, name: str) -> RunFolder:
        """Make the folder of a new run, in one step; an older one is replaced.

        **Arguments:**

        - `recipe`, `name`: what is run; the name is a label in `trajectory.csv`.
        """
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.absolute().parent))
        try:
            new.chmod(0o755)
            (new / "samples").mkdir()
            versions = _versions() | {"name": name}
            _write_text(new / "versions.json", json.dumps(versions, indent=2) + "\n")
            _write_text(new / "recipe.yaml", recipe_to_yaml(recipe))
            if folder.exists():
                shutil.rmtree(folder)
            new.rename(folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
        return cls(folder, recipe, name=name)

    @classmethod
    def open(cls, folder: Path, recipe: Recipe, *, warn: Callable[[str], None]) -> RunFolder:
        """The folder of a run that was cut short.

        **Raises:** `UserError` if it is none, or the recipe or its problems have changed.
        """
        if not (folder / "recipe.yaml").is_file():
            raise UserError("holds no run to resume", where=folder)
        if changes := recipe_differences(read_recipe(folder / "recipe.yaml"), recipe):
            raise UserError(
                f"the recipe has changed since the run began: {', '.join(changes)}",
                where=folder,
                hint="use the old recipe, or --overwrite to begin anew",
            )
        versions = json.loads((folder / "versions.json").read_text(encoding="utf-8"))
        name = versions.pop("name")
        for package, version in _versions().items():
            if versions.get(package) != version:
                warn(f"{package} was {versions.get(package)} and is {version}: results may differ")
        run = cls(folder, recipe, name=name)
        first = folder / "samples" / "probe-000.jsonl"
        if first.exists():
            then = [(row["prompt"], row["answer"]) for row in _read_jsonl(first)]
            if then != [(p.prompt, p.answer) for p in make_splits(recipe).probe]:
                raise UserError("the probe problems have changed since the run began", where=folder)
        return run

    @property
    def trajectory(self) -> pd.DataFrame:
        """The trajectory table so far."""
        return pd.DataFrame(self._measured)

    def start(
        self, loaded: LoadedModel, initial: TrainState, *, warn: Callable[[str], None]
    ) -> Start:
        """How far the run has come; whatever is written of a later phase is taken back.

        **Arguments:**

        - `loaded`: the model the run began with; `initial`: the state of its training.
        - `warn`: is told about damaged checkpoints.
        """
        saved = self._checkpoints.newest(initial, warn)
        rows = self._rows()
        step = 0 if saved is None else int(saved.state.step)
        kept = 0
        for i, row in enumerate(rows):
            if row["event"] == "train" and row["step"] <= step:
                kept = i + 1
        if saved is not None and (kept == 0 or rows[kept - 1]["step"] != step):
            raise UserError("metrics.jsonl lacks steps that were made", where=self._folder)
        start = Start() if saved is None else Start(saved.round, saved.steps, saved.state)
        if saved is not None:
            learns = self._selection(loaded, saved.round)
            if learns is None:
                raise UserError(f"the samples of round {saved.round} are gone", where=self._folder)
            start = dataclasses.replace(start, learns=learns)
        # What follows the last training, in this order: a measurement, a selection.
        n_measured = sum(row["event"] == "measure" for row in rows[:kept])
        for i in range(kept, len(rows)):
            row = rows[i]
            if row["event"] == "measure" and not start.measured:
                if not self._samples(f"probe-{n_measured:03d}").exists():
                    break
                start, kept = dataclasses.replace(start, measured=True), i + 1
            elif row["event"] == "select" and start.measured:
                learns = self._selection(loaded, row["round"])
                if learns is not None:
                    start = Start(row["round"], 0, start.state, True, learns)
                    kept = i + 1
                break
            elif row["event"] == "train":
                break
        self._take_back(rows[:kept])
        history = tuple(
            (row["epoch"], {k: v for k, v in row.items() if k not in ("event", "epoch", "seconds")})
            for row in rows[:kept]
            if row["event"] == "measure"
        )
        return dataclasses.replace(start, history=history)

    def write(self, event: Event) -> None:
        """Record one event."""
        match event:
            case Measured():
                self._write_measured(event)
            case Selected():
                self._write_samples(f"round-{event.round:03d}", event.candidates.records())
                self._append_metrics(
                    "select",
                    round=event.round,
                    learned=event.learned,
                    seconds=event.seconds,
                    **event.metrics,
                )
            case Trained():
                self._append_metrics(
                    "train",
                    epoch=event.epoch,
                    step=event.step,
                    loss=event.loss,
                    gradient_norm=event.gradient_norm,
                    seconds=event.seconds,
                )
            case Snapshot():
                self._checkpoints.save(Saved(event.state, event.round, event.steps))
            case Judged():
                self._write_judged(event)
            case Finished():
                self._append_metrics("finish", epoch=event.epoch, reason=event.reason)
                self._export(event.model)

    def _export(self, loaded: LoadedModel) -> None:
        """Write the model as a Hugging Face folder."""
        partial = self._folder / ".export.partial"
        for folder in (partial, self._folder / "export"):
            shutil.rmtree(folder, ignore_errors=True)
        save(loaded.model, loaded.tokenizer, partial)
        partial.rename(self._folder / "export")

    def _write_measured(self, event: Measured) -> None:
        self._write_samples(f"probe-{len(self._measured):03d}", event.candidates.records())
        self._append_metrics("measure", epoch=event.epoch, seconds=event.seconds, **event.metrics)
        self._measured.append({**self._labels, "epoch": event.epoch, **event.metrics})
        trajectories.write(self.trajectory, self._folder / "trajectory.csv")

    def _write_judged(self, event: Judged) -> None:
        row: dict[str, Any] = {"cautions": event.cautions, "stop": event.stop}
        if event.outlook is not None:
            outlook = event.outlook
            row |= {
                "limit": outlook.limit,
                "identified": outlook.identified,
                "reason": outlook.reason,
                "converged": outlook.converged,
                "expected_gain": outlook.expected_gain,
            }
        self._append_metrics("judge", epoch=event.epoch, **row)

    def _samples(self, name: str) -> Path:
        return self._folder / "samples" / f"{name}.jsonl"

    def _write_samples(self, name: str, records: Iterable[Mapping[str, Any]]) -> None:
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        _write_text(self._samples(name), "".join(lines))

    def _selection(self, loaded: LoadedModel, round: int) -> Dataset | None:
        path = self._samples(f"round-{round:03d}")
        return selected_answers(loaded, self._recipe, _read_jsonl(path)) if path.exists() else None

    def _append_metrics(self, kind: str, **values: Any) -> None:
        with (self._folder / "metrics.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"event": kind, **values}) + "\n")

    def _rows(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`, but for one that was being written."""
        path = self._folder / "metrics.jsonl"
        if not path.exists():
            return []
        *whole, _ = path.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in whole]

    def _take_back(self, rows: list[dict[str, Any]]) -> None:
        """Make `metrics.jsonl` and the trajectory what they were after these rows."""
        lines = (json.dumps(row) + "\n" for row in rows)
        _write_text(self._folder / "metrics.jsonl", "".join(lines))
        self._measured = [
            {**self._labels, **{k: v for k, v in row.items() if k not in ("event", "seconds")}}
            for row in rows
            if row["event"] == "measure"
        ]
        if self._measured:
            trajectories.write(self.trajectory, self._folder / "trajectory.csv")


def _versions() -> dict[str, str]:
    packages = {package: importlib.metadata.version(package) for package in _VERSIONS_OF}
    return {"python": platform.python_version(), "gapjax": __version__, **packages}


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def _write_text(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())  # a rename must not overtake the text
    partial.replace(path)
