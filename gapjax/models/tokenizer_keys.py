"""What the JSON files of a tokenizer may say beside `tokenizer.json`.

transformers takes any field of them for an argument, so that one may name files elsewhere or add
tokens that no model was trained on. Hence a list, as for other files (`gapjax.models.fields`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapjax.errors import UserError
from gapjax.json_files import read_json_object
from gapjax.models.fields import Fields, Known

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_CONFIG, _MAP, _ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
_DECODER = "added_tokens_decoder"
_LARGEST_ID = 2**31 - 1

_NAMED = (
    *("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"),
)
_LISTED = ("additional_special_tokens", "extra_special_tokens")
_OWN = "model_specific_special_tokens"

_FLAGS = (
    *("add_bos_token", "add_eos_token", "add_prefix_space", "clean_up_tokenization_spaces"),
    *("split_special_tokens",),
)
_SIDES = ("padding_side", "truncation_side")

_RULES = "tokenizer.json, or the class of the tokenizer, says how text is cut"
_SHAPE = "gapjax pads and shortens by itself"
_OTHERS = "it is of the class that transformers takes, or of images and sounds"
_ABOUT = "it says how this tokenizer was once loaded or made"
_IDS = "tokens are known by their texts"

_HARMLESS = {
    **dict.fromkeys(
        (
            *("do_lower_case", "do_basic_tokenize", "strip_accents", "remove_space", "errors"),
            *("keep_accents", "tokenize_chinese_chars", "sp_model_kwargs", "trim_offsets"),
            *("unicode_normalizer", "spaces_between_special_tokens", "fix_mistral_regex"),
            *("fix_regex", "legacy", "legacy_behaviour", "add_dummy_prefix", "extra_ids"),
            *("do_normalize", "normalization", "ignore_merges", "never_split"),
        ),
        _RULES,
    ),
    **dict.fromkeys(
        (
            *("max_length", "pad_to_multiple_of", "pad_token_type_id", "padding", "stride"),
            *("truncation", "truncation_strategy", "pad_to_max_length", "model_input_names"),
            *("return_token_type_ids", "max_len", "use_default_system_prompt"),
        ),
        _SHAPE,
    ),
    **dict.fromkeys(
        (
            *("tokenizer_class", "processor_class", "feature_extractor_type", "image_processor"),
            *("auto_map", "vocab_type", "tokenizer_type", "patch_size", "max_image_size"),
        ),
        _OTHERS,
    ),
    **dict.fromkeys(
        (
            *("name_or_path", "_name_or_path", "backend", "is_local", "local_files_only"),
            *("use_fast", "from_slow", "special_tokens_map_file", "tokenizer_file", "revision"),
            *("trust_remote_code", "transformers_version", "device_map", "dtype", "torch_dtype"),
            *("token", "use_auth_token", "cache_dir", "low_cpu_mem_usage", "num_labels"),
            *("max_seq_length", "vocab_size", "unsloth_fixed", "unsloth_version", "_commit_hash"),
            *("clean_text", "show_progress", "response_schema", "fast", "license"),
        ),
        _ABOUT,
    ),
    **dict.fromkeys(
        (
            *("bos_token_id", "eos_token_id", "unk_token_id", "pad_token_id", "sep_token_id"),
            *("cls_token_id", "mask_token_id", "additional_special_tokens_ids"),
        ),
        _IDS,
    ),
}

# A path here would be opened, or copied to an export.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "init_inputs": ([],),
    "vocab_file": ("tokenizer.model", "vocab.json"),
    "merges_file": ("merges.txt",),
}

TOKENIZER_KEYS = Known(
    (*_NAMED, *_LISTED, _OWN, _DECODER, *_FLAGS, *_SIDES, "model_max_length", "chat_template"),
    _HARMLESS,
    _NEUTRAL,
)
_MAP_KEYS = Known((*_NAMED, *_LISTED, _OWN), {})


def check_tokenizer_files(folder: Path) -> dict[str, int]:
    """The id of each token that the files beside `tokenizer.json` add, by its text.

    **Raises:** `UserError` for files that cannot be read, and for fields that are not known or of
    another type.
    """
    config = _read(folder / _CONFIG, TOKENIZER_KEYS)
    fields = Fields(config, where=folder / _CONFIG)
    for name in _FLAGS:
        fields.flag(name, False)
    for name in _SIDES:
        if fields.text(name, "right") not in ("left", "right"):
            raise UserError(f"{name} is neither left nor right", where=folder / _CONFIG)
    fields.number("model_max_length", 1.0)  # compared with lengths, when text is cut
    _read(folder / _MAP, _MAP_KEYS)
    if _DECODER in config:
        table = fields.table(_DECODER)
        return {
            _content(token, f"{_DECODER}.{i}", folder / _CONFIG): _id(i, folder / _CONFIG)
            for i, token in table.items()
        }
    path = folder / _ADDED
    stated = read_json_object(path) if path.is_file() else {}
    fields = Fields(stated, where=path)
    return {text: fields.whole(text, least=0) for text in stated}


def _read(path: Path, known: Known) -> dict[str, Any]:
    """The object in a file, all of whose special tokens are texts; empty if there is none."""
    if not path.is_file():
        return {}
    raw = read_json_object(path)
    own = {name for name, token in raw.items() if _is_own(name, token)}
    known.check({name: raw[name] for name in raw.keys() - own}, where=path)
    for name, token in _special(raw, own):
        _content(token, name, path)
    return raw


def _is_own(name: str, token: Any) -> bool:
    """Whether a field names a token of a kind that only this model has, such as `image_token`."""
    return name.endswith("_token") and isinstance(token, str | dict)


def _special(raw: Mapping[str, Any], own: set[str]) -> Iterator[tuple[str, Any]]:
    for name in sorted({*_NAMED, *own}):
        if raw.get(name) is not None:
            yield name, raw[name]
    for name in (*_LISTED, _OWN):
        tokens = raw.get(name)
        if tokens is None:
            continue
        values = tokens.values() if isinstance(tokens, dict) else tokens
        yield from ((name, each) for each in (values if hasattr(values, "__iter__") else [tokens]))


def _content(token: Any, name: str, where: Path) -> str:
    text = token.get("content") if isinstance(token, dict) else token
    if not isinstance(text, str) or (name.startswith(_DECODER) and not isinstance(token, dict)):
        raise UserError(f"{name} = {token!r:.80} is no token", where=where)
    return text


def _id(written: str, where: Path) -> int:
    if not (written.isascii() and written.isdigit() and len(written) < 11):
        raise UserError(f"{_DECODER}: {written!r:.80} is no token id", where=where)
    if int(written) > _LARGEST_ID:
        raise UserError(f"{_DECODER}: {written} is no token id", where=where)
    return int(written)


def check_added(tokenizer: PreTrainedTokenizerFast, added: Mapping[str, int], folder: Path) -> None:
    """Refuse a tokenizer that has other ids than its files say.

    transformers gives a token the id that `tokenizer.json` has for it, or the next that is free.

    **Raises:** `UserError` that names the token.
    """
    known = tokenizer.get_vocab()
    for text, stated in added.items():
        if known.get(text) != stated:
            raise UserError(
                f"token {text!r:.80} has id {stated} in {_CONFIG} or {_ADDED}, and "
                f"{known.get(text)} by tokenizer.json",
                where=folder,
                hint="they belong to different models: take both from the same",
            )


def check_end(tokenizer: PreTrainedTokenizerFast, raw: Mapping[str, Any], folder: Path) -> None:
    """Refuse an end of sequence that `tokenizer.json` (`raw`) and the files beside it do not have.

    transformers makes a new token of it, which the model was never trained to write.

    **Raises:** `UserError` that names the token.
    """
    before = raw["model"]["vocab"]  # by text, or a list of texts and scores
    texts = set(before if isinstance(before, dict) else (piece for piece, _ in before))
    texts |= {token["content"] for token in raw.get("added_tokens") or ()}
    end = tokenizer.eos_token
    if end is not None and end not in texts:
        raise UserError(
            f"eos_token = {end!r:.80} is no token of tokenizer.json",
            where=folder,
            hint=f"name the right one in {_CONFIG}, or list it under {_DECODER}",
        )
