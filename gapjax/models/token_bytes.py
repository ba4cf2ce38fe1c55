"""What each token of a tokenizer adds to a text, in bytes.

A token need not be a whole number of characters, so texts are put together from bytes. They are
what `tokenizer.decode(…, skip_special_tokens=True)` puts together, before it turns them into
characters.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from gapjax.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclasses.dataclass(frozen=True, eq=False)
class TokenBytes:
    """Bytes by token id.

    - `later`: of a token that follows others; None: it is no part of the text, as special
        tokens and ids without a token are.
    - `first`: of the first token of the text, which loses the space that SentencePiece puts
        before any text.
    """

    later: tuple[bytes | None, ...]
    first: tuple[bytes | None, ...]

    def of(self, tokens: list[int]) -> list[bytes]:
        """The bytes that each of the tokens of a whole text adds to it."""
        pieces, begun = [], False
        for token in tokens:
            piece = (self.later if begun else self.first)[token]
            begun = begun or piece is not None
            pieces.append(piece or b"")
        return pieces


def token_bytes(tokenizer: PreTrainedTokenizerFast, vocab_size: int) -> TokenBytes:
    """The bytes of all tokens that a model may sample.

    **Raises:** `UserError` for a tokenizer whose way of putting texts together is not known.
    """
    backend = tokenizer.backend_tokenizer
    decoder = backend.decoder
    steps = _steps(None if decoder is None else json.loads(decoder.__getstate__()))
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    later: list[bytes | None] = [None] * vocab_size
    first = later.copy()
    for text, i in backend.get_vocab(with_added_tokens=True).items():
        if i < vocab_size and i not in special:
            later[i] = _piece(text, steps, is_first=False)
            first[i] = _piece(text, steps, is_first=True)
    return TokenBytes(tuple(later), tuple(first))


_Step = tuple[str, Any]


def _steps(decoder: dict[str, Any] | None) -> list[_Step]:
    """What is done to a token, one after the other.

    **Raises:** `UserError` for anything that depends on more than the token and on whether it is
    the first.
    """
    if decoder is None:
        return [("spaced", None)]
    found: list[_Step] = []
    fused = False
    for step in decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]:
        kind = step["type"]
        match step:
            case {"type": "ByteLevel"} if not fused:
                found.append(("byte level", None))
            case {"type": "ByteFallback"} if not fused:
                found.append(("byte fallback", None))
            case {"type": "Replace", "pattern": {"String": old}, "content": new} if not fused:
                found.append(("replace", (old, new)))
            case {"type": "Metaspace", "replacement": mark} if not fused:
                drops = step.get("prepend_scheme", "always") != "never"
                found.append(("metaspace", (mark, drops)))
            case {"type": "Fuse"}:
                fused = True
            case {"type": "Strip", "content": mark, "start": count, "stop": 0}:
                found.append(("strip first" if fused else "strip", (mark, count)))
            case _:
                raise UserError(
                    f"is not possible with a tokenizer that decodes by {kind}",
                    where="sampling.stop",
                    hint="leave it out: the model's end tokens end its answers",
                )
    return found


def _piece(text: str, steps: list[_Step], *, is_first: bool) -> bytes:
    for kind, how in steps:
        match kind:
            case "spaced":
                return (text if is_first else " " + text).encode()
            case "byte level":
                if all(character in _BYTES for character in text):
                    return bytes(_BYTES[character] for character in text)
            case "byte fallback":
                if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
                    try:
                        value = bytes([int(text[3:5], 16)])
                    except ValueError:
                        continue
                    return value.lstrip(b" ") if is_first and _strips(steps) else value
            case "replace":
                text = text.replace(*how)
            case "metaspace":
                mark, drops = how
                text = text.replace(mark, "" if is_first and drops else " ")
            case "strip":
                text = _stripped(text, *how)
            case "strip first":
                text = _stripped(text, *how) if is_first else text
    return text.encode("utf-8", errors="replace")


def _strips(steps: list[_Step]) -> bool:
    return any(kind == "strip first" for kind, _ in steps)


def _stripped(text: str, mark: str, count: int) -> str:
    """Without up to `count` marks at the beginning."""
    for _ in range(count):
        text = text.removeprefix(mark)
    return text


def _byte_level_alphabet() -> dict[str, int]:
    """GPT-2's spelling of bytes: printable ones as they are, others from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    spelled = {chr(byte): byte for byte in printable}
    return spelled | {chr(0x100 + n): byte for n, byte in enumerate(others)}


_BYTES = _byte_level_alphabet()
