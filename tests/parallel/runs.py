"""Runs of one or several processes with several simulated devices each, and what they left."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from gapjax.models import Transformer, save
from gapjax.models.config import DecoderConfig

ROOT = Path(__file__).parents[2]
RECIPE = """
task: {digits: 1, template: "{a}+{b}=", train: 10, probe: 6, test: 2}
sampling: {n: 4, max_new_tokens: 5}
verifier: {method: true_false, question: "{prompt}{answer}?", cut_off: accept, least_mass: 0}
adapter: {rank: 2}
train: {rounds: 2, epochs_per_round: 1, measure_every: 1.0, batch_size: 6, learning_rate: 1.0e-3}
"""


def random_model(folder: Path) -> None:
    """A model of bytes, whose heads and vocabulary can be split in two, and its width in four."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate([*alphabet, "<eos>", "<pad>"])}
    letters = Tokenizer(models.BPE(vocabulary, []))
    letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    letters.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=letters, eos_token="<eos>", pad_token="<pad>"
    )
    config = DecoderConfig(
        vocab_size=258,
        hidden_size=32,
        intermediate_size=64,
        num_layers=1,
        num_heads=4,
        num_kv_heads=2,
        head_dim=8,
        max_position=128,
        tie_embeddings=True,
    )
    save(Transformer(config, rngs=nnx.Rngs(0)), tokenizer, folder)


def start(
    folder: Path,
    *,
    processes: int,
    devices: int,
    arguments: list[str],
    options: dict[int, dict[str, Any]] | None = None,
) -> list[tuple[int, str]]:
    """Run `gapjax train` with so many processes of so many devices each.

    **Arguments:**

    - `folder`: with `model` and `recipe.yaml` in it.
    - `options`: of `tests.parallel.child`, by process.

    **Returns:** exit status and standard error of each.
    """
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".jax_cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    command = ["train", str(folder / "recipe.yaml"), "--model", str(folder / "model"), "--quiet"]
    command += [*arguments, "--expect-devices", str(processes * devices)]
    if processes > 1:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command += ["--coordinator", f"127.0.0.1:{port}", "--processes", str(processes)]
    children = []
    for i in range(processes):
        mine = json.dumps((options or {}).get(i, {}))
        which = ["--process-id", str(i)] if processes > 1 else []
        children.append(
            subprocess.Popen(
                [sys.executable, "-m", "tests.parallel.child", mine, *command, *which],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        # One that was stopped ends never: the others are waited for first.
        stopped = {i for i, o in (options or {}).items() if o.get("signal") == signal.SIGSTOP}
        outcomes = {}
        for i in sorted(range(processes), key=lambda i: i in stopped):
            if i in stopped:
                children[i].kill()
            _, errors = children[i].communicate(timeout=600)
            outcomes[i] = (children[i].returncode, errors)
    finally:
        for child in children:
            child.kill()
    return [outcomes[i] for i in range(processes)]


def assert_same(one: Path, other: Path) -> None:
    """The same answers sampled, the same ones selected; the same losses but for rounding."""
    names = sorted(path.name for path in (one / "samples").iterdir())
    assert names == sorted(path.name for path in (other / "samples").iterdir())
    for name in names:
        for mine, its in zip(*(_rows(run / "samples" / name) for run in (one, other)), strict=True):
            for key in ("prompt", "chosen", "fell_back", "reason"):
                assert mine[key] == its[key]
            assert mine.get("learned") == its.get("learned")
            for a, b in zip(mine["candidates"], its["candidates"], strict=True):
                for key in ("tokens", "text", "grade"):
                    assert a[key] == b[key]
                np.testing.assert_allclose(
                    [a["logprob"], a["score"]], [b["logprob"], b["score"]], rtol=1e-5, atol=2e-5
                )
    series = []
    for run in (one, other):
        rows = _rows(run / "metrics.jsonl")
        losses = [row["loss"] for row in rows if row["event"] == "train"]
        curve = [
            (row["solver_uncertainty"], row["verifier_uncertainty"])
            for row in rows
            if row["event"] == "measure"
        ]
        assert len(losses) == 4
        assert len(curve) == 3
        series.append(np.concatenate([losses, np.ravel(curve)]))
    np.testing.assert_allclose(*series, rtol=1e-5)


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
