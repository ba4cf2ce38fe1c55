"""GGUF files, through the `gguf` package and without torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gapjax.errors import UserError
from gapjax.models.assemble import assemble
from gapjax.models.config import DecoderConfig, Llama3Scaling
from gapjax.models.ends import gguf_ends, with_ends
from gapjax.models.families import FAMILIES, config_from_hf, tensor_table
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
    """Key-value metadata, with one line for a key that is not there."""

    def __init__(self, reader: GGUFReader, path: Path) -> None:
        self._reader = reader
        self.path = path

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key that may be absent."""
        field = self._reader.get_field(key)
        try:
            return default if field is None else field.contents()
        except (ValueError, IndexError) as error:
            raise UserError(
                f"metadata key {key!r} is damaged ({error})", where=self.path
            ) from error

    def __getitem__(self, key: str) -> Any:
        value = self.get(key)
        if value is None:
            raise UserError(f"metadata key {key!r} is missing", where=self.path)
        return value


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
        reader = FastGGUFReader(path)
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise UserError(f"not a readable GGUF file ({error})", where=path) from error
    metadata = Metadata(reader, path)
    architecture = metadata["general.architecture"]
    if architecture not in _ARCHITECTURES:
        raise UserError(
            f"architecture {architecture!r} is not supported",
            where=path,
            hint=f"known: {', '.join(_ARCHITECTURES)}",
        )
    if (parts := metadata.get("split.count", 1)) > 1:
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
    def get(key: str, default: Any = None) -> Any:
        return metadata.get(f"{architecture}.{key}", default)

    def need(key: str) -> Any:
        return metadata[f"{architecture}.{key}"]

    heads, width, context = (
        need("attention.head_count"),
        need("embedding_length"),
        need("context_length"),
    )
    head_dim = get("attention.key_length") or width // heads
    raw = {
        "architectures": [FAMILIES[_ARCHITECTURES[architecture]].architecture],
        "hidden_size": width,
        "intermediate_size": need("feed_forward_length"),
        "num_hidden_layers": need("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": get("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "max_position_embeddings": context,
        "rope_theta": get("rope.freq_base", 10_000.0),
        # llama.cpp keeps float32; rounding recovers the 1e-5 that was meant.
        "rms_norm_eps": float(f"{need('attention.layer_norm_rms_epsilon'):.6g}"),
        "vocab_size": len(metadata["tokenizer.ggml.tokens"]),
        "tie_word_embeddings": "output.weight" not in tensors,
        "attention_bias": False,
    }
    if architecture == "phi3":
        raw["partial_rotary_factor"] = get("rope.dimension_count", head_dim) / head_dim
        # llama.cpp writes 0 for none.
        raw["sliding_window"] = get("attention.sliding_window") or None
        original = get("rope.scaling.original_context_length")
        if original is not None:
            raw["original_max_position_embeddings"] = original
        if _LONG_FACTORS in tensors:
            raw["rope_scaling"] = {
                "rope_type": "longrope",
                "long_factor": _dequantized(tensors[_LONG_FACTORS], metadata.path).tolist(),
                "short_factor": _dequantized(tensors[_SHORT_FACTORS], metadata.path).tolist(),
                "attention_factor": get("rope.scaling.attn_factor"),
            }
    elif (kind := get("rope.scaling.type", "none")) != "none":
        raw["rope_scaling"] = {
            "rope_type": kind,
            "factor": get("rope.scaling.factor"),
            "original_max_position_embeddings": get("rope.scaling.original_context_length"),
        }
    if _ROPE_FREQUENCIES in tensors:
        divisors = _dequantized(tensors[_ROPE_FREQUENCIES], metadata.path)
        raw["rope_scaling"] = _llama3_rule(divisors, raw, metadata.path)
    return config_from_hf(raw, where=metadata.path)


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
