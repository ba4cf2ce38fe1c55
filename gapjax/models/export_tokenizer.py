"""The tokenizer of an export, as transformers 5 and 4 read it alike.

`tokenizer.json` and chat templates are the same for both. `tokenizer_config.json` is not: what
transformers 5 writes names a class that 4 does not have, lists of special tokens under a name that
4 takes for a table, and how this very tokenizer was loaded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_CONFIG = "tokenizer_config.json"
# What both read. Anything else is of one release, or about where the tokenizer came from; what
# makes the tokens is in `tokenizer.json` alone.
_KEPT = (
    *("sep_token", "cls_token", "mask_token", "chat_template"),
    *("model_max_length", "padding_side", "truncation_side"),
)
# Said even if there is none: 5 gives some architectures a token of its own in its place.
_SAID = ("bos_token", "eos_token", "unk_token", "pad_token")


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the files of a tokenizer.

    **Raises:** `OSError` if they cannot be written.
    """
    tokenizer.save_pretrained(str(folder))
    path = folder / _CONFIG
    written = json.loads(path.read_text(encoding="utf-8"))
    config: dict[str, Any] = {name: written.get(name) for name in _SAID}
    config |= {name: written[name] for name in _KEPT if name in written}
    if extra := written.get("extra_special_tokens"):
        config["additional_special_tokens"] = list(
            extra.values() if isinstance(extra, dict) else extra
        )
    made = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    # Transformers 5 does not clean up after byte-pair encodings, whatever they say: 4 does.
    cleans = tokenizer.clean_up_tokenization_spaces and made["model"]["type"] != "BPE"
    config["clean_up_tokenization_spaces"] = bool(cleans)
    # 4 goes by its own default where this is not said.
    splits = made.get("pre_tokenizer") or {}
    if "add_prefix_space" in splits:
        config["add_prefix_space"] = splits["add_prefix_space"]
    config["model_input_names"] = ["input_ids", "attention_mask"]  # decoders take no other
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
