"""The files of a run, in the formats users and tests lean on.

    recipe.yaml  versions.json  trajectory.csv  metrics.jsonl  summary.json
    samples/round-000.jsonl  samples/probe-000.jsonl  checkpoints/  export/

`metrics.jsonl` grows by a line an event; every other file is written under a temporary
name and renamed, so that a killed run leaves no half of anything. The line of a
measurement or a selection is written after the samples it speaks of: it says that the phase
is finished. Answers that have no scores yet lie in `samples/.sampled-*.npz`.

Of a run's processes the first writes all this and finds out how far the run has come; all take
part in checkpoints and the export, which no process holds whole.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import math
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from gapjax import __version__, trajectories
from gapjax.errors import UserError
from gapjax.generation import Samples
from gapjax.models import LoadedModel, save
from gapjax.parallel import from_first, is_first
from gapjax.selfimprove.checkpoint import Checkpoints, Saved
from gapjax.selfimprove.events import (
    Event,
    FinalTest,
    Finished,
    Judged,
    Measured,
    Sampled,
    Selected,
    Snapshot,
    Trained,
)
from gapjax.selfimprove.learning import Record
from gapjax.selfimprove.problems import make_splits
from gapjax.selfimprove.provenance import digests, git_state, versions
from gapjax.selfimprove.recipe import Recipe, read_recipe, recipe_differences, recipe_to_yaml
from gapjax.selfimprove.rounds import Start
from gapjax.selfimprove.sft import TrainState
from gapjax.selfimprove.speed import Speed

# Fields of a row of `metrics.jsonl` that are not metrics of a measurement.
_ABOUT = ("event", "epoch", "seconds", "tokens", "speed")


class RunFolder:
    """Writes the events of one run, and finds out how far a run has come.

    Made by `create` or `open`.
    """

    EXTERNAL = "external.jsonl"  # a stronger model's replies

    def __init__(self, folder: Path, recipe: Recipe, *, name: str) -> None:
        self._folder, self._recipe = folder, recipe
        self._labels = {"recipe": name, "version": f"gapjax {__version__}", "seed": recipe.seed}
        # Of a row of `metrics.jsonl`, if anybody wants to know it.
        self.speed: Speed | None = None
        self._measured: list[dict[str, Any]] = []
        self._checkpoints = Checkpoints(folder / "checkpoints", keep=recipe.train.keep_checkpoints)

    @classmethod
    def create(cls, folder: Path, recipe: Recipe, *, name: str) -> RunFolder:
        """Make the folder of a new run, in one step; an older one is replaced.

        **Arguments:**

        - `recipe`, `name`: what is run; the name is a label in `trajectory.csv`.
        """
        from_first(lambda: cls._create(folder, recipe, name))
        run = cls(folder, recipe, name=name)
        from_first(run._lock)
        return run

    @staticmethod
    def _create(folder: Path, recipe: Recipe, name: str) -> None:
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.absolute().parent))
        try:
            new.chmod(0o755)
            (new / "samples").mkdir()
            about = {**versions(), "name": name, "git": git_state(), "files": digests(recipe)}
            _write_text(new / "versions.json", json.dumps(about, indent=2) + "\n")
            _write_text(new / "recipe.yaml", recipe_to_yaml(recipe))
            if folder.exists():
                shutil.rmtree(folder)
            new.rename(folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)

    @classmethod
    def open(cls, folder: Path, recipe: Recipe, *, warn: Callable[[str], None]) -> RunFolder:
        """The folder of a run that was cut short.

        **Raises:** `UserError` if it is none, another process is at it, or the recipe, its
        files or its problems have changed.
        """
        run = cls(folder, recipe, name=from_first(lambda: cls._check(folder, recipe, warn)))
        from_first(run._lock)
        return run

    def _lock(self) -> None:
        """Keep other processes out for as long as this one lives, however it ends."""
        self._locked = (self._folder / ".lock").open("w")
        try:
            fcntl.lockf(self._locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError("another process is writing this run", where=self._folder) from error
        except OSError:
            pass  # some file systems have no locks

    @staticmethod
    def _check(folder: Path, recipe: Recipe, warn: Callable[[str], None]) -> str:
        """The name of the run."""
        if not (folder / "recipe.yaml").is_file():
            raise UserError("holds no run to resume", where=folder)
        if changes := recipe_differences(read_recipe(folder / "recipe.yaml"), recipe):
            raise UserError(
                f"the recipe has changed since the run began: {', '.join(changes)}",
                where=folder,
                hint="use the old recipe, or --overwrite to begin anew",
            )
        then = json.loads((folder / "versions.json").read_text(encoding="utf-8"))
        for package, version in versions().items():
            if then.get(package) != version:
                warn(f"{package} was {then.get(package)} and is {version}: results may differ")
        for path, digest in digests(recipe).items():
            if then.get("files", {}).get(path, digest) != digest:
                raise UserError("has changed since the run began", where=path)
        first = folder / "samples" / "probe-000.jsonl"
        if first.exists():
            before = [(row["prompt"], row["answer"]) for row in _read_jsonl(first)]
            if before != [(p.prompt, p.answer) for p in make_splits(recipe).probe]:
                raise UserError("the probe problems have changed since the run began", where=folder)
        first = folder / "samples" / "round-000.jsonl"
        if first.exists():
            before = [(row["prompt"], row["answer"]) for row in _read_jsonl(first)]
            if before != [(p.prompt, p.answer) for p in make_splits(recipe).train]:
                raise UserError(
                    "the training problems have changed since the run began", where=folder
                )
        return then["name"]

    @property
    def trajectory(self) -> pd.DataFrame:
        """The trajectory table so far."""
        return pd.DataFrame(self._measured)

    def start(self, initial: TrainState, *, warn: Callable[[str], None]) -> Start:
        """How far the run has come; whatever is written of a later phase is taken back.

        **Arguments:**

        - `initial`: the state of the run's training before its first step.
        - `warn`: is told about damaged checkpoints.
        """
        saved = self._checkpoints.newest(initial, warn)
        if saved is None:
            return from_first(lambda: self._start(None, 0))
        at = Start(saved.round, saved.steps)
        step = int(saved.state.step)
        start = from_first(lambda: self._start(at, step))
        return dataclasses.replace(start, state=saved.state)

    def _start(self, saved: Start | None, step: int) -> Start:
        """`start` without the state, by the first process.

        **Arguments:**

        - `saved`: the round and its steps of the newest checkpoint; `step`: of the whole run.
        """
        rows = self._rows()
        kept = 0
        for i, row in enumerate(rows):
            if row["event"] == "train" and row["step"] <= step:
                kept = i + 1
        if saved is not None and (kept == 0 or rows[kept - 1]["step"] != step):
            raise UserError("metrics.jsonl lacks steps that were made", where=self._folder)
        start = Start() if saved is None else saved
        if saved is not None:
            records = self._selection(saved.round)
            if records is None:
                raise UserError(f"the samples of round {saved.round} are gone", where=self._folder)
            start = dataclasses.replace(start, records=records)
        # What follows the last training, in this order: a measurement, a selection.
        n_measured = sum(row["event"] == "measure" for row in rows[:kept])
        for i in range(kept, len(rows)):
            row = rows[i]
            if row["event"] == "measure" and not start.measured:
                if not self._samples(f"probe-{n_measured:03d}").exists():
                    break
                start, kept = dataclasses.replace(start, measured=True), i + 1
            elif row["event"] == "select" and start.measured:
                records = self._selection(row["round"])
                if records is not None:
                    start = Start(row["round"], measured=True, records=records)
                    kept = i + 1
                break
            elif row["event"] == "train":
                break
        self._take_back(rows[:kept])
        history = tuple(
            (row["epoch"], {k: v for k, v in row.items() if k not in _ABOUT and v is not None})
            for row in rows[:kept]
            if row["event"] == "measure"
        )
        samples = self._sampled("round" if start.measured else "probe", step)
        return dataclasses.replace(start, history=history, samples=samples)

    def write(self, event: Event) -> None:
        """Record one event."""
        match event:
            case Snapshot():
                self._checkpoints.save(Saved(event.state, event.round, event.steps))
            case Finished():
                self._export(event.model)
        if not is_first():
            return
        match event:
            case Sampled():
                self._write_sampled(event)
            case Measured():
                self._write_measured(event)
            case Selected():
                self._write_selected(event)
            case Trained():
                self._append_metrics("train", **dataclasses.asdict(event))
            case Judged():
                self._write_judged(event)
            case FinalTest():
                for when, candidates in event.candidates.items():
                    self._write_samples(f"test-{when}", candidates.records())
                self._append_metrics("test", epoch=event.epoch, **event.metrics)
            case Finished():
                self._append_metrics("finish", epoch=event.epoch, reason=event.reason)
                self._write_summary(event)

    def _export(self, loaded: LoadedModel) -> None:
        """Write the model as a Hugging Face folder."""
        partial = self._folder / ".export.partial"
        if is_first():
            for folder in (partial, self._folder / "export"):
                shutil.rmtree(folder, ignore_errors=True)
        save(loaded.model, loaded.tokenizer, partial)
        if is_first():
            partial.rename(self._folder / "export")

    def _write_sampled(self, event: Sampled) -> None:
        samples = event.samples
        partial = self._folder / "samples" / ".sampled.partial.npz"
        arrays = {field.name: getattr(samples, field.name) for field in dataclasses.fields(samples)}
        with partial.open("wb") as stream:
            np.savez(stream, **arrays)
            _to_disk(stream)
        partial.rename(self._sampled_path(event.what, event.step))

    def _sampled_path(self, what: str, step: int) -> Path:
        return self._folder / "samples" / f".sampled-{what}-{step}.npz"

    def _sampled(self, what: str, step: int) -> Samples | None:
        """Answers of the next phase, if they were sampled before the run was cut short."""
        path = self._sampled_path(what, step)
        try:
            with np.load(path) as arrays:
                return Samples(**arrays)
        except (FileNotFoundError, EOFError, ValueError, zipfile.BadZipFile):
            return None  # nothing, or what a power failure left of it

    def _forget_sampled(self) -> None:
        for path in (self._folder / "samples").glob(".sampled-*.npz"):
            path.unlink()

    def _write_measured(self, event: Measured) -> None:
        self._write_samples(f"probe-{len(self._measured):03d}", event.candidates.records())
        about = dataclasses.asdict(event.effort)
        self._append_metrics("measure", epoch=event.epoch, **about, **event.metrics)
        self._forget_sampled()
        self._measured.append({**self._labels, "epoch": event.epoch, **event.metrics})
        trajectories.write(self.trajectory, self._folder / "trajectory.csv")

    def _write_selected(self, event: Selected) -> None:
        self._write_samples(f"round-{event.round:03d}", event.records)
        self._append_metrics(
            "select",
            round=event.round,
            learned=event.learned,
            external_share=event.external_share,
            **dataclasses.asdict(event.effort),
            **event.metrics,
        )
        self._forget_sampled()

    def _write_summary(self, event: Finished) -> None:
        """What came out, in one place, once the run is over."""
        rows = self._rows()
        tested = next((row for row in rows if row["event"] == "test"), None)
        summary = {
            "gapjax": versions()["gapjax"],
            **{name: self._labels[name] for name in ("recipe", "seed")},
            "reason": event.reason,
            "epoch": event.epoch,
            "first": self._measured[0],
            "last": self._measured[-1],
            "test": tested and {when: tested[when] for when in ("before", "after")},
        }
        _write_text(self._folder / "summary.json", json.dumps(_finite(summary), indent=2) + "\n")

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

    def _selection(self, round: int) -> list[Record] | None:
        path = self._samples(f"round-{round:03d}")
        return _read_jsonl(path) if path.exists() else None

    def _append_metrics(self, kind: str, **values: Any) -> None:
        if self.speed is not None and (speed := self.speed(kind, values)):
            values["speed"] = speed
        with (self._folder / "metrics.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(_json({"event": kind, **values}) + "\n")

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
            self._labels
            | {"epoch": row["epoch"]}
            | {k: v for k, v in row.items() if k not in _ABOUT and v is not None}
            for row in rows
            if row["event"] == "measure"
        ]
        if self._measured:
            trajectories.write(self.trajectory, self._folder / "trajectory.csv")


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def _to_disk(stream: IO[Any]) -> None:
    """A rename must not overtake what was written."""
    stream.flush()
    os.fsync(stream.fileno())


def _json(row: Mapping[str, Any]) -> str:
    """A line of strict JSON: what is not finite is null."""
    return json.dumps(_finite(row), allow_nan=False)


def _finite(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {name: _finite(each) for name, each in value.items()}
        case list() | tuple():
            return [_finite(each) for each in value]
    return value


def _write_text(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as stream:
        stream.write(text)
        _to_disk(stream)
    partial.replace(path)
