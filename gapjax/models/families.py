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
from gapjax.models.config_keys import CONFIG_KEYS, ROPE_KEYS
from gapjax.models.fields import Fields


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """What sets a family apart from the others."""

    architecture: str  # the class in transformers, as `config.json` names it
    fused: bool = False  # q, k and v are stored as one tensor, gate and up as another
    qkv_bias: bool = False
    bias_key: bool = False  # `attention_bias` decides on the biases of q, k, v and o
    qk_norm: bool = False
    partial_rotary: bool = False  # only a part of each head is rotated
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
        partial_rotary=True,
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
    CONFIG_KEYS.check(raw, where=where)
    if raw.get("model_type", name) != name:
        raise UserError(f"model_type is {raw['model_type']!r:.80}, not {name!r}", where=where)
    given = Fields({**family.defaults, **raw}, where=where)
    rope, scaling = _rope(given, family, where=where)
    heads, layers = given.whole("num_attention_heads"), given.whole("num_hidden_layers")
    if layers > _MOST_LAYERS:  # tables are made of that length before any file is read
        raise UserError(f"{layers} layers are not believable", where=where)
    width = given.whole("hidden_size")
    head_dim = given.whole("head_dim", max(width // heads, 1))
    part = rope.number("partial_rotary_factor", given.number("partial_rotary_factor", 1.0))
    if part != 1 and not family.partial_rotary:
        raise UserError(f"partial_rotary_factor = {part} is not supported", where=where)
    window, windowed = _window(given, family, layers, where=where)
    bias = given.flag("attention_bias", False)
    if bias and not family.bias_key:
        raise UserError("attention_bias = True is not supported", where=where, hint="only False is")
    try:
        return DecoderConfig(
            family=name,
            vocab_size=given.whole("vocab_size"),
            hidden_size=width,
            intermediate_size=given.whole("intermediate_size"),
            num_layers=layers,
            num_heads=heads,
            num_kv_heads=given.whole("num_key_value_heads", heads),
            head_dim=head_dim,
            max_position=_max_position(rope, given, scaling),
            rope_theta=rope.number("rope_theta", given.number("rope_theta", 10_000.0)),
            rope_scaling=scaling,
            rotary_dim=None if part == 1.0 else int(head_dim * part),
            sliding_window=window,
            sliding_layers=windowed,
            qkv_bias=family.qkv_bias or bias,
            output_bias=bias,
            qk_norm=family.qk_norm,
            norm_eps=given.number("rms_norm_eps"),
            tie_embeddings=given.flag("tie_word_embeddings", False),
        )
    except ValueError as error:
        raise UserError(str(error), where=where) from error


def _max_position(rope: Fields, given: Fields, scaling: RopeScaling | None) -> int:
    said = given.whole("max_position_embeddings")
    if not isinstance(scaling, LongRopeScaling) or "factor" not in rope:
        return said
    # Its factor is what the context is of the original one, see `DecoderConfig.context`.
    return max(said, int(rope.number("factor") * scaling.original_max_position_embeddings))


def _window(
    given: Fields, family: Family, layers: int, *, where: object
) -> tuple[int | None, tuple[int, ...]]:
    """The sliding window (tokens) and the layers that have it."""
    off = family.window == "some layers" and not given.flag("use_sliding_window", False)
    if family.window == "never" or off or "sliding_window" not in given:
        return None, ()
    kinds = ["sliding_attention"] * layers
    if family.window == "some layers":
        full = min(given.whole("max_window_layers", least=0), layers)
        kinds = given.texts("layer_types", ["full_attention"] * full + kinds[full:])
    if len(kinds) != layers or not set(kinds) <= {"full_attention", "sliding_attention"}:
        raise UserError(f"layer_types = {kinds!r:.200} does not fit {layers} layers", where=where)
    windowed = tuple(i for i, kind in enumerate(kinds) if kind == "sliding_attention")
    return given.whole("sliding_window") if windowed else None, windowed


def _rope(given: Fields, family: Family, *, where: object) -> tuple[Fields, RopeScaling | None]:
    """The table about rotary positions, and how they are stretched."""
    # transformers 5 keeps everything about them in one table, of which exports have both forms.
    name = "rope_parameters" if "rope_parameters" in given else "rope_scaling"
    table = given.table(name)
    within = f"{name}."
    rope = Fields(table, where=where, within=within)
    kind = rope.text("rope_type", rope.text("type", "default"))
    if "longrope" in family.rope_types and kind in ("su", "yarn"):
        kind = "longrope"  # what the first Phi-3 checkpoints called it
    if kind not in family.rope_types:
        raise UserError(
            f"rope scaling {kind!r} is not supported in {family.architecture}",
            where=where,
            hint=f"known: {', '.join(family.rope_types)}",
        )
    ROPE_KEYS[kind].check(table, where=where, within=within)
    return rope, _scaling(kind, rope, given)


def _scaling(kind: str, rope: Fields, given: Fields) -> RopeScaling | None:
    # Phi-3 keeps it beside the table, and there it counts.
    key = "original_max_position_embeddings"
    beside = given.whole(key) if key in given else None
    original = beside or rope.whole(key, given.whole("max_position_embeddings"))
    if kind == "linear":
        return LinearScaling(factor=rope.number("factor"))
    if kind == "llama3":
        return Llama3Scaling(
            factor=rope.number("factor"),
            low_freq_factor=rope.number("low_freq_factor"),
            high_freq_factor=rope.number("high_freq_factor"),
            original_max_position_embeddings=original,
        )
    if kind == "yarn":
        factor = rope.number("factor")
        return YarnScaling(
            factor=factor,
            original_max_position_embeddings=original,
            attention_factor=rope.number("attention_factor", _yarn_attention(factor, rope)),
            beta_fast=rope.number("beta_fast", 32.0),
            beta_slow=rope.number("beta_slow", 1.0),
            truncate=rope.flag("truncate", True),
        )
    if kind == "longrope":
        stretch = rope.number("factor", given.whole("max_position_embeddings") / original)
        return LongRopeScaling(
            short_factor=rope.numbers("short_factor"),
            long_factor=rope.numbers("long_factor"),
            original_max_position_embeddings=original,
            attention_factor=rope.number("attention_factor", longrope_attention(stretch, original)),
        )
    return None


def longrope_attention(stretch: float, original: int) -> float:
    """What LongRoPE multiplies queries and keys with, unless it is given.

    **Arguments:**

    - `stretch`: the context over the `original` one (tokens).
    """
    return math.sqrt(1 + math.log(stretch) / math.log(original)) if stretch > 1 else 1.0


def _yarn_attention(factor: float, rope: Fields) -> float:
    """What YaRN multiplies queries and keys with, unless it is given."""

    def multiplier(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    if "mscale" in rope and "mscale_all_dim" in rope:
        return multiplier(rope.number("mscale")) / multiplier(rope.number("mscale_all_dim"))
    return multiplier(1.0)
