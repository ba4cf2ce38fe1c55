"""Everything of gapjax that reads files: a small valid case of each, and how it is read."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import yaml
from hypothesis import strategies as st

import gapjax
from gapjax import models, trajectories
from gapjax.models.adapter import load_adapter, save_adapter
from gapjax.models.lora import attach
from gapjax.models.prompts import encode_prompt
from gapjax.report.run_files import read_run
from gapjax.report.write import build_page
from gapjax.selfimprove.checkpoint import Checkpoints, Saved
from gapjax.selfimprove.journal import Journal
from gapjax.selfimprove.recipe import read_recipe
from gapjax.selfimprove.resume import progress
from gapjax.tasks.jsonl import read_problems
from gapjax.verifiers.sources import AnswerFile
from tests.fuzz.mutations import damaged, foreign_json, foreign_lines
from tests.models.test_gguf import write_gguf
from tests.models.tiny import random_model
from tests.report.conftest import make_run

_ASSETS = Path(gapjax.__file__).parent
_FAMILY = "llama 3 rope"  # whose configuration has most in it


@dataclasses.dataclass(frozen=True)
class Reader:
    """A file that is read.

    - `make`: writes a valid case into an empty folder.
    - `file`: the one that is damaged.
    - `read`: reads the folder.
    - `slow`: so that fewer examples are tried.
    """

    make: Callable[[Path], None]
    file: str
    read: Callable[[Path], Any]
    slow: bool = False

    def foreign(self, valid: bytes) -> st.SearchStrategy[bytes]:
        """What may lie there in the place of a valid file."""
        match Path(self.file).suffix:
            case ".json":
                return foreign_json(json.loads(valid))
            case ".jsonl":
                return foreign_lines([json.loads(line) for line in valid.splitlines()])
            case ".yaml":  # of which JSON is a part
                return foreign_json(yaml.safe_load(valid)) | damaged(valid)
            case ".safetensors":
                return _foreign_safetensors(valid) | damaged(valid)
        return damaged(valid)


@st.composite
def _foreign_safetensors(draw: st.DrawFn, valid: bytes) -> bytes:
    size = int.from_bytes(valid[:8], "little")
    header = draw(foreign_json(json.loads(valid[8 : 8 + size])))
    return len(header).to_bytes(8, "little") + header + valid[8 + size :]


def _model(folder: Path) -> None:
    shutil.copytree(_ASSETS / "assets" / "adder", folder, dirs_exist_ok=True)
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    ends = {"eos_token_id": [1], "temperature": 0.6, "top_p": 0.9, "do_sample": True}
    (folder / "generation_config.json").write_text(json.dumps(ends))


def _read_model(folder: Path) -> None:
    loaded = models.load(folder)
    if loaded.tokenizer is not None:
        encode_prompt(loaded.tokenizer, "1+1=")
        _ = loaded.ends


def _family(folder: Path) -> None:
    models.save(random_model(_FAMILY), None, folder)


def _shards(folder: Path) -> None:
    models.save(random_model("llama, tied"), None, folder, shard_bytes=40_000)


@functools.cache
def _base() -> models.Transformer:
    return random_model("llama, tied")


def _adapter(folder: Path) -> None:
    key = jax.random.key(0)
    save_adapter(attach(_base(), rank=2, alpha=4.0, targets="attention", key=key), folder)


def _table() -> pd.DataFrame:
    epochs = np.arange(5.0)
    return pd.DataFrame(
        {
            "recipe": "a",
            "seed": 0,
            "epoch": epochs,
            "solver_uncertainty": 3 + np.exp(-epochs),
            "verifier_uncertainty": 2 + np.exp(-epochs),
            "solver_accuracy": 0.5,
        }
    )


def _write_table(name: str) -> Callable[[Path], None]:
    return lambda folder: trajectories.write(_table(), folder / name)


def _lines(name: str, rows: list[Any]) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text("".join(json.dumps(r) + "\n" for r in rows))


def _problems(format: str, grading: str | None) -> Callable[[Path], Any]:
    return lambda folder: read_problems(folder / "task.jsonl", format, grading=grading)


class _State(NamedTuple):
    weights: jax.Array
    step: jax.Array


def _saved(step: int) -> Saved:
    return Saved(_State(jnp.arange(50.0), jnp.array(step)), 0, step)


def _checkpoint(folder: Path) -> None:
    checkpoints = Checkpoints(folder, keep=2)
    checkpoints.save(_saved(3))
    checkpoints.wait()


def _run(folder: Path) -> None:
    folder.rmdir()
    make_run(folder, checkpoints=2)


def _read_page(folder: Path) -> None:
    build_page(read_run(folder), seed=0)


def _read_progress(folder: Path) -> None:
    progress(Journal(folder / "metrics.jsonl").rows(), None, 0, lambda name: True)


_GSM8K = [{"question": f"What is {i} + 1?", "answer": f"Add. #### {i + 1}"} for i in range(3)]
_MATH = [{"problem": f"${i}+1$", "solution": f"It is $\\boxed{{{i + 1}}}$."} for i in range(3)]
_MBPP = [{"prompt": "Add.", "test_list": ["assert f(1) == 2"], "test_imports": ["import math"]}]
_PLAIN = [{"prompt": f"{i} + 1", "answer": str(i + 1)} for i in range(3)]
_ANSWERS = [
    {"prompt": "1 + 1", "answer": "2"},
    {"prompt": "1 + 1", "response": "3", "score": 0.25, "model": "m"},
]

READERS: dict[str, Reader] = {
    "GGUF": Reader(
        lambda folder: write_gguf(folder / "m.gguf", "llama"),
        "m.gguf",
        lambda folder: models.load(folder / "m.gguf"),
    ),
    "config": Reader(_family, "config.json", models.load),
    "generation config": Reader(_model, "generation_config.json", _read_model),
    "tokenizer": Reader(_model, "tokenizer.json", _read_model),
    "tokenizer config": Reader(_model, "tokenizer_config.json", _read_model),
    "template": Reader(_model, "chat_template.jinja", _read_model),
    "safetensors": Reader(_model, "model.safetensors", models.load),
    "index": Reader(_shards, "model.safetensors.index.json", models.load),
    "adapter config": Reader(
        _adapter, "adapter_config.json", lambda folder: load_adapter(_base(), folder)
    ),
    "adapter": Reader(
        _adapter, "adapter_model.safetensors", lambda folder: load_adapter(_base(), folder)
    ),
    "recipe": Reader(
        lambda folder: shutil.copy(_ASSETS / "recipes" / "adder.yaml", folder / "recipe.yaml"),
        "recipe.yaml",
        lambda folder: read_recipe(folder / "recipe.yaml"),
    ),
    "table of commas": Reader(
        _write_table("t.csv"), "t.csv", lambda folder: trajectories.read(folder / "t.csv")
    ),
    "table of lines": Reader(
        _lines("t.jsonl", _table().to_dict(orient="records")),
        "t.jsonl",
        lambda folder: trajectories.read(folder / "t.jsonl"),
    ),
    "table of columns": Reader(
        _write_table("t.parquet"),
        "t.parquet",
        lambda folder: trajectories.read(folder / "t.parquet"),
    ),
    "task": Reader(_lines("task.jsonl", _PLAIN), "task.jsonl", _problems("jsonl", "numeric")),
    "gsm8k": Reader(_lines("task.jsonl", _GSM8K), "task.jsonl", _problems("gsm8k", "numeric")),
    "math": Reader(_lines("task.jsonl", _MATH), "task.jsonl", _problems("math", "math")),
    "mbpp": Reader(_lines("task.jsonl", _MBPP), "task.jsonl", _problems("mbpp", "python_tests")),
    "answers": Reader(
        _lines("answers.jsonl", _ANSWERS),
        "answers.jsonl",
        lambda folder: AnswerFile.read(folder / "answers.jsonl").answers(["1 + 1"]),
    ),
    "journal": Reader(_run, "metrics.jsonl", _read_progress),
    "report of metrics": Reader(_run, "metrics.jsonl", _read_page, slow=True),
    "report of samples": Reader(_run, "samples/probe-001.jsonl", _read_page, slow=True),
    "report of a trajectory": Reader(_run, "trajectory.csv", _read_page, slow=True),
    "report of a recipe": Reader(_run, "recipe.yaml", _read_page, slow=True),
    "report of versions": Reader(_run, "versions.json", _read_page, slow=True),
}


def checkpoint_files(folder: Path) -> list[str]:
    """The files of a checkpoint that `_checkpoint` wrote, smallest first."""
    _checkpoint(folder)
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [str(p.relative_to(folder)) for p in sorted(files, key=lambda p: p.stat().st_size)]


def read_checkpoint(folder: Path) -> Saved | None:
    """A damaged one is no error: the one before is tried."""
    return Checkpoints(folder, keep=2).newest(_saved(9).state, lambda text: None)
