"""Hugging Face folders: `config.json`, safetensors (one file or sharded), tokenizer.

Only safetensors are read: pickled weights can execute code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from gapjax.errors import UserError
from gapjax.models.assemble import assemble, disassemble
from gapjax.models.families import config_from_hf, config_to_hf
from gapjax.models.transformer import Transformer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_CONFIG = "config.json"


class _Safetensors:
    """The tensors of a folder, whichever of its files each one is in."""

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, Any] = {}
        self.shapes: Mapping[str, tuple[int, ...]] = {}
        shapes = {}
        for path in _weight_files(folder):
            try:
                handle = safe_open(path, framework="numpy")
                names = handle.keys()
            except (SafetensorError, OSError) as error:
                raise UserError(f"not a readable safetensors file ({error})", where=path) from error
            for name in names:
                self._files[name] = handle
                shapes[name] = tuple(handle.get_slice(name).get_shape())
        self.shapes = shapes

    def read(self, name: str) -> np.ndarray:
        return self._files[name].get_tensor(name)


def _weight_files(folder: Path) -> list[Path]:
    if (folder / _INDEX).is_file():
        index = read_json(folder / _INDEX)
        try:
            names = sorted(set(index["weight_map"].values()))
        except (KeyError, AttributeError, TypeError) as error:
            raise UserError("has no weight_map", where=folder / _INDEX) from error
    else:
        names = [_WEIGHTS]
    for name in names:
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


def load_folder(folder: Path, *, dtype: str) -> tuple[Transformer, PreTrainedTokenizerFast | None]:
    """Read the model and, if the folder has one, the tokenizer.

    **Raises:** `UserError` for missing, corrupt or mismatching files.
    """
    if not (folder / _CONFIG).is_file():
        raise UserError(f"has no {_CONFIG}", where=folder, hint="expected a Hugging Face folder")
    config = config_from_hf(read_json(folder / _CONFIG), where=folder / _CONFIG)
    model = assemble(config, _Safetensors(folder), dtype=dtype, where=folder)
    return model, _load_tokenizer(folder)


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerFast | None:
    if not (folder / "tokenizer.json").is_file():
        return None
    from transformers import PreTrainedTokenizerFast

    # `from_pretrained` would look for remote code and slow tokenizers; this reads the
    # same files and nothing else.
    try:
        return PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError) as error:
        raise UserError(f"tokenizer cannot be read ({error})", where=folder) from error


def save_folder(
    model: Transformer, tokenizer: PreTrainedTokenizerFast | None, folder: Path
) -> None:
    """Write a folder that transformers loads: weights, `config.json` and tokenizer.

    The weights are written last and under a temporary name, so that a folder with
    `model.safetensors` in it is complete.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = dict(disassemble(model))
    dtype = next(iter(tensors.values())).dtype.name
    config = config_to_hf(model.config, dtype=dtype)
    if tokenizer is not None:
        tokenizer.save_pretrained(str(folder))
        for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
            config[key] = getattr(tokenizer, key)
    (folder / _CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    partial = folder / f".{_WEIGHTS}.partial"
    save_file(tensors, partial, metadata={"format": "pt"})
    partial.chmod(0o644)  # safetensors makes private files; checkpoints are for sharing
    partial.replace(folder / _WEIGHTS)
