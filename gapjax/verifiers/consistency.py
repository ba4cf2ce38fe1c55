"""Self-consistency: the candidates vote on the answer."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from gapjax.generation import Samples
from gapjax.models import LoadedModel
from gapjax.tasks import Grading, Problem
from gapjax.tasks.boxed import last_boxed
from gapjax.verifiers.base import decoded
from gapjax.verifiers.numbers import final_number
from gapjax.verifiers.words import final_word


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelfConsistency:
    """The score is the share of the N candidates that end in the same final answer.

    With the threshold 0.5 the majority's answers pass. A candidate without a final answer
    scores 0, and has a vote all the same.

    - `method`: what the final answer is: for `"numeric"` the final number (or what stands in its
      place, as it is written), for `"math"` what is inside the last `\\boxed{}` or else the text,
      for `"exact"` the final word or else the text, otherwise the text.

    Source: arXiv:2203.11171 (majority voting over sampled answers).
    """

    method: Grading = "numeric"

    def __call__(
        self, loaded: LoadedModel, problems: Sequence[Problem], samples: Samples
    ) -> Float[np.ndarray, "P N"]:
        del problems
        rows = []
        for texts in decoded(loaded, samples):
            answers = [self._final(text) for text in texts]
            votes = Counter(answers)
            rows.append([0.0 if a is None else votes[a] / len(answers) for a in answers])
        return np.asarray(rows)

    def _final(self, text: str) -> object:
        if self.method == "numeric":
            return final_number(text)
        if self.method == "math":
            boxed = last_boxed(text)
            return text.strip() if boxed is None else boxed or None
        word = final_word(text) if self.method == "exact" else None
        return word or text.strip()
