"""What the metadata of a GGUF file may say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gapjax.models.fields import Known

# Fields of these say where a file comes from, or are defaults of another program.
_ABOUT = ("general.", "quantize.", "tokenizer.chat_template.", "GGUF.")
_UNUSED_TOKENS = "tokens that prompts and answers do without"

_ELSEWHERE = Known(
    honoured=(
        *("split.count", "split.no", "split.tensors.count", "tokenizer.chat_template"),
        *(
            f"tokenizer.ggml.{name}"
            for name in (
                *("model", "pre", "tokens", "token_type", "scores", "merges", "add_bos_token"),
                *("add_space_prefix", "bos_token_id", "eos_token_id", "eot_token_id"),
                *("eom_token_id", "unknown_token_id", "padding_token_id"),
            )
        ),
    ),
    harmless={
        **dict.fromkeys(
            (
                f"tokenizer.ggml.{name}_token_id"
                for name in (
                    *("seperator", "mask", "cls", "prefix", "suffix", "middle", "fim_pre"),
                    *("fim_suf", "fim_mid", "fim_pad", "fim_rep", "fim_sep"),
                )
            ),
            _UNUSED_TOKENS,
        ),
        "tokenizer.ggml.token_type_count": "the list of types says it",
        "tokenizer.ggml.add_eos_token": "no prompt ends with an end token",
        "tokenizer.chat_templates": "names of templates beside the default",
        "tokenizer.huggingface.json": "the other fields describe the same tokenizer",
    },
    neutral={
        "general.type": ("model",),
        "tokenizer.ggml.add_sep_token": (False,),
        "tokenizer.ggml.remove_extra_whitespaces": (False,),
    },
)

_ARCHITECTURE = Known(
    honoured=(
        *("context_length", "embedding_length", "block_count", "feed_forward_length"),
        *("attention.head_count", "attention.head_count_kv", "attention.key_length"),
        *("attention.value_length", "attention.layer_norm_rms_epsilon"),
        *("attention.sliding_window", "rope.freq_base", "rope.dimension_count"),
        *("rope.scaling.type", "rope.scaling.factor", "rope.scaling.original_context_length"),
        *("rope.scaling.attn_factor", "rope.scaling.yarn_beta_fast"),
        *("rope.scaling.yarn_beta_slow", "rope.scale_linear", "vocab_size"),
    ),
    harmless={"rope.scaling.finetuned": "it says how the weights were made"},
    neutral={
        "attention.causal": (True,),
        "use_parallel_residual": (False,),
        "tensor_data_layout": ("reference",),
        "expert_count": (0,),
        "expert_used_count": (0,),
        "pooling_type": (0,),
        "attention.max_alibi_bias": (0,),
        "attention.clamp_kqv": (0,),
        "logit_scale": (1,),
        "residual_scale": (1,),
        "embedding_scale": (1,),
        # Releases of llama.cpp differ in what they make of these.
        "rope.scaling.yarn_attn_factor": (1,),
        "rope.scaling.yarn_ext_factor": (1, -1),
        "rope.scaling.yarn_log_multiplier": (0,),
    },
)


def check_metadata(metadata: Mapping[str, Any], architecture: str, *, where: object) -> None:
    """Refuse fields that are not known, see `Known.check`.

    **Arguments:**

    - `metadata`: values by name; `architecture`: whose fields are expected.
    """
    within = f"{architecture}."
    own, others = {}, {}
    for name, value in metadata.items():
        if name.startswith(within):
            own[name.removeprefix(within)] = value
        elif name == "general.type" or not name.startswith(_ABOUT):
            others[name] = value
    _ARCHITECTURE.check(own, where=where, within=within)
    _ELSEWHERE.check(others, where=where)
