"""A small model that may be asked for verdicts, and writes each letter as a token."""

from __future__ import annotations

import functools
import string

from flax import nnx
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from gapjax.models import LoadedModel, Transformer
from tests.models.tiny import config


def characters(*merges: tuple[str, str]) -> PreTrainedTokenizerFast:
    """SentencePiece's way with a piece a character: "0" is written "▁", "0"."""
    pieces = [
        "<unk>",
        "▁",
        *string.ascii_letters,
        *string.digits,
        *"\n?.:-+=",
        *map("".join, merges),
    ]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    backend = Tokenizer(models.BPE(vocabulary, list(merges), unk_token="<unk>"))
    spelled = normalizers.Replace(" ", "▁")
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spelled])
    steps = [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(steps)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", clean_up_tokenization_spaces=False
    )


@functools.cache
def a_transformer() -> Transformer:
    return Transformer(config("llama, tied"), rngs=nnx.Rngs(0))


def a_model(tokenizer: PreTrainedTokenizerFast) -> LoadedModel:
    return LoadedModel(a_transformer(), tokenizer)
