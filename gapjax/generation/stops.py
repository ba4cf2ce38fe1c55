"""What ends the answers that are sampled: end tokens, and stop texts of any tokens.

A stop text ends an answer with the token in which it becomes complete, however it is made up of
tokens, and wherever in a token it begins and ends. It is looked for in the bytes of the text, to
which special tokens add nothing; of stop texts that overlap, the one that is complete first
counts, and of those that end together the longest. What is sampled stays as it is, the stop text
included, and so do its log-probabilities; the *text* of the answer ends where the stop text begins.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Array, Int

from gapjax.errors import UserError
from gapjax.generation.automaton import Automaton
from gapjax.models import LoadedModel
from gapjax.models.token_bytes import TokenBytes, token_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Of all stop texts together. Two bytes of memory for each of them and for each token that moves
# differently, so at most a kilobyte a token, and usually a few kilobytes in all.
MOST_BYTES = 512
_WHERE = "sampling.stop"


class StopTable(NamedTuple):
    """Stop texts as the sampling loop looks them up."""

    classes: Int[Array | np.ndarray, " V"]  # of each token
    moves: Int[Array | np.ndarray, "classes states"]  # by class and state, the next state


@dataclasses.dataclass(frozen=True, eq=False)
class StopTexts:
    """Stop texts made ready for the tokens of one tokenizer."""

    table: StopTable
    _automaton: Automaton
    _pieces: TokenBytes
    _longest: int  # bytes

    def cut(self, tokens: list[int]) -> tuple[int, list[int]]:
        """Where the text of an answer ends that ended with a stop text.

        **Returns:** how many of its tokens lie wholly before the stop text; tokens that spell
        what else comes before it. Where no tokens spell that, it is left out.
        """
        pieces = self._pieces.of(tokens)
        ends = np.cumsum([len(piece) for piece in pieces])
        total = int(ends[-1])
        # Nothing before that can be a part of it, and nothing there is complete.
        begin = max(0, total - len(pieces[-1]) - self._longest)
        found = self._automaton.first_match(b"".join(pieces)[begin:])
        assert found is not None
        at = begin + found[0]
        whole = int(np.searchsorted(ends, at, side="right"))
        before = int(ends[whole - 1]) if whole else 0
        if at == before:
            return whole, []
        piece = self._pieces.later[tokens[whole]] or b""
        # The first token of a text may have lost a space, which its spelling will lose too.
        lost = len(piece) - len(pieces[whole])
        return whole, self._spelled(piece[: lost + at - before])

    def _spelled(self, data: bytes) -> list[int]:
        """The fewest tokens that spell some bytes; none if it cannot be done."""
        best: list[list[int] | None] = [[]]
        for end in range(1, len(data) + 1):
            options = [
                [*head, self._by_piece[data[start:end]]]
                for start, head in enumerate(best)
                if head is not None and data[start:end] in self._by_piece
            ]
            best.append(min(options, key=len, default=None))
        return best[-1] or []

    @functools.cached_property
    def _by_piece(self) -> dict[bytes, int]:
        known: dict[bytes, int] = {}
        for token, piece in enumerate(self._pieces.later):
            if piece:
                known.setdefault(piece, token)
        return known


@dataclasses.dataclass(frozen=True, eq=False)
class Stops:
    """Everything that ends an answer; made by `stops_of`.

    - `tokens`: each ends an answer.
    - `texts`: None for none.
    """

    tokens: Collection[int]
    texts: StopTexts | None = None


def stops_of(loaded: LoadedModel, texts: Sequence[str] = ()) -> Stops:
    """What ends the answers of a model.

    **Arguments:**

    - `texts`: stop texts, beside the model's end tokens and the `stop_strings` of its
        `generation_config.json`.

    **Raises:** `UserError` for texts that are empty or too long, and for texts without a
    tokenizer, or with one whose tokens are not known by their bytes.
    """
    config = loaded.generation_config or {}
    own = config.get("stop_strings") or []
    own = [own] if isinstance(own, str) else own
    if not isinstance(own, list) or not all(isinstance(text, str) for text in own):
        raise UserError(
            f"stop_strings = {str(own)[:80]} is neither a text nor a list of them",
            where="generation_config.json",
        )
    wanted = tuple(dict.fromkeys([*texts, *own]))
    if not wanted:
        return Stops(loaded.ends.tokens)
    if loaded.tokenizer is None:
        raise UserError("stop texts need a tokenizer", where=_WHERE)
    _check(wanted)
    tokenizer = loaded.tokenizer
    # Special tokens are no part of the text: those that contain a stop text end it as tokens do.
    special = {
        i
        for i, token in tokenizer.added_tokens_decoder.items()
        if token.special and any(text in token.content for text in wanted)
    }
    tokens = tuple(sorted(special.union(loaded.ends.tokens)))
    # `len`, since a tokenizer may be added to.
    made = _stop_texts(tokenizer, len(tokenizer), loaded.config.vocab_size, wanted)
    return Stops(tokens, made)


def _check(texts: Sequence[str]) -> None:
    for text in texts:
        if not text:
            raise UserError("a stop text is empty", where=_WHERE)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"{text!r:.80} is no text ({error.reason})", where=_WHERE) from error
    total = sum(len(text.encode()) for text in texts)
    if total > MOST_BYTES:
        longest = max(texts, key=len)
        raise UserError(
            f"{total} bytes in all, of which {len(longest.encode())} are {longest[:40]!r}…, are "
            f"more than {MOST_BYTES}",
            where=_WHERE,
            hint="the beginning of a text is enough to stop at",
        )


@functools.lru_cache(maxsize=4)
def _stop_texts(
    tokenizer: PreTrainedTokenizerFast, _length: int, vocab_size: int, texts: tuple[str, ...]
) -> StopTexts:
    pieces = token_bytes(tokenizer, vocab_size)
    encoded = [text.encode() for text in texts]
    automaton = Automaton.of(encoded)
    classes, moves = automaton.fold(pieces.later, pieces.first)
    # Few shapes, so that other texts seldom compile anything.
    rows, columns = (
        max(least, 1 << (count - 1).bit_length())
        for least, count in zip((64, 16), moves.shape, strict=True)
    )
    padded = np.zeros((rows, columns), np.int16)
    padded[: moves.shape[0], : moves.shape[1]] = moves
    return StopTexts(StopTable(classes, padded), automaton, pieces, max(map(len, encoded)))
