"""GGUF files of the llama architecture, through the `gguf` package and without torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gapjax.errors import UserError
from gapjax.models.assemble import assemble
from gapjax.models.config import DecoderConfig
from gapjax.models.families import config_from_hf, tensor_table
from gapjax.models.transformer import Transformer

if TYPE_CHECKING:
    from gguf import GGUFReader, ReaderTensor
    from transformers import PreTrainedTokenizerFast

_CONTROL_TOKEN = 3  # `tokenizer.ggml.token_type` of special tokens


class _Metadata:
    """Key-value metadata, with one line for a key that is not there."""

    def __init__(self, reader: GGUFReader, path: Path) -> None:
        self._reader = reader
        self._path = path

    def get(self, key: str, default: Any = None) -> Any:
        field = self._reader.get_field(key)
        return default if field is None else field.contents()

    def __getitem__(self, key: str) -> Any:
        value = self.get(key)
        if value is None:
            raise UserError(f"metadata key {key!r} is missing", where=self._path)
        return value


class _GGUFTensors:
    """The tensors of a GGUF file under their Hugging Face names."""

    def __init__(self, reader: GGUFReader, config: DecoderConfig) -> None:
        from gguf import MODEL_ARCH, get_tensor_name_map

        names = get_tensor_name_map(MODEL_ARCH.LLAMA, config.num_layers)
        hf_names = {
            names.get_name(spec.name, try_suffixes=(".weight",)): spec.name
            for spec in tensor_table(config)
        }
        self._config = config
        self._tensors: dict[str, ReaderTensor] = {
            hf_names.get(tensor.name, tensor.name): tensor for tensor in reader.tensors
        }
        # GGUF counts dimensions from the fastest one.
        self.shapes: Mapping[str, tuple[int, ...]] = {
            name: tuple(int(size) for size in reversed(tensor.shape))
            for name, tensor in self._tensors.items()
        }

    def read(self, name: str) -> np.ndarray:
        from gguf.quants import dequantize

        tensor = self._tensors[name]
        value = dequantize(tensor.data, tensor.tensor_type).reshape(self.shapes[name])
        if name.endswith("q_proj.weight"):
            return _unpermute(value, self._config.num_heads)
        if name.endswith("k_proj.weight"):
            return _unpermute(value, self._config.num_kv_heads)
        return value


def _unpermute(weight: np.ndarray, heads: int) -> np.ndarray:
    # llama.cpp rotates neighbouring rows (0, 1), (2, 3), …; Hugging Face rotates
    # row i of a head with row i + D/2. The converter had interleaved the halves.
    out, width = weight.shape
    return weight.reshape(heads, out // heads // 2, 2, width).swapaxes(1, 2).reshape(out, width)


def load_gguf(path: Path, *, dtype: str) -> tuple[Transformer, PreTrainedTokenizerFast]:
    """Read the model and the tokenizer of a GGUF file.

    **Raises:** `UserError` for a file that is not GGUF, is truncated, or holds an
    architecture or tokenizer that gapjax does not know.
    """
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"not a readable GGUF file ({error})", where=path) from error
    metadata = _Metadata(reader, path)
    config = _read_config(metadata, {tensor.name for tensor in reader.tensors}, path)
    model = assemble(config, _GGUFTensors(reader, config), dtype=dtype, where=path)
    return model, _read_tokenizer(metadata, path)


def _read_config(metadata: _Metadata, tensors: set[str], path: Path) -> DecoderConfig:
    if (architecture := metadata["general.architecture"]) != "llama":
        raise UserError(
            f"architecture {architecture!r} is not supported", where=path, hint="known: llama"
        )
    if "rope_freqs.weight" in tensors:
        raise UserError(
            "rope scaling baked into GGUF is not supported",
            where=path,
            hint="load the safetensors folder of the same model",
        )
    heads = metadata["llama.attention.head_count"]
    raw = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": metadata["llama.embedding_length"],
        "intermediate_size": metadata["llama.feed_forward_length"],
        "num_hidden_layers": metadata["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.get("llama.attention.head_count_kv", heads),
        "head_dim": metadata.get("llama.attention.key_length"),
        "max_position_embeddings": metadata["llama.context_length"],
        "rope_theta": metadata.get("llama.rope.freq_base", 10_000.0),
        # llama.cpp keeps float32; rounding recovers the 1e-5 that was meant.
        "rms_norm_eps": float(f"{metadata['llama.attention.layer_norm_rms_epsilon']:.6g}"),
        "vocab_size": len(metadata["tokenizer.ggml.tokens"]),
        "tie_word_embeddings": "output.weight" not in tensors,
    }
    return config_from_hf(raw, where=path)


def _read_tokenizer(metadata: _Metadata, path: Path) -> PreTrainedTokenizerFast:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    kind = (metadata["tokenizer.ggml.model"], metadata.get("tokenizer.ggml.pre"))
    if kind != ("gpt2", "smollm"):
        raise UserError(f"tokenizer {kind} is not supported", where=path, hint="known: smollm")
    tokens = metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in metadata["tokenizer.ggml.merges"]]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    # The rule that llama.cpp calls "smollm": every digit is a token of its own.
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    types = metadata["tokenizer.ggml.token_type"]
    backend.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, kind_of_token in zip(tokens, types, strict=True)
            if kind_of_token == _CONTROL_TOKEN
        ]
    )

    def token(name: str) -> str | None:
        index = metadata.get(f"tokenizer.ggml.{name}_token_id")
        return None if index is None else tokens[index]

    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=token("bos"),
        eos_token=token("eos"),
        unk_token=token("unknown"),
        pad_token=token("padding"),
        chat_template=metadata.get("tokenizer.chat_template"),
        clean_up_tokenization_spaces=False,
    )
