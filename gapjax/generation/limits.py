"""What a model can take, tokens that it knows and as many as its context holds; and what it gives:
log-probabilities that are numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from gapjax.errors import UserError
from gapjax.models.config import DecoderConfig


def longest_prompt(
    config: DecoderConfig,
    prompts: Sequence[Sequence[int]],
    room: int | Sequence[int],
    *,
    first: int = 0,
) -> int:
    """Length (tokens) of the longest prompt.

    **Arguments:**

    - `room`: tokens that are to fit behind each, or behind one after the other.
    - `first`: index of the first prompt, if these are a part of more.

    **Raises:** `UserError` that names the prompt if one is empty, has tokens that the model does
    not know, or does not fit its context.
    """
    if not prompts:
        raise UserError("there are no prompts")
    rooms = [room] * len(prompts) if isinstance(room, int) else room
    for number, (prompt, behind) in enumerate(zip(prompts, rooms, strict=True), start=first + 1):
        name = f"prompt {number}" if first or len(prompts) > 1 else "the prompt"
        check_tokens(config, prompt, name)
        if len(prompt) + behind > config.context:
            raise UserError(
                f"{name} has {len(prompt)} tokens, which with {behind} new ones exceed the model's "
                f"context of {config.context} tokens",
                hint="shorten the prompt or lower max_new_tokens",
            )
    return max(map(len, prompts))


def check_tokens(config: DecoderConfig, prompt: Sequence[int], name: str) -> None:
    """**Raises:** `UserError` for a prompt without tokens, or with unknown ones.

    **Arguments:**

    - `name`: of the prompt, for people.
    """
    if not prompt:
        raise UserError(f"{name} has no tokens")
    if not 0 <= min(prompt) <= max(prompt) < config.vocab_size:
        raise UserError(
            f"{name} has a token outside the model's vocabulary of {config.vocab_size}",
            hint="the tokenizer belongs to another model",
        )


class NotFinite(UserError):
    """A model's logits are NaN or infinite."""


def check_finite(logprobs: np.ndarray, dtype: jnp.dtype) -> None:
    """Refuse log-probabilities that are no numbers.

    **Arguments:**

    - `logprobs`: of all answers, a prompt a row, 0 beyond their ends.
    - `dtype`: what the model computes in, for the message.

    **Raises:** `NotFinite` with the number of prompts concerned.
    """
    rows = ~np.isfinite(logprobs).all(axis=tuple(range(1, logprobs.ndim)))
    if not rows.any():
        return
    hint = "are these the right weights for this configuration?"
    if dtype == jnp.float16:
        hint = "many models overflow in float16: take bfloat16 or float32"
    raise NotFinite(
        f"the model's logits in {dtype.name} are NaN or infinite after {int(rows.sum())} of "
        f"{len(rows)} prompts",
        hint=hint,
    )
