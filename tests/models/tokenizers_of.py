"""Small tokenizers of every way of putting texts together."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import AddedToken, Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

EOS = "<eos>"

DECODERS = {
    "byte level": decoders.ByteLevel(),
    # Llama 2's `tokenizer.json`.
    "sentencepiece": decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    ),
    # Gemma's: no space is put before a text.
    "sentencepiece, no prefix": decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    ),
    "metaspace": decoders.Metaspace(),
    "metaspace, never": decoders.Metaspace(prepend_scheme="never"),
    "fuse": decoders.Fuse(),
    "none": None,
}


def with_tokens(decoder: object, tokens: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of these tokens, `<eos>` among them; any other in `<…>` is added, too."""
    backend = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, EOS))
    if decoder is not None:
        backend.decoder = decoder
    backend.add_special_tokens([EOS, *(t for t in tokens if t.startswith("<special"))])
    added = [t for t in tokens if t.startswith("<added")]
    backend.add_tokens([AddedToken(t, special=False) for t in added])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=EOS, clean_up_tokenization_spaces=False
    )
