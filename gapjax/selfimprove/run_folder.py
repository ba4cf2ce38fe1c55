"""The files of a run, in the formats users and tests lean on.

    recipe.yaml  versions.json  trajectory.csv  metrics.jsonl
    samples/round-000.jsonl  samples/probe-000.jsonl  export/

`metrics.jsonl` grows by a line an event; every other file is written under a temporary
name and renamed, so that a killed run leaves no half of anything.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from gapjax import __version__, trajectories
from gapjax.models import LoadedModel, save
from gapjax.selfimprove.recipe import Recipe, recipe_to_yaml
from gapjax.selfimprove.rounds import Event, Measured, Selected, Trained

_VERSIONS_OF = ("jax", "jaxlib", "flax", "optax", "transformers", "numpy")


class RunFolder:
    """Writes the events of one run.

    **Arguments:**

    - `folder`: an existing, empty folder.
    - `recipe`, `name`: what is run; the name is a label in `trajectory.csv`.
    """

    def __init__(self, folder: Path, recipe: Recipe, *, name: str) -> None:
        self._folder = folder
        self._labels = {"recipe": name, "version": f"gapjax {__version__}", "seed": recipe.seed}
        self._checkpoints: list[dict[str, Any]] = []
        (folder / "samples").mkdir()
        _write_text(folder / "recipe.yaml", recipe_to_yaml(recipe))
        versions = {"python": platform.python_version(), "gapjax": __version__}
        versions |= {package: importlib.metadata.version(package) for package in _VERSIONS_OF}
        _write_text(folder / "versions.json", json.dumps(versions, indent=2) + "\n")

    @property
    def trajectory(self) -> pd.DataFrame:
        """The trajectory table so far."""
        return pd.DataFrame(self._checkpoints)

    def write(self, event: Event) -> None:
        """Record one event."""
        match event:
            case Measured():
                self._write_measured(event)
            case Selected():
                self._append_metrics(
                    "select",
                    round=event.round,
                    learned=event.learned,
                    seconds=event.seconds,
                    **event.metrics,
                )
                self._write_samples(f"round-{event.round:03d}", event.candidates.records())
            case Trained():
                self._append_metrics(
                    "train",
                    epoch=event.epoch,
                    step=event.step,
                    loss=event.loss,
                    gradient_norm=event.gradient_norm,
                    seconds=event.seconds,
                )

    def export(self, loaded: LoadedModel) -> None:
        """Write the model as a Hugging Face folder."""
        save(loaded.model, loaded.tokenizer, self._folder / "export")

    def _write_measured(self, event: Measured) -> None:
        number = len(self._checkpoints)
        self._write_samples(f"probe-{number:03d}", event.candidates.records())
        self._append_metrics("measure", epoch=event.epoch, seconds=event.seconds, **event.metrics)
        self._checkpoints.append({**self._labels, "epoch": event.epoch, **event.metrics})
        trajectories.write(self.trajectory, self._folder / "trajectory.csv")

    def _write_samples(self, name: str, records: Iterable[Mapping[str, Any]]) -> None:
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        _write_text(self._folder / "samples" / f"{name}.jsonl", "".join(lines))

    def _append_metrics(self, kind: str, **values: float) -> None:
        with (self._folder / "metrics.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"event": kind, **values}) + "\n")


def _write_text(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
