"""The model as its own verifier: asked about its answers, or not asked at all."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.special import softmax

from gapjax.errors import UserError
from gapjax.generation import Samples, score_choices
from gapjax.models import LoadedModel
from gapjax.models.prompts import encode_around
from gapjax.tasks import Problem


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
    """TF: the score is P(True), normalised over the tokens of "True" and "False".

    - `question`: with `{prompt}` and `{answer}`. The candidate is quoted as its sampled tokens.
    - `temperature`: divides the logits of the verdict.

    Source: arXiv:2507.00075, section on verification methods.
    """

    question: str = (
        "Question: {prompt}\nProposed answer: {answer}\n"
        "Is the proposed answer true or false? Reply with one word: True or False."
    )
    temperature: float = 1.0
    sequences_at_once: int = 256

    def __call__(
        self, loaded: LoadedModel, problems: Sequence[Problem], samples: Samples
    ) -> Float[np.ndarray, "P N"]:
        verdict = _verdict(self, ("True", "False"), loaded, problems, samples)
        return verdict[..., 0]

    def asking(self, loaded: LoadedModel, problem: Problem) -> int:
        """Tokens that it takes to ask about an answer, beside those of the answer."""
        return sum(map(len, _around(self.question, loaded, problem)))

    def check(self, loaded: LoadedModel) -> None:
        """**Raises:** `UserError` if this model cannot be asked."""
        _verdict_tokens(self, ("True", "False"), loaded)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quality:
    """QE: the model grades the answer; the score is the expected grade, scaled to [0, 1].

    The expectation is over the probabilities of the grades' tokens, normalised among
    them, so one question gives a graded score without sampling a verdict.

    - `grades`: from worst to best, evenly spaced; they must differ in their first token.
    - `question`, `temperature`: as for `TrueFalse`.

    Source: arXiv:2507.00075, section on verification methods.
    """

    question: str = (
        "Question: {prompt}\nProposed answer: {answer}\n"
        "Grade the proposed answer from 0 (wrong) to 9 (right). Reply with one digit."
    )
    grades: tuple[str, ...] = tuple("0123456789")
    temperature: float = 1.0
    sequences_at_once: int = 256

    def __call__(
        self, loaded: LoadedModel, problems: Sequence[Problem], samples: Samples
    ) -> Float[np.ndarray, "P N"]:
        verdict = _verdict(self, self.grades, loaded, problems, samples)
        return verdict @ np.linspace(0.0, 1.0, len(self.grades))

    def asking(self, loaded: LoadedModel, problem: Problem) -> int:
        """Tokens that it takes to ask about an answer, beside those of the answer."""
        return sum(map(len, _around(self.question, loaded, problem)))

    def check(self, loaded: LoadedModel) -> None:
        """**Raises:** `UserError` if this model cannot be asked."""
        _verdict_tokens(self, self.grades, loaded)


def _verdict(
    verifier: TrueFalse | Quality,
    words: Sequence[str],
    loaded: LoadedModel,
    problems: Sequence[Problem],
    samples: Samples,
) -> Float[np.ndarray, "P N words"]:
    """Probabilities of the verdicts, normalised among them, for every candidate."""
    tokens = _verdict_tokens(verifier, words, loaded)
    prefixes, suffixes = [], []
    for p, problem in enumerate(problems):
        before, after = _around(verifier.question, loaded, problem)
        prefixes.append(before)
        suffixes.append(
            [samples.text_tokens(p, n) + after for n in range(samples.lengths.shape[1])]
        )
    logits = score_choices(
        loaded.model, prefixes, suffixes, tokens, sequences_at_once=verifier.sequences_at_once
    )
    return softmax(np.asarray(logits, np.float64) / verifier.temperature, axis=-1)


def _around(question: str, loaded: LoadedModel, problem: Problem) -> tuple[list[int], list[int]]:
    """The tokens of a question before the answer, and those after it."""
    assert loaded.tokenizer is not None
    before, after = (
        part.replace("{prompt}", problem.prompt) for part in question.split("{answer}")
    )
    return encode_around(loaded.tokenizer, before, after)


def _verdict_tokens(
    verifier: TrueFalse | Quality, words: Sequence[str], loaded: LoadedModel
) -> list[int]:
    """The first token of each verdict.

    **Raises:** `UserError` if the tokenizer cannot tell the verdicts apart or express the
    question, or the question lacks a hole.
    """
    tokenizer = loaded.tokenizer
    if tokenizer is None:
        raise UserError("a verifier that asks needs a tokenizer", where="verifier")
    tokens = [tokenizer.encode(word, add_special_tokens=False)[0] for word in words]
    if len(set(tokens)) < len(words):
        raise UserError(
            f"the tokenizer cannot tell {' from '.join(words)} by their first token",
            where="verifier",
            hint="use the likelihood verifier",
        )
    if "{prompt}" not in verifier.question or verifier.question.count("{answer}") != 1:
        raise UserError("lacks {prompt} or exactly one {answer}", where="verifier.question")
    # A model of digits alone has one token for all letters, and would be asked nothing.
    asked = tokenizer.encode(verifier.question, add_special_tokens=False)
    if not any(map(str.isalpha, tokenizer.decode(asked, skip_special_tokens=True))):
        raise UserError(
            "the tokenizer has no letters to ask the question with",
            where="verifier",
            hint="use the likelihood verifier",
        )
    return tokens
