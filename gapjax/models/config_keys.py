"""What a `config.json` may say beside the architecture that gapjax reads from it."""

from __future__ import annotations

from typing import Any

from gapjax.models.fields import Known

_OURS = (
    *("architectures", "model_type", "vocab_size", "hidden_size", "intermediate_size"),
    *("num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim"),
    *("max_position_embeddings", "original_max_position_embeddings", "partial_rotary_factor"),
    *("rope_theta", "rope_scaling", "rope_parameters", "rms_norm_eps", "tie_word_embeddings"),
    *("attention_bias", "sliding_window", "use_sliding_window", "max_window_layers"),
    *("layer_types", "eos_token_id"),
)

_TOKENS = "the tokenizer says which tokens begin, pad and part texts"
_SAMPLING = "the recipe, or the caller, says how answers are sampled"
_TRAINING = "it plays a part in training only, which the recipe describes"
_OUTPUT = "it says what transformers returns or keeps, not what it computes"
_HEADS = "it belongs to classifiers"
_ABOUT = "it says where the file comes from"

_HARMLESS = {
    **dict.fromkeys(
        ("bos_token_id", "pad_token_id", "unk_token_id", "sep_token_id", "decoder_start_token_id"),
        _TOKENS,
    ),
    # transformers 4 kept these in the configuration of any model.
    **dict.fromkeys(
        (
            *("max_length", "min_length", "do_sample", "early_stopping", "num_beams"),
            *("num_beam_groups", "diversity_penalty", "temperature", "top_k", "top_p"),
            *("typical_p", "repetition_penalty", "length_penalty", "no_repeat_ngram_size"),
            *("encoder_no_repeat_ngram_size", "num_return_sequences", "output_scores"),
            *("return_dict_in_generate", "remove_invalid_values", "prefix"),
            *("exponential_decay_length_penalty", "task_specific_params"),
        ),
        _SAMPLING,
    ),
    **dict.fromkeys(
        (
            *("attention_dropout", "resid_pdrop", "embd_pdrop", "hidden_dropout", "dropout"),
            *("attn_pdrop", "initializer_range", "gradient_checkpointing", "pretraining_tp"),
            *("neftune_noise_alpha", "unsloth_fixed", "unsloth_version", "unsloth_training"),
            *("router_aux_loss_coef", "max_sequence_length"),
        ),
        _TRAINING,
    ),
    **dict.fromkeys(
        (
            *("use_cache", "output_attentions", "output_hidden_states", "return_dict"),
            *("use_return_dict", "torchscript", "chunk_size_feed_forward", "keys_to_ignore"),
            *("_attn_implementation", "_attn_implementation_internal", "attn_implementation"),
            *("_attn_implementation_autoset", "_flash_attn_2_enabled", "use_flash_attn"),
            *("num_logits_to_keep", "tensor_parallel_size", "base_model_tp_plan"),
            *("base_model_pp_plan", "transformers.js_config", "cache_implementation"),
        ),
        _OUTPUT,
    ),
    **dict.fromkeys(
        ("id2label", "label2id", "problem_type", "num_labels", "finetuning_task"), _HEADS
    ),
    **dict.fromkeys(
        (
            *("_name_or_path", "name_or_path", "transformers_version", "_commit_hash"),
            *("dtype", "torch_dtype", "use_bfloat16", "is_llama_config", "model_name", "license"),
        ),
        _ABOUT,
    ),
    # Weights that do not fit are refused all the same.
    "auto_map": "the implementation that comes with the weights is that of the architecture",
}

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu", "swish"),
    "hidden_activation": ("silu", "swish"),
    "mlp_bias": (False,),
    "lm_head_bias": (False,),
    "quantization_config": (),
    "is_decoder": (False, True),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "tie_encoder_decoder": (False,),
    "cross_attention_hidden_size": (),
    "pruned_heads": ({},),
    "rope_interleaved": (False,),
    "use_mrope": (False,),
    "use_qk_norm": (False,),
    "clip_qkv": (),
    "attn_logit_softcapping": (),
    "final_logit_softcapping": (),
    # Of Phi-4-mini: what else they could be, no release shows.
    "full_attn_mod": (1,),
    "interpolate_factor": (1,),
}

CONFIG_KEYS = Known(_OURS, _HARMLESS, _NEUTRAL)

_STRETCH = ("factor", "original_max_position_embeddings")
_ROPE = ("rope_type", "type", "rope_theta", "partial_rotary_factor")
_ROPE_HARMLESS = {"finetuned": "it says how the weights were made"}

# By kind of rotary positions. Without a stretch, what would describe one says that the kind is
# wrong.
ROPE_KEYS = {
    "default": Known(_ROPE, _ROPE_HARMLESS),
    "linear": Known((*_ROPE, *_STRETCH), _ROPE_HARMLESS),
    "llama3": Known((*_ROPE, *_STRETCH, "low_freq_factor", "high_freq_factor"), _ROPE_HARMLESS),
    "yarn": Known(
        (
            *(*_ROPE, *_STRETCH, "attention_factor", "beta_fast", "beta_slow"),
            *("mscale", "mscale_all_dim", "truncate"),
        ),
        _ROPE_HARMLESS,
    ),
    "longrope": Known(
        (*_ROPE, *_STRETCH, "attention_factor", "short_factor", "long_factor"), _ROPE_HARMLESS
    ),
}
