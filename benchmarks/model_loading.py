"""How long loading SmolLM2-135M takes, and how much memory, against the least there is to do.

The least is reading the file's bytes and dequantising its tensors with the `gguf` package
(for safetensors: reading the bytes). Memory is the peak of the process above what it held
before, in units of the weights in their target type. Each measurement of memory runs in a
process of its own.

    python -m benchmarks.model_loading > benchmarks/results/model_loading.md
"""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from benchmarks.timing import MACHINE, interleaved, quartiles
from gapjax import models
from gapjax.models.gguf_reader import FastGGUFReader
from gapjax.models.load import _smollm2

REPEATS = 5


def least(path: Path) -> None:
    """Read the bytes of a checkpoint and, of a GGUF file, dequantise them."""
    from gguf.quants import dequantize

    if path.is_dir():
        np.fromfile(path / "model.safetensors", np.uint8)
        return
    np.fromfile(path, np.uint8)
    for tensor in FastGGUFReader(path).tensors:
        dequantize(np.asarray(tensor.data), tensor.tensor_type)


def load(path: Path, dtype: str) -> models.LoadedModel:
    loaded = models.load(path, dtype=dtype)
    jax.block_until_ready(loaded.model.embedding[...])
    return loaded


def peak_memory(path: Path, dtype: str) -> float:
    """Peak of a process that loads the model, in units of the weights."""
    command = [sys.executable, "-m", "benchmarks.model_loading", str(path), dtype]
    return json.loads(subprocess.check_output(command))


def _peak_memory_here(path: Path, dtype: str) -> float:
    import transformers  # noqa: F401 (imported before the measurement starts)

    models.load("adder")  # the same for everything that the first load imports

    def status(key: str) -> int:
        text = Path("/proc/self/status").read_text()
        return 1024 * int(re.search(rf"{key}:\s+(\d+) kB", text)[1])

    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    model = load(path, dtype).model
    weights = sum(parameter.nbytes for parameter in jax.tree.leaves(nnx.state(model)))
    return (status("VmHWM") - before) / weights


def main() -> None:
    gguf = _smollm2()
    with tempfile.TemporaryDirectory() as folder:
        loaded = models.load(gguf)
        cases = [(gguf, "float32"), (gguf, "bfloat16")]
        for stored in ("float32", "bfloat16"):
            path = Path(folder, stored)
            models.save(models.load(gguf, dtype=stored).model, loaded.tokenizer, path)
            cases += [(path, stored)]
        cases.append((Path(folder, "float32"), "bfloat16"))
        del loaded
        print("# Loading SmolLM2-135M-Instruct\n")
        print(f"On {MACHINE}. Seconds: median [quartiles] of {REPEATS} interleaved runs;")
        print("the file is in the page cache. Written by `python -m benchmarks.model_loading`.\n")
        print("| from | into | read, dequantise (s) | `models.load` (s) | ratio | peak / weights |")
        print("| --- | --- | ---: | ---: | ---: | ---: |")
        for path, dtype in cases:
            seconds = interleaved(
                {
                    "least": functools.partial(least, path),
                    "load": functools.partial(load, path, dtype),
                },
                repeats=REPEATS,
                slow=float("inf"),
            )
            ratio = np.median(seconds["load"]) / np.median(seconds["least"])
            peak = peak_memory(path, dtype)
            name = "GGUF (Q4_1)" if path == gguf else f"safetensors ({path.name})"
            print(
                f"| {name} | {dtype} | {quartiles(seconds['least'], 1)} "
                f"| {quartiles(seconds['load'], 1)} | {ratio:.2f} | {peak:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(_peak_memory_here(Path(sys.argv[1]), sys.argv[2]))
    else:
        main()
