"""What a verifier is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float

from gapjax.errors import UserError
from gapjax.generation import Samples
from gapjax.models import LoadedModel
from gapjax.tasks import Problem


class Verifier(Protocol):
    """Scores candidates. It never sees the reference answer when it is the model itself."""

    def __call__(
        self, loaded: LoadedModel, problems: Sequence[Problem], samples: Samples
    ) -> Float[np.ndarray, "P N"]:
        """Scores in [0, 1], one for each of the N candidates of each of the P problems."""
        ...


def decoded(loaded: LoadedModel, samples: Samples) -> tuple[tuple[str, ...], ...]:
    """The texts of N answers of each of P prompts, without special tokens.

    **Raises:** `UserError` if the model has no tokenizer.
    """
    tokenizer = loaded.tokenizer
    if tokenizer is None:
        raise UserError("the model has no tokenizer")
    prompts, n = samples.lengths.shape
    return tuple(
        tuple(
            tokenizer.decode(samples.text_tokens(p, i), skip_special_tokens=True) for i in range(n)
        )
        for p in range(prompts)
    )
