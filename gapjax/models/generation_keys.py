"""What a `generation_config.json` may say."""

from __future__ import annotations

from typing import Any

from gapjax.models.fields import Known

_DRAWING = (
    "the recipe, or the caller, says how answers are drawn: these are another program's defaults"
)
_LENGTH = "the recipe, or the caller, says how long answers may be"
_SEARCH = "it belongs to ways of generating other than sampling, or to making it fast"
_OUTPUT = "it says what transformers returns or keeps"
_TOKENS = "the tokenizer says which tokens begin and pad texts"

_HARMLESS = {
    **dict.fromkeys(
        (
            *("do_sample", "temperature", "top_k", "top_p", "top_h", "min_p", "typical_p"),
            *("epsilon_cutoff", "eta_cutoff", "repetition_penalty", "presence_penalty"),
            *("frequency_penalty", "encoder_repetition_penalty", "renormalize_logits"),
            *("remove_invalid_values", "num_return_sequences", "guidance_scale"),
        ),
        _DRAWING,
    ),
    **dict.fromkeys(
        (
            *("max_length", "max_new_tokens", "min_length", "min_new_tokens", "max_time"),
            *("chat_format", "max_window_size", "length_penalty", "early_stopping"),
        ),
        _LENGTH,
    ),
    **dict.fromkeys(
        (
            *("num_beams", "num_beam_groups", "diversity_penalty", "penalty_alpha", "dola_layers"),
            *("low_memory", "use_cache", "cache_implementation", "cache_config", "compile_config"),
            *("disable_compile", "max_cache_len", "prefill_chunk_size", "is_assistant"),
            *("num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_early_exit"),
            *("assistant_confidence_threshold", "assistant_lookbehind", "target_lookbehind"),
            *("assistant_ensemble_weight", "prompt_lookup_num_tokens", "max_matching_ngram_size"),
            *("continuous_batching_config", "speculation_type", "use_mtp", "token_healing"),
            *("encoder_no_repeat_ngram_size",),
        ),
        _SEARCH,
    ),
    **dict.fromkeys(
        (
            *("output_attentions", "output_hidden_states", "output_logits", "output_scores"),
            *("return_dict_in_generate", "return_legacy_cache", "transformers_version"),
            *("_from_model_config", "_commit_hash", "transformers.js_config", "trust_remote_code"),
        ),
        _OUTPUT,
    ),
    **dict.fromkeys(("bos_token_id", "pad_token_id", "decoder_start_token_id"), _TOKENS),
}

# What makes or forbids tokens: a model whose file says so may give nonsense without.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "forced_decoder_ids": (),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "bad_words_ids": ([],),
    "force_words_ids": ([],),
    "sequence_bias": ([], {}),
    "constraints": ([],),
    "no_repeat_ngram_size": (0,),
    "exponential_decay_length_penalty": (),
    "watermarking_config": (),
    "stop_strings": ([],),
}

GENERATION_KEYS = Known(("eos_token_id",), _HARMLESS, _NEUTRAL)
