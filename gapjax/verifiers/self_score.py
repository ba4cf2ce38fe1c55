"""The model as its own verifier: asked about its answers, or not asked at all."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp, softmax

from gapjax.errors import UserError
from gapjax.generation import Samples, score_choices
from gapjax.models import LoadedModel
from gapjax.models.prompts import encode_after, encode_around
from gapjax.tasks import Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class Verdict(NamedTuple):
    """What a model says of N candidates of each of P problems, of some words.

    - `probabilities`: normalised among the words.
    - `log_mass`: the logarithm (nats) of what they have in all: near 0 if the model answers with
        one of them, far below it if it would say something else.
    """

    probabilities: Float[np.ndarray, "P N words"]
    log_mass: Float[np.ndarray, "P N"]


class _Spelling(NamedTuple):
    word: str
    spaced: bool  # with a space before it
    tokens: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Likelihood:
    """No question asked: every candidate passes, and its likelihood alone decides."""

    def __call__(
        self, loaded: LoadedModel, problems: Sequence[Problem], samples: Samples
    ) -> Float[np.ndarray, "P N"]:
        del loaded, problems
        return np.ones(samples.lengths.shape)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrueFalse:
    """TF: the score is P(True), normalised over "True" and "False".

    - `question`: with `{prompt}` and `{answer}`. The candidate is quoted as its sampled tokens.
    - `temperature`: divides the logarithms of the verdicts' probabilities. Each is that of all
        its tokens, written with or without a space before it.
    - `least_mass`: probability that the verdicts must have in all, for there to be a score: a model
        that would say something else, such as a thought, has not judged.

    Source: arXiv:2507.00075, section on verification methods.
    """

    question: str = (
        "Question: {prompt}\nProposed answer: {answer}\n"
        "Is the proposed answer true or false? Reply with one word: True or False."
    )
    temperature: float = 1.0
    least_mass: float = 0.01
    sequences_at_once: int = 256

    def __call__(
        self, loaded: LoadedModel, problems: Sequence[Problem], samples: Samples
    ) -> Float[np.ndarray, "P N"]:
        """Scores in [0, 1]; NaN: no verdict.

        **Raises:** `UserError` if there is none for more than half of the candidates.
        """
        verdict = _verdict(self, ("True", "False"), loaded, problems, samples)
        return _where_given(verdict, verdict.probabilities[..., 0], self.least_mass)

    def asking(self, loaded: LoadedModel, problem: Problem) -> int:
        """Tokens that it takes to ask about an answer, beside those of the answer."""
        return _asking(self, ("True", "False"), loaded, problem)

    def check(self, loaded: LoadedModel) -> None:
        """**Raises:** `UserError` if this model cannot be asked."""
        _spellings(self.question, ("True", "False"), loaded.tokenizer)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quality:
    """QE: the model grades the answer; the score is the expected grade, scaled to [0, 1].

    The expectation is over the probabilities of the grades, normalised among them, so one
    question gives a graded score without sampling a verdict.

    - `grades`: from worst to best, evenly spaced.
    - `question`, `temperature`, `least_mass`: as for `TrueFalse`.

    Source: arXiv:2507.00075, section on verification methods.
    """

    question: str = (
        "Question: {prompt}\nProposed answer: {answer}\n"
        "Grade the proposed answer from 0 (wrong) to 9 (right). Reply with one digit."
    )
    grades: tuple[str, ...] = tuple("0123456789")
    temperature: float = 1.0
    least_mass: float = 0.01
    sequences_at_once: int = 256

    def __call__(
        self, loaded: LoadedModel, problems: Sequence[Problem], samples: Samples
    ) -> Float[np.ndarray, "P N"]:
        """Scores in [0, 1]; NaN: no verdict.

        **Raises:** `UserError` if there is none for more than half of the candidates.
        """
        verdict = _verdict(self, self.grades, loaded, problems, samples)
        expected = verdict.probabilities @ np.linspace(0.0, 1.0, len(self.grades))
        return _where_given(verdict, expected, self.least_mass)

    def asking(self, loaded: LoadedModel, problem: Problem) -> int:
        """Tokens that it takes to ask about an answer, beside those of the answer."""
        return _asking(self, self.grades, loaded, problem)

    def check(self, loaded: LoadedModel) -> None:
        """**Raises:** `UserError` if this model cannot be asked."""
        _spellings(self.question, self.grades, loaded.tokenizer)


def _verdict(
    verifier: TrueFalse | Quality,
    words: Sequence[str],
    loaded: LoadedModel,
    problems: Sequence[Problem],
    samples: Samples,
) -> Verdict:
    """The verdict on every candidate."""
    spellings = _spellings(verifier.question, tuple(words), loaded.tokenizer)
    prefixes, suffixes = [], []
    for p, problem in enumerate(problems):
        before, after = _around(verifier.question, loaded, problem)
        # So that no suffix is empty, whatever the answer.
        before, lead = (before, []) if after else (before[:-1], before[-1:])
        prefixes.append(before)
        answers = [samples.text_tokens(p, n) for n in range(samples.lengths.shape[1])]
        suffixes.append([lead + answer + after for answer in answers])
    logprobs = score_choices(
        loaded.model,
        prefixes,
        suffixes,
        [spelling.tokens for spelling in spellings],
        sequences_at_once=verifier.sequences_at_once,
    )
    # After white space a verdict begins without any.
    ends = [[_ends_in_space(loaded, suffix) for suffix in group] for group in suffixes]
    spaced = [spelling.spaced for spelling in spellings]
    logprobs = np.where(np.array(ends)[..., None] & spaced, -np.inf, logprobs)
    of_word = [[s.word == word for s in spellings] for word in words]
    totals = np.stack([logsumexp(logprobs[..., own], axis=-1) for own in of_word], axis=-1)
    return Verdict(softmax(totals / verifier.temperature, axis=-1), logsumexp(totals, axis=-1))


def _where_given(
    verdict: Verdict, scores: Float[np.ndarray, "P N"], least_mass: float
) -> Float[np.ndarray, "P N"]:
    mass = np.exp(verdict.log_mass)
    scores = np.where(mass >= least_mass, scores, np.nan)
    if (missing := int(np.isnan(scores).sum())) > scores.size / 2:
        raise UserError(
            f"the model gives the verdicts it may reply with {np.median(mass):.2g} of the "
            f"probability, so that {missing} of {scores.size} candidates have no score",
            where="verifier",
            hint="it may be one that thinks first: use another verifier.method or question, "
            "or lower verifier.least_mass",
        )
    return scores


def _ends_in_space(loaded: LoadedModel, tokens: list[int]) -> bool:
    assert loaded.tokenizer is not None
    return loaded.tokenizer.decode(tokens[-8:])[-1:].isspace()  # of a few, since bytes are tokens


def _around(question: str, loaded: LoadedModel, problem: Problem) -> tuple[list[int], list[int]]:
    """The tokens of a question before the answer, and those after it."""
    assert loaded.tokenizer is not None
    before, after = question.split("{answer}")
    prompt = problem.prompt
    return encode_around(
        loaded.tokenizer,
        before.replace("{prompt}", prompt),
        after.replace("{prompt}", prompt),
        loaded.framing,
    )


def _asking(
    verifier: TrueFalse | Quality, words: Sequence[str], loaded: LoadedModel, problem: Problem
) -> int:
    spellings = _spellings(verifier.question, tuple(words), loaded.tokenizer)
    # The last token of a verdict is not read.
    verdict = max(len(spelling.tokens) for spelling in spellings) - 1
    return sum(map(len, _around(verifier.question, loaded, problem))) + verdict


@functools.lru_cache(maxsize=8)
def _spellings(
    question: str, words: tuple[str, ...], tokenizer: PreTrainedTokenizerFast | None
) -> tuple[_Spelling, ...]:
    """How each verdict may be written, with and without a space before it.

    **Raises:** `UserError` if the tokenizer cannot write the verdicts, tell them apart or express
    the question, or the question lacks a hole.
    """
    if tokenizer is None:
        raise UserError("a verifier that asks needs a tokenizer", where="verifier")
    if "{prompt}" not in question or question.count("{answer}") != 1:
        raise UserError("lacks {prompt} or exactly one {answer}", where="verifier.question")
    # A model of digits alone has one token for all letters, and would be asked nothing.
    asked = tokenizer.encode(question, add_special_tokens=False)
    if not any(map(str.isalpha, tokenizer.decode(asked, skip_special_tokens=True))):
        raise UserError(
            "the tokenizer has no letters to ask the question with",
            where="verifier",
            hint="use the likelihood verifier",
        )
    found: dict[tuple[int, ...], _Spelling] = {}
    for word in words:
        for spaced in (False, True):
            tokens = tuple(encode_after(tokenizer, " " * spaced + word))
            if tokenizer.decode(tokens).strip() != word:
                raise UserError(
                    f"the tokenizer cannot write {word!r}",
                    where="verifier",
                    hint="use the likelihood verifier",
                )
            # The same where a tokenizer does not care for spaces.
            found.setdefault(tokens, _Spelling(word, spaced, tokens))
    return tuple(found.values())
