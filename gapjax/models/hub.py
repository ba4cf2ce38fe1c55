"""Models on the Hugging Face hub, or in its local cache."""

from __future__ import annotations

import re
from pathlib import Path

from gapjax.errors import UserError

# Weights that cannot execute code, configurations, tokenizers; nothing else is fetched.
_ALLOWED = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model", "merges.txt"]
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_hub_id(name: str) -> bool:
    """Whether a name has the form `org/name`."""
    return _ID.fullmatch(name) is not None


def hub_id(path_or_name: str) -> str | None:
    """A model's name on the hub, if it is from there; None for a path and for all other names."""
    there = is_hub_id(path_or_name) and not Path(path_or_name).exists()
    return path_or_name if there else None


def download(name: str) -> Path:
    """The folder of a model in the local cache, fetched first if need be.

    **Raises:** `UserError` if it is neither in the cache nor to be had.
    """
    from huggingface_hub import snapshot_download

    # The client raises the errors of whichever HTTP library it is built on.
    try:
        return Path(snapshot_download(name, allow_patterns=_ALLOWED, ignore_patterns=["*/*"]))
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(
            f"no such folder, and not to be had from the Hugging Face hub ({reason})",
            where=name,
            hint="download it where there is a network, and give the folder",
        ) from error
