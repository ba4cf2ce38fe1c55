"""The model as its own verifier."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.special import expit

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

    Source: arXiv:2507.00075, section on verification methods. The candidate is quoted
    as its sampled tokens, between the two halves of the question.
    """

    before: str = "Question: {prompt}\nProposed answer: "
    after: str = "\nIs the proposed answer true or false? Reply with one word: True or False."
    sequences_at_once: int = 256

    def __call__(
        self, loaded: LoadedModel, problems: Sequence[Problem], samples: Samples
    ) -> Float[np.ndarray, "P N"]:
        tokenizer = loaded.tokenizer
        if tokenizer is None:
            raise UserError("the true/false verifier needs a tokenizer", where="verifier")
        true, false = (
            tokenizer.encode(word, add_special_tokens=False)[0] for word in ("True", "False")
        )
        if true == false:
            raise UserError(
                "the tokenizer cannot tell True from False by their first token",
                where="verifier",
                hint="use the likelihood verifier",
            )
        prefixes, suffixes = [], []
        for p, problem in enumerate(problems):
            before, after = encode_around(
                tokenizer, self.before.replace("{prompt}", problem.prompt), self.after
            )
            prefixes.append(before)
            suffixes.append(
                [samples.text_tokens(p, n) + after for n in range(samples.lengths.shape[1])]
            )
        logits = score_choices(
            loaded.model,
            prefixes,
            suffixes,
            [true, false],
            sequences_at_once=self.sequences_at_once,
        )
        margin = np.asarray(logits[..., 0] - logits[..., 1], np.float64)
        return np.asarray(expit(margin))
