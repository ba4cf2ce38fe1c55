"""Finding stop texts in a stream of tokens: a byte automaton, folded into one move a token.

Aho and Corasick's automaton (Communications of the ACM 18(6), 1975) reads bytes and knows at
each of them the longest beginning of a stop text that it may be in. What it does on all the
bytes of a token, from every state, is worked out once for every token of the vocabulary, so that
the sampling loop makes one look-up a token. Most tokens do the same from every state (they lead
back to the beginning): tokens that move alike are one class.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

ENDED, START = 0, 1  # a stop text is complete; nothing has been said yet
_ROOT = 2
_TOKENS_AT_ONCE = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class Automaton:
    """States and moves of the automaton.

    - `moves[state, byte]`: the next state.
    - `matched[state]`: bytes of the longest stop text that is complete there; 0: none is.
    """

    moves: Int[np.ndarray, "states 256"]
    matched: Int[np.ndarray, " states"]

    @classmethod
    def of(cls, texts: Sequence[bytes]) -> Automaton:
        """The automaton of some texts, none of them empty."""
        children: list[dict[int, int]] = [{} for _ in range(_ROOT + 1)]
        matched = [0] * (_ROOT + 1)
        for text in texts:
            state = _ROOT
            for byte in text:
                if byte not in children[state]:
                    children[state][byte] = len(children)
                    children.append({})
                    matched.append(0)
                state = children[state][byte]
            matched[state] = len(text)
        moves = np.full((len(children), 256), _ROOT, np.int16)
        # From the shallowest state on: where one falls back to is complete before it is needed.
        waiting = [(_ROOT, _ROOT)]
        for state, fallback in waiting:
            matched[state] = matched[state] or matched[fallback]
            if state != _ROOT:
                moves[state] = moves[fallback]
            for byte, child in children[state].items():
                behind = _ROOT if state == _ROOT else int(moves[fallback, byte])
                moves[state, byte] = child
                waiting.append((child, behind))
        moves[START] = moves[_ROOT]
        return cls(moves, np.array(matched))

    def first_match(self, data: bytes) -> tuple[int, int] | None:
        """Begin and end of the stop text that is complete first; of several, the longest."""
        state = _ROOT
        for position, byte in enumerate(data, start=1):
            state = int(self.moves[state, byte])
            if length := int(self.matched[state]):
                return position - length, position
        return None

    def fold(
        self, later: Sequence[bytes | None], first: Sequence[bytes | None]
    ) -> tuple[Int[np.ndarray, " tokens"], Int[np.ndarray, "classes states"]]:
        """The class of each token, and where each class leads from each state.

        **Arguments:**

        - `later`, `first`: the bytes of each token, as in `TokenBytes`.
        """
        states = len(self.moves)
        # What is complete stays so.
        bytewise = np.where(self.matched[self.moves] > 0, ENDED, self.moves).astype(np.int16)
        bytewise[ENDED] = ENDED
        known: dict[bytes, int] = {}
        classes = np.zeros(len(later), np.int32)
        everywhere = np.arange(states, dtype=np.int16)
        for begin in range(0, len(later), _TOKENS_AT_ONCE):
            chunk = slice(begin, begin + _TOKENS_AT_ONCE)
            rows = _read(bytewise, later[chunk], everywhere)
            at_first = _read(bytewise, first[chunk], everywhere[_ROOT : _ROOT + 1])[:, 0]
            silent = [piece is None for piece in first[chunk]]
            rows[:, START] = np.where(silent, START, at_first)
            for i, row in enumerate(rows):
                classes[begin + i] = known.setdefault(row.tobytes(), len(known))
        table = np.frombuffer(b"".join(known), np.int16).reshape(len(known), states)
        return classes, table


def _read(
    bytewise: Int[np.ndarray, "states 256"],
    pieces: Sequence[bytes | None],
    begin: Int[np.ndarray, " from"],
) -> Int[np.ndarray, "tokens from"]:
    """The states after some bytes, from each of the states `begin`."""
    at = np.repeat(begin[None], len(pieces), axis=0)
    lengths = np.array([len(piece or b"") for piece in pieces])
    order = np.argsort(-lengths, kind="stable")
    at, lengths = at[order], lengths[order]
    sorted_pieces = [pieces[i] or b"" for i in order]
    for position in range(int(lengths.max(initial=0))):
        count = int((lengths > position).sum())  # those that are long enough come first
        read = np.array([piece[position] for piece in sorted_pieces[:count]])
        at[:count] = bytewise[at[:count], read[:, None]]
    unsorted = np.empty_like(at)
    unsorted[order] = at
    return unsorted
