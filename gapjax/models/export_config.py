"""The `config.json` of an export, as transformers 5 and 4 read it alike.

`gapjax.models.families` reads it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from gapjax.models.config import (
    DecoderConfig,
    LinearScaling,
    Llama3Scaling,
    LongRopeScaling,
    YarnScaling,
)
from gapjax.models.families import FAMILIES, longrope_attention

_ROPE_TYPES: dict[type, str] = {
    LinearScaling: "linear",
    Llama3Scaling: "llama3",
    YarnScaling: "yarn",
    LongRopeScaling: "longrope",
}


def config_to_hf(config: DecoderConfig, *, dtype: str) -> dict[str, Any]:
    """The `config.json` with which transformers builds the same model.

    The inverse of `config_from_hf`; `dtype` is that of the stored tensors. Rotary positions are in
    it twice: `rope_parameters` is how transformers 5 spells them, and 4 knows nothing of it.
    """
    family = FAMILIES[config.family]
    rope: dict[str, Any] = {"rope_theta": config.rope_theta, "rope_type": "default"}
    if config.rope_scaling is not None:
        kind = _ROPE_TYPES[type(config.rope_scaling)]
        rope |= {"rope_type": kind, **dataclasses.asdict(config.rope_scaling)}
    if config.rotary_dim is not None:
        rope["partial_rotary_factor"] = config.rotary_dim / config.head_dim
    raw: dict[str, Any] = {
        "architectures": [family.architecture],
        "model_type": config.family,
        "attention_bias": config.output_bias,
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
    if family.window != "never":
        raw["sliding_window"] = config.sliding_window
    if family.window == "some layers":
        raw["use_sliding_window"] = bool(config.sliding_layers)
        raw["layer_types"] = [
            "sliding_attention" if i in config.sliding_layers else "full_attention"
            for i in range(config.num_layers)
        ]
    if isinstance(config.rope_scaling, LongRopeScaling):
        original = config.rope_scaling.original_max_position_embeddings
        raw["original_max_position_embeddings"] = original
        rope["factor"] = config.max_position / original
    return raw | _old_spelling(rope, config)


def _old_spelling(rope: Mapping[str, Any], config: DecoderConfig) -> dict[str, Any]:
    """Rotary positions as they were spelled before transformers 5, which reads this too."""
    beside = ("rope_theta", "partial_rotary_factor")
    raw = {name: rope[name] for name in beside if name in rope}
    scaling = {name: value for name, value in rope.items() if name not in beside}
    if isinstance(config.rope_scaling, LongRopeScaling):
        # Phi-3's class takes these three and refuses others. The factor of attention then follows
        # from the lengths; one that does not is said all the same: refused is better than wrong.
        stretch = config.max_position / config.rope_scaling.original_max_position_embeddings
        usual = longrope_attention(stretch, config.rope_scaling.original_max_position_embeddings)
        names = ["short_factor", "long_factor"]
        if not math.isclose(config.rope_scaling.attention_factor, usual):
            names.append("attention_factor")
        scaling = {"type": "longrope", **{name: scaling[name] for name in names}}
    raw["rope_scaling"] = None if config.rope_scaling is None else scaling
    return raw
