"""GGUF files, through the `gguf` package and without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gapjax.errors import UserError
from gapjax.models.assemble import assemble
from gapjax.models.config import DecoderConfig, Llama3Scaling
from gapjax.models.ends import gguf_ends, with_ends
from gapjax.models.families import FAMILIES, config_from_hf, tensor_table
from gapjax.models.fields import Fields
from gapjax.models.gguf_header import check_header
from gapjax.models.gguf_keys import check_metadata
from gapjax.models.gguf_tokenizer import read_tokenizer
from gapjax.models.rope import frequencies
from gapjax.models.transformer import Transformer

if TYPE_CHECKING:
    from gguf import GGUFReader, ReaderTensor
    from jax.sharding import Mesh
    from transformers import PreTrainedTokenizerFast

# llama.cpp's names of architectures, and the family each one is. Mistral is a `llama` there.
_ARCHITECTURES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "phi3": "phi3"}
_PERMUTED = ("llama",)  # architectures whose query and key rows llama.cpp reorders

# Factors that stretch rotary positions lie among the tensors.
_ROPE_FREQUENCIES = "rope_freqs.weight"
_LONG_FACTORS, _SHORT_FACTORS = "rope_factors_long.weight", "rope_factors_short.weight"


class Metadata:
    """Key-value metadata, with one line for a key that is not there or of another type."""

    def __init__(self, reader: GGUFReader, path: Path) -> None:
        self.path = path
        self.values: dict[str, Any] = {}
        for name, field in reader.fields.items():
            try:
                self.values[name] = field.contents()
            except (ValueError, IndexError) as error:
                raise UserError(
                    f"metadata key {name!r} is damaged ({error})", where=path
                ) from error

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key that may be absent."""
        return self.values.get(key, default)

    def __getitem__(self, key: str) -> Any:
        value = self.get(key)
        if value is None:
            raise UserError(f"metadata key {key!r} is missing", where=self.path)
        return value

    def texts(self, key: str) -> list[str]:
        """A list of texts."""
        return self._list(key, str, "texts")

    def numbers(self, key: str) -> list[float]:
        """A list of numbers."""
        return self._list(key, (int, float), "numbers")

    def _list(self, key: str, kind: type | tuple[type, ...], what: str) -> list[Any]:
        values = self[key]
        if not isinstance(values, list) or not all(isinstance(each, kind) for each in values):
            raise UserError(f"metadata key {key!r} is no list of {what}", where=self.path)
        return values


class _GGUFTensors:
    """The tensors of a GGUF file under their Hugging Face names."""

    def __init__(
        self, reader: GGUFReader, config: DecoderConfig, architecture: str, path: Path
    ) -> None:
        from gguf import MODEL_ARCH, get_tensor_name_map

        names = get_tensor_name_map(MODEL_ARCH[architecture.upper()], config.num_layers)
        hf_names = {
            names.get_name(spec.name, try_suffixes=(".weight", ".bias")): spec.name
            for spec in tensor_table(config)
        }
        self._path = path
        self._permuted_heads: dict[str, int] = {}
        if architecture in _PERMUTED:
            self._permuted_heads = {"q_proj": config.num_heads, "k_proj": config.num_kv_heads}
        self._tensors: dict[str, ReaderTensor] = {
            hf_names.get(tensor.name, tensor.name): tensor
            for tensor in reader.tensors
            if tensor.name not in (_ROPE_FREQUENCIES, _LONG_FACTORS, _SHORT_FACTORS)
        }
        # GGUF counts dimensions from the fastest one.
        self.shapes: Mapping[str, tuple[int, ...]] = {
            name: tuple(int(size) for size in reversed(tensor.shape))
            for name, tensor in self._tensors.items()
        }

    def read(self, name: str) -> np.ndarray:
        value = _dequantized(self._tensors[name], self._path).reshape(self.shapes[name])
        heads = self._permuted_heads.get(name.split(".")[-2])
        return value if heads is None else _unpermute(value, heads)


def _dequantized(tensor: ReaderTensor, path: Path) -> np.ndarray:
    """The values of a tensor in float32.

    Read from the file rather than from the reader's memory map, so that what has been
    read does not stay in memory beside the model.
    """
    from gguf.quants import dequantize

    data = np.fromfile(path, np.uint8, int(tensor.n_bytes), offset=int(tensor.data_offset))
    data = data.view(tensor.data.dtype).reshape(tensor.data.shape)
    return np.asarray(dequantize(data, tensor.tensor_type), np.float32)


def _unpermute(weight: np.ndarray, heads: int) -> np.ndarray:
    # llama.cpp rotates neighbouring rows (0, 1), (2, 3), …; Hugging Face rotates
    # row i of a head with row i + D/2. The converter had interleaved the halves.
    rows = weight.reshape(heads, weight.shape[0] // heads // 2, 2, -1)
    return rows.swapaxes(1, 2).reshape(weight.shape)


def load_gguf(
    path: Path, *, dtype: str, mesh: Mesh | None
) -> tuple[Transformer, PreTrainedTokenizerFast, dict[str, Any] | None]:
    """Read the model, the tokenizer and the end tokens (as a generation config) of a GGUF file.

    **Raises:** `UserError` for a file that is not GGUF, is truncated, or holds an
    architecture or tokenizer that gapjax does not know.
    """
    from gapjax.models.gguf_reader import FastGGUFReader

    try:
        check_header(path)
        reader = FastGGUFReader(path)
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise UserError(f"not a readable GGUF file ({error})", where=path) from error
    metadata = Metadata(reader, path)
    architecture = metadata["general.architecture"]
    if not isinstance(architecture, str) or architecture not in _ARCHITECTURES:
        raise UserError(
            f"architecture {architecture!r:.200} is not supported",
            where=path,
            hint=f"known: {', '.join(_ARCHITECTURES)}",
        )
    check_metadata(metadata.values, architecture, where=path)
    parts = Fields(metadata.values, where=path).whole("split.count", 1, least=0)
    if parts > 1:
        raise UserError(
            f"is one of {parts} parts", where=path, hint="join them: llama-gguf-split --merge"
        )
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    config = _read_config(metadata, architecture, tensors)
    source = _GGUFTensors(reader, config, architecture, path)
    try:
        model = assemble(config, source, dtype=dtype, mesh=mesh, where=path)
    except NotImplementedError as error:
        raise UserError(f"quantisation is not supported ({error})", where=path) from error
    tokenizer = read_tokenizer(metadata)
    return model, tokenizer, with_ends(None, gguf_ends(metadata))


def _read_config(
    metadata: Metadata, architecture: str, tensors: Mapping[str, ReaderTensor]
) -> DecoderConfig:
    within = f"{architecture}."
    own = {
        name.removeprefix(within): value
        for name, value in metadata.values.items()
        if name.startswith(within)
    }
    fields = Fields(own, where=metadata.path, within=within)
    heads, width = fields.whole("attention.head_count"), fields.whole("embedding_length")
    head_dim = fields.whole("attention.key_length", max(width // heads, 1))
    if fields.whole("attention.value_length", head_dim) != head_dim:
        raise UserError("keys and values of different lengths", where=metadata.path)
    vocab_size = len(metadata.texts("tokenizer.ggml.tokens"))
    if fields.whole("vocab_size", vocab_size) != vocab_size:
        raise UserError(
            f"{within}vocab_size = {own['vocab_size']}, but there are {vocab_size} tokens",
            where=metadata.path,
        )
    raw = {
        "architectures": [FAMILIES[_ARCHITECTURES[architecture]].architecture],
        "hidden_size": width,
        "intermediate_size": fields.whole("feed_forward_length"),
        "num_hidden_layers": fields.whole("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": fields.whole("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "max_position_embeddings": fields.whole("context_length"),
        "rope_theta": fields.number("rope.freq_base", 10_000.0),
        # llama.cpp keeps float32; rounding recovers the 1e-5 that was meant.
        "rms_norm_eps": float(f"{fields.number('attention.layer_norm_rms_epsilon'):.6g}"),
        "vocab_size": vocab_size,
        "tie_word_embeddings": "output.weight" not in tensors,
        "attention_bias": False,
        "partial_rotary_factor": fields.whole("rope.dimension_count", head_dim) / head_dim,
    }
    # llama.cpp writes 0 for none.
    raw["sliding_window"] = fields.whole("attention.sliding_window", 0, least=0) or None
    scaling = _stretch(fields)
    if architecture == "phi3":
        if "rope.scaling.original_context_length" in fields:
            raw["original_max_position_embeddings"] = fields.whole(
                "rope.scaling.original_context_length"
            )
        if _LONG_FACTORS in tensors:
            scaling = {
                "rope_type": "longrope",
                "long_factor": _dequantized(tensors[_LONG_FACTORS], metadata.path).tolist(),
                "short_factor": _dequantized(tensors[_SHORT_FACTORS], metadata.path).tolist(),
                "attention_factor": own.get("rope.scaling.attn_factor"),
            }
    if _ROPE_FREQUENCIES in tensors:
        if scaling is not None:
            raise UserError("rotary positions are stretched in two ways", where=metadata.path)
        divisors = _dequantized(tensors[_ROPE_FREQUENCIES], metadata.path)
        scaling = _llama3_rule(divisors, raw, metadata.path)
    if scaling is not None:
        raw["rope_scaling"] = scaling
    return config_from_hf(raw, where=metadata.path)


def _stretch(fields: Fields) -> dict[str, Any] | None:
    """How rotary positions are stretched, in transformers' terms; None if they are not."""
    kind = fields.text("rope.scaling.type", "none")
    if kind == "none":
        # An older way to say it.
        factor = fields.number("rope.scale_linear", 1.0)
        return None if factor == 1 else {"rope_type": "linear", "factor": factor}
    factor = fields.number("rope.scaling.factor", fields.number("rope.scale_linear", 1.0))
    scaling: dict[str, Any] = {"rope_type": kind, "factor": factor}
    if kind == "yarn":
        # Whatever the file says multiplies what YaRN itself multiplies queries and keys with.
        own = 1.0 if factor <= 1 else 0.1 * math.log(factor) + 1.0
        scaling |= {
            "attention_factor": fields.number("rope.scaling.attn_factor", 1.0) * own,
            "beta_fast": fields.number("rope.scaling.yarn_beta_fast", 32.0),
            "beta_slow": fields.number("rope.scaling.yarn_beta_slow", 1.0),
        }
    if "rope.scaling.original_context_length" in fields:
        scaling["original_max_position_embeddings"] = fields.whole(
            "rope.scaling.original_context_length"
        )
    return scaling


def _llama3_rule(divisors: np.ndarray, raw: dict[str, Any], path: Path) -> dict[str, Any]:
    """The parameters of Llama 3's rule, of which the file holds only the outcome.

    All releases share them but for the factor, which divides the longest wave.
    """
    rule = {
        "factor": float(divisors.max()),
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    plain = config_from_hf(raw, where=path)
    stretched = config_from_hf(raw | {"rope_scaling": {"rope_type": "llama3", **rule}}, where=path)
    assert isinstance(stretched.rope_scaling, Llama3Scaling)
    implied = frequencies(plain) / frequencies(stretched)
    if implied.shape != divisors.shape or not np.allclose(implied, divisors, rtol=1e-4):
        raise UserError(
            "rotary positions are stretched by an unknown rule",
            where=path,
            hint="load the safetensors folder of the same model",
        )
    return {"rope_type": "llama3", **rule}
