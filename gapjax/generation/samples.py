"""Sampled answers, and what of each is its text."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from gapjax.generation.stops import Stops


@dataclasses.dataclass(frozen=True)
class Samples:
    """N sampled answers of each of P prompts, right-padded to T tokens.

    What ends an answer is part of it: its probability is the model's belief that the answer
    ends there. The text of an answer ends before the end token, or where a stop text begins,
    which may be within a token: then other tokens spell what comes before it.
    """

    tokens: Int[np.ndarray, "P N T"]  # 0 beyond the length
    logprobs: Float[np.ndarray, "P N T"]  # nats, under the untempered model; 0 beyond
    lengths: Int[np.ndarray, "P N"]  # tokens, those that end the answer included
    finished: Bool[np.ndarray, "P N"]  # False: cut off at max_new_tokens
    # How many of the tokens are text; by default all but the one that ends the answer …
    text_lengths: Int[np.ndarray, "P N"] = dataclasses.field(default=None)  # type: ignore[arg-type]
    # … and tokens that spell the rest of it, -1 beyond.
    text_rests: Int[np.ndarray, "P N R"] = dataclasses.field(default=None)  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        if self.text_lengths is None:
            object.__setattr__(self, "text_lengths", self.lengths - self.finished)
        if self.text_rests is None:
            object.__setattr__(self, "text_rests", np.zeros((*self.lengths.shape, 0), np.int32))

    @property
    def uncertainties(self) -> Float[np.ndarray, "P N"]:
        """Total negative log-likelihoods (nats): `U_f(ŷ|x)` of arXiv:2507.00075."""
        return -np.asarray(self.logprobs, np.float64).sum(axis=-1)

    def answer(self, prompt: int, sample: int) -> list[int]:
        """Token ids of one answer, what ends it included."""
        return self.tokens[prompt, sample, : self.lengths[prompt, sample]].tolist()

    def text_tokens(self, prompt: int, sample: int) -> list[int]:
        """Token ids of the text of one answer, without what ends it."""
        text = self.tokens[prompt, sample, : self.text_lengths[prompt, sample]].tolist()
        return text + [i for i in self.text_rests[prompt, sample].tolist() if i >= 0]

    def answers(self) -> list[list[list[int]]]:
        """Token ids of all answers, ends included, as `score` takes them."""
        prompts, samples = self.lengths.shape
        return [[self.answer(p, n) for n in range(samples)] for p in range(prompts)]


def with_texts(samples: Samples, stops: Stops) -> Samples:
    """The samples with the ends of their texts, where stop texts ended them."""
    assert stops.texts is not None
    lengths, rests = samples.text_lengths.copy(), {}
    ends = set(stops.tokens)
    for place in zip(*np.nonzero(samples.finished), strict=True):
        answer = samples.answer(*place)
        if answer[-1] not in ends:
            lengths[place], rests[place] = stops.texts.cut(answer)
    longest = max(map(len, rests.values()), default=0)
    padded = np.full((*lengths.shape, longest), -1, np.int32)
    for place, rest in rests.items():
        padded[place][: len(rest)] = rest
    return dataclasses.replace(samples, text_lengths=lengths, text_rests=padded)
