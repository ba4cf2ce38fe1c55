"""The files of a run, in the formats users and tests lean on.

    recipe.yaml  versions.json  trajectory.csv  metrics.jsonl  summary.json
    samples/round-000.jsonl  samples/probe-000.jsonl  checkpoints/  export/

`metrics.jsonl` grows by a line an event; every other file is written under a temporary
name and renamed, so that a killed run leaves no half of anything. The line of a
measurement or a selection is written after the samples it speaks of: it says that the phase
is finished. Rows of samples are written part by part, and never held all at once; answers of a
phase that is not finished lie in `samples/.sampled-*.npz`.

The folder may be in a bucket, which has no locks: that no two runs write it is up to the user.

Of a run's processes the first writes all this and finds out how far the run has come; all take
part in checkpoints and the export, which no process holds whole.
"""

from __future__ import annotations

import dataclasses
import fcntl
import io
import json
import pathlib
import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from gapjax import __version__, trajectories
from gapjax.errors import UserError
from gapjax.generation import Samples
from gapjax.ours import refuse_others
from gapjax.parallel import from_first, is_first
from gapjax.paths import (
    Path,
    PathLike,
    is_remote,
    publish,
    read_jsonl,
    remove_tree,
    scratch,
    whole,
    write_text,
)
from gapjax.selfimprove.checkpoint import Checkpoints, Saved
from gapjax.selfimprove.events import (
    Event,
    FinalTest,
    Finished,
    Judged,
    Measured,
    Overlong,
    Sampled,
    Selected,
    Snapshot,
    Trained,
    Verified,
)
from gapjax.selfimprove.export import write_export
from gapjax.selfimprove.journal import Journal, finite
from gapjax.selfimprove.learning import Record
from gapjax.selfimprove.provenance import digests, git_state, versions
from gapjax.selfimprove.recipe import Recipe, recipe_to_yaml
from gapjax.selfimprove.resume import check_unchanged, measured, progress
from gapjax.selfimprove.sft import TrainState
from gapjax.selfimprove.speed import Speed
from gapjax.selfimprove.start import Start


class RunFolder:
    """Writes the events of one run, and finds out how far a run has come.

    Made by `create` or `open`.
    """

    EXTERNAL = "external.jsonl"  # a stronger model's replies

    def __init__(self, folder: PathLike, recipe: Recipe, *, name: str) -> None:
        self._folder = folder = Path(folder)
        self._recipe = recipe
        self._labels = {"recipe": name, "version": f"gapjax {__version__}", "seed": recipe.seed}
        # Of a row of `metrics.jsonl`, if anybody wants to know it.
        self.speed: Speed | None = None
        self._measured: list[dict[str, Any]] = []
        self._checkpoints = Checkpoints(folder / "checkpoints", keep=recipe.train.keep_checkpoints)
        self._journal = Journal(folder / "metrics.jsonl")
        self._open: dict[str, pathlib.Path] = {}  # rows of phases that are going on

    @classmethod
    def create(cls, folder: PathLike, recipe: Recipe, *, name: str) -> RunFolder:
        """Make the folder of a new run, in one step; an older run is replaced.

        **Arguments:**

        - `recipe`, `name`: what is run; the name is a label in `trajectory.csv`.
        """
        from_first(lambda: cls._create(Path(folder), recipe, name))
        run = cls(folder, recipe, name=name)
        from_first(run._lock)
        return run

    @staticmethod
    def _create(folder: Path, recipe: Recipe, name: str) -> None:
        about = {**versions(), "name": name, "git": git_state(), "files": digests(recipe)}

        def write(new: Path) -> None:
            write_text(new / "versions.json", json.dumps(about, indent=2) + "\n")
            write_text(new / "recipe.yaml", recipe_to_yaml(recipe))

        if folder.exists():
            refuse_others(folder)
        if is_remote(folder):
            remove_tree(folder)
            write(folder)
            return
        parent = pathlib.Path(folder).absolute().parent
        parent.mkdir(parents=True, exist_ok=True)
        new = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=parent))
        try:
            new.chmod(0o755)
            (new / "samples").mkdir()
            write(Path(new))
            if folder.exists():
                shutil.rmtree(folder)
            new.rename(folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)

    @classmethod
    def open(cls, folder: PathLike, recipe: Recipe, *, warn: Callable[[str], None]) -> RunFolder:
        """The folder of a run that was cut short.

        **Raises:** `UserError` if it is none, another process is at it, or the recipe, its
        files or its problems have changed.
        """
        run = cls(
            folder, recipe, name=from_first(lambda: check_unchanged(Path(folder), recipe, warn))
        )
        from_first(run._lock)
        return run

    def _lock(self) -> None:
        """Keep other processes out for as long as this one lives, however it ends."""
        if is_remote(self._folder):
            return
        self._locked = (self._folder / ".lock").open("a")
        try:
            fcntl.lockf(self._locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError("another process is writing this run", where=self._folder) from error
        except OSError:
            pass  # some file systems have no locks

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
        """`start` without the state, by the first process."""
        rows = self._journal.rows()
        found = progress(rows, saved, step, lambda name: self._samples(name).exists())
        if found is None:
            raise UserError(
                "metrics.jsonl or the samples lack steps that were made", where=self._folder
            )
        start, kept = found
        self._take_back(rows[:kept])
        return start

    def write(self, event: Event) -> None:
        """Record one event."""
        match event:
            case Snapshot():
                self._journal.flush()  # a checkpoint without the lines of its steps is of no use
                self._checkpoints.save(Saved(event.state, event.round, event.steps))
            case Finished():
                self.wait()
                write_export(self._folder, event.model, event.adapted, base=self._recipe.model)
        if not is_first():
            return
        match event:
            case Overlong():
                self._write_overlong(event)
            case Sampled():
                self._write_sampled(event)
            case Verified():
                self._write_rows(event)
            case Measured():
                self._write_measured(event)
            case Selected():
                self._write_selected(event)
            case Trained():
                self._append_metrics("train", **dataclasses.asdict(event))
            case Judged():
                self._write_judged(event)
            case FinalTest():
                for when in event.metrics:
                    self._close_rows(f"test-{when}", f"test-{when}")
                self._append_metrics("test", epoch=event.epoch, **event.metrics)
                self._forget_sampled()
            case Finished():
                self._append_metrics("finish", epoch=event.epoch, reason=event.reason)
                self._write_summary(event)

    def wait(self) -> None:
        """Return when the last checkpoint is written.

        **Raises:** `OSError` if it could not be.
        """
        self._checkpoints.wait()

    def _write_overlong(self, event: Overlong) -> None:
        # A run that goes on finds the same problems again.
        if not any(row["event"] == "overlong" for row in self._journal.rows()):
            self._append_metrics("overlong", **dataclasses.asdict(event))

    def _write_sampled(self, event: Sampled) -> None:
        samples = event.samples
        arrays = {field.name: getattr(samples, field.name) for field in dataclasses.fields(samples)}
        with whole(self._sampled_path(event.what, event.step, event.first), "wb") as stream:
            np.savez(stream, **arrays)

    def _sampled_path(self, what: str, step: int, first: int) -> Path:
        return self._folder / "samples" / f".sampled-{what}-{step}-{first}.npz"

    def samples(self, what: str, step: int, first: int) -> Samples | None:
        """Answers of a part of a phase that was cut short; see `gapjax.selfimprove.Kept`."""
        path = self._sampled_path(what, step, first)
        if not path.exists():
            return None
        try:
            with np.load(io.BytesIO(path.read_bytes())) as arrays:
                return Samples(**arrays)
        except (EOFError, ValueError, zipfile.BadZipFile):
            return None  # what a power failure left of it

    def rows(self, what: str, number: int) -> Iterator[Record]:
        """What was written of a phase, one row at a time; see `gapjax.selfimprove.Kept`."""
        return read_jsonl(self._samples(f"{what}-{number:03d}"))

    def _forget_sampled(self) -> None:
        for path in (self._folder / "samples").glob(".sampled-*.npz"):
            path.unlink()

    def _write_measured(self, event: Measured) -> None:
        self._close_rows("probe", f"probe-{len(self._measured):03d}")
        about = dataclasses.asdict(event.effort)
        self._append_metrics("measure", epoch=event.epoch, **about, **event.metrics)
        self._forget_sampled()
        self._measured.append({**self._labels, "epoch": event.epoch, **event.metrics})
        trajectories.write(self.trajectory, self._folder / "trajectory.csv")

    def _write_selected(self, event: Selected) -> None:
        self._close_rows("round", f"round-{event.round:03d}")
        self._append_metrics(
            "select",
            round=event.round,
            learned=event.learned,
            external_share=event.external_share,
            cut_off=dataclasses.asdict(event.cut_off),
            **dataclasses.asdict(event.effort),
            **event.metrics,
        )
        self._forget_sampled()

    def _write_summary(self, event: Finished) -> None:
        """What came out, in one place, once the run is over."""
        rows = self._journal.rows()
        tested = next((row for row in rows if row["event"] == "test"), None)
        summary = {
            "gapjax": versions()["gapjax"],
            **{name: self._labels[name] for name in ("recipe", "seed")},
            "reason": event.reason,
            "epoch": event.epoch,
            "first": self._measured[0],
            "last": self._measured[-1],
            "cut_off": _total(row.get("cut_off", {}) for row in rows if row["event"] == "select"),
            "test": tested and {when: tested[when] for when in ("before", "after")},
        }
        write_text(self._folder / "summary.json", json.dumps(finite(summary), indent=2) + "\n")

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

    def _write_rows(self, event: Verified) -> None:
        """Go on with the rows of a phase; they get their name when it is finished."""
        if event.first == 0:
            self._open[event.what] = scratch(self._samples(event.what))
            self._open[event.what].write_bytes(b"")
        with self._open[event.what].open("a", encoding="utf-8") as stream:
            for record in event.records:
                stream.write(json.dumps(record, ensure_ascii=False) + "\n")

    def _close_rows(self, what: str, name: str) -> None:
        publish(self._open.pop(what), self._samples(name))

    def _append_metrics(self, kind: str, **values: Any) -> None:
        if self.speed is not None and (speed := self.speed(kind, values)):
            values["speed"] = speed
        self._journal.append({"event": kind, **values}, settled=kind != "train")

    def _take_back(self, rows: list[dict[str, Any]]) -> None:
        """Make `metrics.jsonl` and the trajectory what they were after these rows."""
        self._journal.rewrite(rows)
        self._measured = [
            {**self._labels, "epoch": epoch, **metrics} for epoch, metrics in measured(rows)
        ]
        if self._measured:
            trajectories.write(self.trajectory, self._folder / "trajectory.csv")


def _total(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Of counts by the same names, the sums."""
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(total)
