"""What each family of checkpoints calls things: configuration keys and tensor names.

Hugging Face's names are the common language: GGUF files are translated to them
(`gapjax.models.gguf`), and exports are written in them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from gapjax.errors import UserError
from gapjax.models.config import DecoderConfig, RopeScaling

KNOWN_ARCHITECTURES = ("LlamaForCausalLM",)

Path = tuple[str | int, ...]  # where a parameter lives in the module, as in `nnx.to_flat_state`


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """One row of the checkpoint table."""

    name: str  # in the Hugging Face checkpoint
    path: Path  # in `Transformer`
    transpose: bool  # torch stores a linear layer's weight as [out, in], we as [in, out]


_LAYER_TENSORS: tuple[tuple[str, tuple[str, ...], bool], ...] = (
    ("input_layernorm.weight", ("attention_norm", "scale"), False),
    ("self_attn.q_proj.weight", ("attention", "q", "kernel"), True),
    ("self_attn.k_proj.weight", ("attention", "k", "kernel"), True),
    ("self_attn.v_proj.weight", ("attention", "v", "kernel"), True),
    ("self_attn.o_proj.weight", ("attention", "o", "kernel"), True),
    ("post_attention_layernorm.weight", ("mlp_norm", "scale"), False),
    ("mlp.gate_proj.weight", ("mlp", "gate", "kernel"), True),
    ("mlp.up_proj.weight", ("mlp", "up", "kernel"), True),
    ("mlp.down_proj.weight", ("mlp", "down", "kernel"), True),
)


def tensor_table(config: DecoderConfig) -> list[TensorSpec]:
    """Every tensor of a checkpoint with this configuration, in file order."""
    table = [TensorSpec("model.embed_tokens.weight", ("embedding",), False)]
    for i in range(config.num_layers):
        table += [
            TensorSpec(f"model.layers.{i}.{name}", ("blocks", i, *path), transpose)
            for name, path, transpose in _LAYER_TENSORS
        ]
    table.append(TensorSpec("model.norm.weight", ("norm", "scale"), False))
    if not config.tie_embeddings:
        table.append(TensorSpec("lm_head.weight", ("unembedding",), False))
    return table


def config_from_hf(raw: Mapping[str, Any], *, where: object) -> DecoderConfig:
    """Read the contents of a Hugging Face `config.json`.

    **Raises:** `UserError` for an architecture or a feature that gapjax does not know,
    rather than silently computing something else, and for missing keys.
    """
    architecture = (raw.get("architectures") or [None])[0]
    if architecture not in KNOWN_ARCHITECTURES:
        raise UserError(
            f"architecture {architecture!r} is not supported",
            where=where,
            hint=f"known architectures: {', '.join(KNOWN_ARCHITECTURES)}",
        )
    for key, supported in (
        ("hidden_act", "silu"),
        ("attention_bias", False),
        ("mlp_bias", False),
    ):
        if raw.get(key, supported) != supported:
            raise UserError(
                f"{key} = {raw[key]!r} is not supported",
                where=where,
                hint=f"only {supported!r} is",
            )
    try:
        # transformers 5 keeps everything about rotary positions in one table.
        rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
        heads = int(raw["num_attention_heads"])
        return DecoderConfig(
            vocab_size=int(raw["vocab_size"]),
            hidden_size=int(raw["hidden_size"]),
            intermediate_size=int(raw["intermediate_size"]),
            num_layers=int(raw["num_hidden_layers"]),
            num_heads=heads,
            num_kv_heads=int(raw.get("num_key_value_heads") or heads),
            head_dim=int(raw.get("head_dim") or int(raw["hidden_size"]) // heads),
            max_position=int(raw["max_position_embeddings"]),
            rope_theta=float(rope.get("rope_theta", raw.get("rope_theta", 10_000.0))),
            rope_scaling=_rope_scaling(rope, where=where),
            norm_eps=float(raw["rms_norm_eps"]),
            tie_embeddings=bool(raw.get("tie_word_embeddings", False)),
        )
    except KeyError as error:
        raise UserError(f"key {error} is missing", where=where) from error
    except (TypeError, ValueError) as error:
        raise UserError(str(error), where=where) from error


def _rope_scaling(rope: Mapping[str, Any], *, where: object) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "llama3":
        raise UserError(
            f"rope scaling {kind!r} is not supported", where=where, hint="known: default, llama3"
        )
    return RopeScaling(
        factor=float(rope["factor"]),
        low_freq_factor=float(rope["low_freq_factor"]),
        high_freq_factor=float(rope["high_freq_factor"]),
        original_max_position_embeddings=int(rope["original_max_position_embeddings"]),
    )


def config_to_hf(config: DecoderConfig, *, dtype: str) -> dict[str, Any]:
    """The `config.json` with which transformers builds the same model.

    The inverse of `config_from_hf`; `dtype` is that of the stored tensors.
    """
    rope: dict[str, Any] = {"rope_theta": config.rope_theta, "rope_type": "default"}
    if config.rope_scaling is not None:
        rope |= {"rope_type": "llama3", **dataclasses.asdict(config.rope_scaling)}
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "dtype": dtype,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_position,
        "mlp_bias": False,
        "num_attention_heads": config.num_heads,
        "num_hidden_layers": config.num_layers,
        "num_key_value_heads": config.num_kv_heads,
        "rms_norm_eps": config.norm_eps,
        "rope_parameters": rope,
        "tie_word_embeddings": config.tie_embeddings,
        "vocab_size": config.vocab_size,
    }
