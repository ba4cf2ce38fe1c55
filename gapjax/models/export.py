"""Hugging Face folders as they are written, for others to read.

`gapjax.models.hf` reads them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from flax import nnx
from safetensors.numpy import save_file

from gapjax.models.assemble import stored_shapes, stored_tensor
from gapjax.models.ends import EOS, find_ends
from gapjax.models.export_config import config_to_hf
from gapjax.models.export_tokenizer import save_tokenizer
from gapjax.models.families import TensorSpec, tensor_table
from gapjax.models.hf import CONFIG, GENERATION_CONFIG, INDEX, WEIGHTS
from gapjax.models.transformer import Transformer
from gapjax.parallel.distributed import is_first

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_SHARDS = "model-{:05d}-of-{:05d}.safetensors"


def write_json(path: Path, value: object) -> None:
    """Write a value the way transformers does."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def save_folder(
    model: Transformer,
    tokenizer: PreTrainedTokenizerFast | None,
    folder: Path,
    *,
    generation_config: Mapping[str, Any] | None = None,
    shard_bytes: int,
) -> None:
    """Write a folder that transformers loads: weights, `config.json` and tokenizer.

    Weights of more than `shard_bytes` are split into several files. They are written
    under temporary names first, so that a folder with `model.safetensors` (or its
    index) in it is complete.
    """
    flat = dict(nnx.to_flat_state(nnx.state(model, nnx.Param)))
    if any(isinstance(parameter, nnx.LoRAParam) for parameter in flat.values()):
        raise ValueError("the model has adapters: merge them, or save them by save_adapter")
    if not is_first():  # which writes, and needs the others' parts of each tensor
        for spec in tensor_table(model.config):
            stored_tensor(spec, flat)
        return
    ends = find_ends(tokenizer, generation_config, vocab_size=model.config.vocab_size)
    folder.mkdir(parents=True, exist_ok=True)
    dtype = model.embedding[...].dtype
    config = config_to_hf(model.config, dtype=dtype.name)
    if tokenizer is not None:
        save_tokenizer(tokenizer, folder)
    for key in ("bos_token_id", "pad_token_id"):
        # Without a tokenizer they are null: a family's defaults may exceed the vocabulary.
        config[key] = getattr(tokenizer, key, None)
    # Whoever reads the folder, and whichever file they go by, is to stop where we stop.
    config[EOS] = ends.value
    write_json(folder / CONFIG, config)
    generation = {**(generation_config or {}), EOS: ends.value}
    if generation_config is not None or ends.tokens:
        write_json(folder / GENERATION_CONFIG, generation)

    shapes = stored_shapes(model.config)
    sizes = {
        spec: dtype.itemsize * math.prod(shapes[spec.name]) for spec in tensor_table(model.config)
    }
    shards = _shards(sizes, shard_bytes)
    names = [_SHARDS.format(i + 1, len(shards)) for i in range(len(shards))]
    if len(shards) == 1:
        names = [WEIGHTS]
    for name, members in zip(names, shards, strict=True):
        tensors = {spec.name: stored_tensor(spec, flat) for spec in members}
        write_safetensors(tensors, folder / f".{name}.partial")
    # What an earlier export left here would be taken for a part of this one.
    for stale in [*folder.glob("model-*-of-*.safetensors"), folder / INDEX, folder / WEIGHTS]:
        stale.unlink(missing_ok=True)
    for name in names:
        (folder / f".{name}.partial").replace(folder / name)
    if len(shards) > 1:
        where = {
            spec.name: name for name, members in zip(names, shards, strict=True) for spec in members
        }
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": where}
        write_json(folder / INDEX, index)


def _shards(sizes: Mapping[TensorSpec, int], limit: int) -> list[list[TensorSpec]]:
    """Consecutive tensors in groups of at most `limit` bytes (or a single tensor)."""
    shards: list[list[TensorSpec]] = [[]]
    used = 0
    for spec, size in sizes.items():
        if shards[-1] and used + size > limit:
            shards.append([])
            used = 0
        shards[-1].append(spec)
        used += size
    return shards


def write_safetensors(tensors: Mapping[str, np.ndarray], path: Path) -> None:
    """Write one file, readable for everyone."""
    save_file(dict(tensors), path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors makes private files; checkpoints are for sharing
