"""What each family of checkpoints calls things: configuration keys and tensor names.

Hugging Face's names are the common language: GGUF files are translated to them
(`gapjax.models.gguf`), and exports are written in them. A family is a row of `FAMILIES`,
never a class of its own.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

from gapjax.errors import UserError
from gapjax.models.config import (
    DecoderConfig,
    LinearScaling,
    Llama3Scaling,
    LongRopeScaling,
    RopeScaling,
    YarnScaling,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """What sets a family apart from the others."""

    architecture: str  # the class in transformers, as `config.json` names it
    fused: bool = False  # q, k and v are stored as one tensor, gate and up as another
    qkv_bias: bool = False
    bias_key: bool = False  # `attention_bias` decides on the biases of q, k, v and o
    qk_norm: bool = False
    window: Literal["never", "every layer", "some layers"] = "never"
    rope_types: tuple[str, ...] = ("default", "linear", "llama3", "yarn")
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # of missing keys


_MOST_LAYERS = 10_000
_QWEN_WINDOW = {"use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28}

FAMILIES: dict[str, Family] = {
    "llama": Family(architecture="LlamaForCausalLM", bias_key=True),
    "mistral": Family(
        architecture="MistralForCausalLM",
        window="every layer",
        defaults={"num_key_value_heads": 8, "sliding_window": 4096},
    ),
    "qwen2": Family(
        architecture="Qwen2ForCausalLM",
        qkv_bias=True,
        window="some layers",
        defaults={"num_key_value_heads": 32, **_QWEN_WINDOW},
    ),
    "qwen3": Family(
        architecture="Qwen3ForCausalLM",
        bias_key=True,
        qk_norm=True,
        window="some layers",
        defaults={"num_key_value_heads": 32, "head_dim": 128, **_QWEN_WINDOW},
    ),
    "phi3": Family(
        architecture="Phi3ForCausalLM",
        fused=True,
        window="every layer",
        rope_types=("default", "longrope"),
        defaults={"original_max_position_embeddings": 4096},
    ),
}

Path = tuple[str | int, ...]  # where a parameter lives in the module, as in `nnx.to_flat_state`


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """One row of the checkpoint table."""

    name: str  # in the Hugging Face checkpoint
    paths: tuple[Path, ...]  # in `Transformer`; several where the file has them stacked
    transpose: bool  # torch stores a linear layer's weight as [out, in], we as [in, out]


def _layer_table(config: DecoderConfig) -> list[tuple[str, list[Path], bool]]:
    """Names, paths and orientation of one layer's tensors, relative to the layer."""
    q, k, v, o = (("attention", name) for name in "qkvo")
    gate, up, down = (("mlp", name) for name in ("gate", "up", "down"))
    linear: list[tuple[str, list[Path], bool]] = [  # and whether there is a bias
        ("self_attn.q_proj", [q], config.qkv_bias),
        ("self_attn.k_proj", [k], config.qkv_bias),
        ("self_attn.v_proj", [v], config.qkv_bias),
        ("self_attn.o_proj", [o], config.output_bias),
        ("mlp.gate_proj", [gate], False),
        ("mlp.up_proj", [up], False),
        ("mlp.down_proj", [down], False),
    ]
    if FAMILIES[config.family].fused:
        linear = [
            ("self_attn.qkv_proj", [q, k, v], config.qkv_bias),
            ("self_attn.o_proj", [o], config.output_bias),
            ("mlp.gate_up_proj", [gate, up], False),
            ("mlp.down_proj", [down], False),
        ]
    norms: list[tuple[str, Path]] = [
        ("input_layernorm", ("attention_norm",)),
        ("post_attention_layernorm", ("mlp_norm",)),
    ]
    if config.qk_norm:
        norms.append(("self_attn.q_norm", ("attention", "q_norm")))
        norms.append(("self_attn.k_norm", ("attention", "k_norm")))
    rows = [(f"{name}.weight", [(*path, "scale")], False) for name, path in norms]
    for name, paths, bias in linear:
        rows.append((f"{name}.weight", [(*path, "kernel") for path in paths], True))
        if bias:
            rows.append((f"{name}.bias", [(*path, "bias") for path in paths], False))
    return rows


def tensor_table(config: DecoderConfig) -> list[TensorSpec]:
    """Every tensor of a checkpoint with this configuration."""
    table = [TensorSpec("model.embed_tokens.weight", (("embedding",),), False)]
    for i in range(config.num_layers):
        table += [
            TensorSpec(f"model.layers.{i}.{name}", tuple(("blocks", i, *p) for p in paths), turned)
            for name, paths, turned in _layer_table(config)
        ]
    table.append(TensorSpec("model.norm.weight", (("norm", "scale"),), False))
    if not config.tie_embeddings:
        table.append(TensorSpec("lm_head.weight", (("unembedding",),), False))
    return table


def config_from_hf(raw: Mapping[str, Any], *, where: object) -> DecoderConfig:
    """Read the contents of a Hugging Face `config.json`.

    **Raises:** `UserError` for an architecture or a feature that gapjax does not know,
    rather than silently computing something else, and for missing keys.
    """
    listed = raw.get("architectures")
    architecture = str(listed[0]) if isinstance(listed, list) and listed else None
    known = {family.architecture: name for name, family in FAMILIES.items()}
    if architecture not in known:
        raise UserError(
            f"architecture {architecture!r} is not supported",
            where=where,
            hint=f"known architectures: {', '.join(known)}",
        )
    name = known[architecture]
    family = FAMILIES[name]
    raw = {**family.defaults, **raw}
    supported = {"hidden_act": "silu", "mlp_bias": False, "quantization_config": None}
    if not family.bias_key:
        supported["attention_bias"] = False
    for key, value in supported.items():
        if (raw.get(key) or value) != value:
            raise UserError(
                f"{key} = {raw[key]!r} is not supported", where=where, hint=f"only {value!r} is"
            )
    try:
        # transformers 5 keeps everything about rotary positions in one table.
        rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
        heads = int(raw["num_attention_heads"])
        layers = int(raw["num_hidden_layers"])
        if layers > _MOST_LAYERS:  # tables are made of that length before any file is read
            raise ValueError(f"{layers} layers are not believable")
        head_dim = int(raw.get("head_dim") or int(raw["hidden_size"]) // heads)
        part = float(rope.get("partial_rotary_factor", raw.get("partial_rotary_factor", 1.0)))
        window, windowed = _window(raw, family, layers)
        bias = family.bias_key and bool(raw.get("attention_bias", False))
        return DecoderConfig(
            family=name,
            vocab_size=int(raw["vocab_size"]),
            hidden_size=int(raw["hidden_size"]),
            intermediate_size=int(raw["intermediate_size"]),
            num_layers=layers,
            num_heads=heads,
            num_kv_heads=int(raw.get("num_key_value_heads") or heads),
            head_dim=head_dim,
            max_position=_max_position(rope, raw),
            rope_theta=float(rope.get("rope_theta", raw.get("rope_theta", 10_000.0))),
            rope_scaling=_rope_scaling(rope, raw, family, where=where),
            rotary_dim=None if part == 1.0 else int(head_dim * part),
            sliding_window=window,
            sliding_layers=windowed,
            qkv_bias=family.qkv_bias or bias,
            output_bias=bias,
            qk_norm=family.qk_norm,
            norm_eps=float(raw["rms_norm_eps"]),
            tie_embeddings=bool(raw.get("tie_word_embeddings", False)),
        )
    except KeyError as error:
        raise UserError(f"key {error} is missing", where=where) from error
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise UserError(str(error), where=where) from error


def _max_position(rope: Mapping[str, Any], raw: Mapping[str, Any]) -> int:
    given = int(raw["max_position_embeddings"])
    if rope.get("rope_type", rope.get("type")) != "longrope" or not rope.get("factor"):
        return given
    # Its factor is what the context is of the original one, see `DecoderConfig.context`.
    original = rope.get("original_max_position_embeddings") or given
    original = raw.get("original_max_position_embeddings", original)
    return max(given, int(float(rope["factor"]) * int(original)))


def _window(
    raw: Mapping[str, Any], family: Family, layers: int
) -> tuple[int | None, tuple[int, ...]]:
    """The sliding window (tokens) and the layers that have it."""
    off = family.window == "some layers" and not raw["use_sliding_window"]
    if family.window == "never" or off or raw.get("sliding_window") is None:
        return None, ()
    kinds = ["sliding_attention"] * layers
    if family.window == "some layers":
        full = min(int(raw["max_window_layers"]), layers)
        kinds = raw.get("layer_types") or ["full_attention"] * full + kinds[full:]
    if len(kinds) != layers or not set(kinds) <= {"full_attention", "sliding_attention"}:
        raise ValueError(f"layer_types = {kinds} does not fit {layers} layers")
    windowed = tuple(i for i, kind in enumerate(kinds) if kind == "sliding_attention")
    return int(raw["sliding_window"]) if windowed else None, windowed


def _rope_scaling(
    rope: Mapping[str, Any], raw: Mapping[str, Any], family: Family, *, where: object
) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if "longrope" in family.rope_types and kind in ("su", "yarn"):
        kind = "longrope"  # what the first Phi-3 checkpoints called it
    if kind not in family.rope_types:
        raise UserError(
            f"rope scaling {kind!r} is not supported in {family.architecture}",
            where=where,
            hint=f"known: {', '.join(family.rope_types)}",
        )
    # Phi-3 keeps it beside the table, and there it counts.
    original = raw.get(
        "original_max_position_embeddings", rope.get("original_max_position_embeddings")
    )
    if kind == "linear":
        return LinearScaling(factor=float(rope["factor"]))
    if kind == "llama3":
        return Llama3Scaling(
            factor=float(rope["factor"]),
            low_freq_factor=float(rope["low_freq_factor"]),
            high_freq_factor=float(rope["high_freq_factor"]),
            original_max_position_embeddings=int(original or raw["max_position_embeddings"]),
        )
    if kind == "yarn":
        factor = float(rope["factor"])
        given = rope.get("attention_factor")
        return YarnScaling(
            factor=factor,
            original_max_position_embeddings=int(original or raw["max_position_embeddings"]),
            attention_factor=_yarn_attention(factor, rope) if given is None else float(given),
            beta_fast=float(rope.get("beta_fast") or 32),
            beta_slow=float(rope.get("beta_slow") or 1),
            truncate=bool(rope.get("truncate", True)),
        )
    if kind == "longrope":
        stretch = float(rope.get("factor") or raw["max_position_embeddings"] / original)
        default = math.sqrt(1 + math.log(stretch) / math.log(original)) if stretch > 1 else 1.0
        given = rope.get("attention_factor")
        return LongRopeScaling(
            short_factor=tuple(map(float, rope["short_factor"])),
            long_factor=tuple(map(float, rope["long_factor"])),
            original_max_position_embeddings=int(original),
            attention_factor=default if given is None else float(given),
        )
    return None


def _yarn_attention(factor: float, rope: Mapping[str, Any]) -> float:
    """What YaRN multiplies queries and keys with, unless it is given."""

    def multiplier(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    above, below = rope.get("mscale"), rope.get("mscale_all_dim")
    return multiplier(above) / multiplier(below) if above and below else multiplier(1.0)
