"""What an `adapter_config.json` of PEFT may say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gapjax.errors import UserError
from gapjax.models.fields import Fields, Known

_TENSORS = "the tensors say which layers are adapted"
_BEGAN = "it says how training began"

# How a matrix may have begun that leaves the base model's weights as they are. PiSSA, OLoRA, CorDA,
# LoftQ and LoRA-GA take something off them when PEFT loads such an adapter.
_BEGINNINGS = (True, False, "gaussian", "orthogonal", "eva")

_MERGE = "let PEFT merge it into the base model (merge_and_unload, save_pretrained), and take that"
_CONVERT = (
    "it changes the base weights: save it as plain LoRA where it was trained, with PEFT's "
    "path_initial_model_for_weight_conversion, or let PEFT merge it (merge_and_unload)"
)

ADAPTER_KEYS = Known(
    honoured=("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora"),
    harmless={
        **dict.fromkeys(
            ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"), _TENSORS
        ),
        **dict.fromkeys(("eva_config", "lora_dropout", "inference_mode"), _BEGAN),
        **dict.fromkeys(
            (
                *("base_model_name_or_path", "revision", "task_type", "auto_mapping"),
                *("peft_version", "unsloth_fixed"),
            ),
            "it says what the adapter is of; whether it fits, the tensors tell",
        ),
        "qalora_group_size": "of no effect without use_qalora",
        "megatron_core": "of no effect without megatron_config",
    },
    neutral={
        "peft_type": ("LORA",),
        "init_lora_weights": _BEGINNINGS,
        **dict.fromkeys(
            (
                *("use_dora", "use_qalora", "use_bdlora", "lora_bias", "fan_in_fan_out"),
                *("ensure_weight_tying",),
            ),
            (False,),
        ),
        "bias": ("none",),
        "loftq_config": ({},),
        **dict.fromkeys(("modules_to_save", "layer_replication", "target_parameters"), ([],)),
        "trainable_token_indices": ([], {}),
        **dict.fromkeys(
            (
                *("alora_invocation_tokens", "arrow_config", "corda_config", "kasa_config"),
                *("lora_ga_config", "megatron_config", "monteclora_config", "velora_config"),
            ),
            (),
        ),
    },
    instead={
        **dict.fromkeys(("init_lora_weights", "loftq_config", "corda_config"), _CONVERT),
        **dict.fromkeys(
            (
                *("use_dora", "bias", "lora_bias", "modules_to_save", "target_parameters"),
                "trainable_token_indices",
            ),
            _MERGE,
        ),
        "alora_invocation_tokens": "it acts after these tokens only, which no merged model can",
    },
)

# Of regular expressions what PEFT's users write, and nothing that could take exponential time.
_PATTERN = re.compile(r"\^?(?:[\w.|()\[\]-]|\\d\+?|\\\.|\.\*)*\$?")
_MOST_STARS = 4


def scaled_alpha(config: Mapping[str, Any], layer: str, *, rank: int, where: object) -> float:
    """What divided by the rank multiplies the product of a layer's two matrices.

    **Arguments:**

    - `config`: of the adapter; `layer`: its name in PEFT.
    - `rank`: of the matrices in the file.

    **Raises:** `UserError` for patterns that cannot be used, and if the file has another rank than
    the configuration.
    """
    fields = Fields(config, where=where)
    said = _of(fields, "rank_pattern", layer, where=where) or fields
    if (expected := said.whole("r")) != rank:
        raise UserError(f"{layer} has rank {expected} here and {rank} in the weights", where=where)
    alpha = (_of(fields, "alpha_pattern", layer, where=where) or fields).number("lora_alpha")
    # "Rank-stabilised" LoRA divides by the root of the rank, not by the rank.
    return alpha * rank**0.5 if fields.flag("use_rslora", False) else alpha


def _of(fields: Fields, name: str, layer: str, *, where: object) -> Fields | None:
    """The value of the first pattern that the layer's name ends with, as in PEFT."""
    for pattern, value in fields.table(name).items():
        if not _PATTERN.fullmatch(pattern) or pattern.count("*") > _MOST_STARS:
            raise UserError(f"{name}: {pattern!r:.80} is no name of layers", where=where)
        try:
            found = re.match(rf"(.*\.)?({pattern})$", layer)
        except re.error as error:
            raise UserError(f"{name}: {pattern!r:.80}: {error}", where=where) from error
        if found:
            only = dict.fromkeys(("r", "lora_alpha"), value)
            return Fields(only, where=where, within=f"{name}.{pattern}: ")
    return None
