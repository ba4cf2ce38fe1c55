"""Hugging Face folders: `config.json`, safetensors (one file or sharded), tokenizer.

Only safetensors are read: pickled weights can execute code.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from flax import nnx
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from gapjax.errors import UserError
from gapjax.models.assemble import assemble, stored_shapes, stored_tensor
from gapjax.models.families import TensorSpec, config_from_hf, config_to_hf, tensor_table
from gapjax.models.transformer import Transformer
from gapjax.parallel.distributed import is_first

if TYPE_CHECKING:
    from jax.sharding import Mesh
    from transformers import PreTrainedTokenizerFast

_WEIGHTS = "model.safetensors"
_SHARDS = "model-{:05d}-of-{:05d}.safetensors"
_INDEX = "model.safetensors.index.json"
_STORED = ("F64", "F32", "F16", "BF16")
_CONFIG = "config.json"
_GENERATION_CONFIG = "generation_config.json"


class SafetensorsFiles:
    """The tensors of safetensors files, whichever of the files each one is in.

    A file is mapped anew for each tensor, so that what has been read does not stay in
    memory beside the model.

    **Raises:** `UserError` for a file that is truncated, not safetensors, or quantised.
    """

    def __init__(self, paths: list[Path]) -> None:
        self._files: dict[str, Path] = {}
        shapes: dict[str, tuple[int, ...]] = {}
        stored: dict[str, str] = {}  # a tensor of each type
        for path in paths:
            try:
                with safe_open(path, framework="numpy") as file:
                    for name in file.keys():  # noqa: SIM118 (not a dict)
                        tensor = file.get_slice(name)
                        self._files[name] = path
                        shapes[name] = tuple(tensor.get_shape())
                        stored.setdefault(tensor.get_dtype(), name)
            except (SafetensorError, OSError) as error:
                raise UserError(f"not a readable safetensors file ({error})", where=path) from error
        for dtype in stored.keys() - set(_STORED):
            raise UserError(
                f"{stored[dtype]} is stored as {dtype}",
                where=self._files[stored[dtype]],
                hint=f"only {', '.join(_STORED)} are read: quantised weights need their scales",
            )
        self.shapes = shapes

    def read(self, name: str) -> np.ndarray:
        """The values of one tensor."""
        with safe_open(self._files[name], framework="numpy") as file:
            return file.get_tensor(name)


def _weight_files(folder: Path) -> list[Path]:
    names = [_WEIGHTS]
    if (folder / _INDEX).is_file():
        index = read_json(folder / _INDEX)
        try:
            names = sorted({str(name) for name in index["weight_map"].values()})
        except (KeyError, AttributeError, TypeError) as error:
            raise UserError("has no weight_map", where=folder / _INDEX) from error
    for name in names:
        if Path(name).name != name:
            raise UserError(f"names a file elsewhere ({name!r})", where=folder / _INDEX)
        if not (folder / name).is_file():
            hint = None
            if any(folder.glob("*.bin")):
                hint = "pickled .bin weights can execute code and are not read: convert them"
            raise UserError(f"has no {name}", where=folder, hint=hint)
    return [folder / name for name in names]


def read_json(path: Path) -> Any:
    """Parse a JSON file, or raise `UserError`."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"not readable as JSON ({error})", where=path) from error


def read_json_object(path: Path) -> dict[str, Any]:
    """Parse a JSON file that holds an object, or raise `UserError`."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError("holds no JSON object", where=path)
    return value


def write_json(path: Path, value: object) -> None:
    """Write a value the way transformers does."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def load_folder(folder: Path, *, dtype: str, mesh: Mesh | None) -> Transformer:
    """Read the model.

    **Raises:** `UserError` for missing, corrupt or mismatching files.
    """
    if not (folder / _CONFIG).is_file():
        raise UserError(f"has no {_CONFIG}", where=folder, hint="expected a Hugging Face folder")
    config = config_from_hf(read_json_object(folder / _CONFIG), where=folder / _CONFIG)
    source = SafetensorsFiles(_weight_files(folder))
    return assemble(config, source, dtype=dtype, mesh=mesh, where=folder)


def load_generation_config(folder: Path) -> dict[str, Any] | None:
    """The contents of `generation_config.json`, if the folder has one."""
    path = folder / _GENERATION_CONFIG
    return read_json_object(path) if path.is_file() else None


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast | None:
    """The tokenizer of a folder, if it has a `tokenizer.json`."""
    if not (folder / "tokenizer.json").is_file():
        return None
    from transformers import PreTrainedTokenizerFast

    # `AutoTokenizer` would look for remote code and slow tokenizers; this reads the
    # same files and nothing else. `tokenizers` raises bare `Exception`s.
    try:
        return PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:
        raise UserError(f"tokenizer cannot be read ({error})", where=folder) from error


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
    folder.mkdir(parents=True, exist_ok=True)
    dtype = model.embedding[...].dtype
    config = config_to_hf(model.config, dtype=dtype.name)
    if tokenizer is not None:
        tokenizer.save_pretrained(str(folder))
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        # Without a tokenizer they are null: a family's defaults may exceed the vocabulary.
        config[key] = getattr(tokenizer, key, None)
    write_json(folder / _CONFIG, config)
    if generation_config is not None:
        write_json(folder / _GENERATION_CONFIG, dict(generation_config))

    shapes = stored_shapes(model.config)
    sizes = {
        spec: dtype.itemsize * math.prod(shapes[spec.name]) for spec in tensor_table(model.config)
    }
    shards = _shards(sizes, shard_bytes)
    names = [_SHARDS.format(i + 1, len(shards)) for i in range(len(shards))]
    if len(shards) == 1:
        names = [_WEIGHTS]
    for name, members in zip(names, shards, strict=True):
        tensors = {spec.name: stored_tensor(spec, flat) for spec in members}
        write_safetensors(tensors, folder / f".{name}.partial")
    # What an earlier export left here would be taken for a part of this one.
    for stale in [*folder.glob("model-*-of-*.safetensors"), folder / _INDEX, folder / _WEIGHTS]:
        stale.unlink(missing_ok=True)
    for name in names:
        (folder / f".{name}.partial").replace(folder / name)
    if len(shards) > 1:
        where = {
            spec.name: name for name, members in zip(names, shards, strict=True) for spec in members
        }
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": where}
        write_json(folder / _INDEX, index)


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
