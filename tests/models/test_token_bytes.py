"""The bytes of tokens make the texts that tokenizers make of them."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import decoders

from gapjax.errors import UserError
from gapjax.models.token_bytes import token_bytes
from tests.models.tokenizers_of import DECODERS, EOS, with_tokens

# "é" in the alphabet of byte-level tokenizers is Ã and ©; Ċ is a line break, Ġ a space.
TOKENS = {
    "byte level": [EOS, "a", "Ġa", "Ã", "©", "Ċ", "aĊ", "ĠĠ", "<special 1>", "<added é>", "Ã©a"],
    "sentencepiece": [
        *(EOS, "a", "▁a", "▁", "▁▁", "<0xC3>", "<0xA9>", "<0x0A>", "<0x20>", "<0xZZ>"),
        *("é", "a▁", "<special 1>", "<added 1>", "▁▁a"),
    ],
    "metaspace": [EOS, "a", "▁a", "▁", "a▁b", "é", "<special 1>", "<added 1>"],
    "fuse": [EOS, "a", " a", "é", "<special 1>"],
}
TOKENS["none"] = TOKENS["fuse"]


@pytest.mark.fast
@pytest.mark.parametrize("name", DECODERS)
def test_texts_equal_those_of_the_tokenizer(name: str) -> None:
    tokens = TOKENS[name.split(",")[0]]
    tokenizer = with_tokens(DECODERS[name], tokens)
    assert tokenizer.convert_ids_to_tokens(range(len(tokens))) == tokens
    pieces = token_bytes(tokenizer, len(tokens) + 3)  # some ids of the model have no token
    rng, compared = np.random.default_rng(0), 0
    for _ in range(3000):
        ids = rng.integers(0, len(tokens), rng.integers(1, 6)).tolist()
        data = b"".join(pieces.of([len(tokens), *ids, len(tokens) + 2]))
        try:
            text = data.decode()
        except UnicodeDecodeError:  # a part of a character, which is decoded as "�"
            continue
        compared += 1
        assert text == tokenizer.decode(ids, skip_special_tokens=True), ids
    assert compared > 500


def test_texts_of_smollm2(smollm2) -> None:
    tokenizer, size = smollm2.tokenizer, smollm2.config.vocab_size
    pieces = token_bytes(tokenizer, size)
    rng = np.random.default_rng(0)
    for ids in rng.integers(0, size, (400, 4)).tolist():
        text = b"".join(pieces.of(ids)).decode(errors="replace")
        assert text == tokenizer.decode(ids, skip_special_tokens=True)


@pytest.mark.fast
def test_other_ways_of_putting_texts_together_are_refused() -> None:
    for decoder in (
        decoders.WordPiece(),
        decoders.BPEDecoder(),
        decoders.CTC(),
        decoders.Strip("a", 0, 1),
        decoders.Sequence([decoders.Fuse(), decoders.ByteFallback()]),
    ):
        with pytest.raises(UserError, match=r"sampling\.stop: is not possible with a tokenizer"):
            token_bytes(with_tokens(decoder, [EOS, "a"]), 2)
