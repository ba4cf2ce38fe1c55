"""Log-probabilities of given answers, without an array of [batch, time, vocabulary].

Teacher forcing: each prompt is computed once, its candidates attend to it, and the
vocabulary is touched a few thousand rows at a time.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from gapjax.generation.batching import bucketed, chunks, pad_left, pad_right
from gapjax.generation.limits import check_finite, longest_prompt
from gapjax.models.transformer import Transformer
from gapjax.parallel.distributed import to_host
from gapjax.parallel.layout import Layout

_LOGITS_AT_ONCE = 2**24  # elements of the largest logits array: 64 MiB in float32


def token_logprobs(
    hidden: Float[Array, "*batch M"],
    table: Float[Array, "V M"],
    targets: Int[Array, "*batch"],
    layout: Layout | None = None,
) -> Float[Array, "*batch"]:
    """`log softmax(hidden @ table.T)[targets]` in nats, a slice of rows at a time.

    The logits of a slice are computed again in the backward pass rather than kept.

    **Arguments:**

    - `layout`: how they lie on several devices, each of which then slices its own rows.
    """

    @jax.checkpoint
    def row(args: tuple[Array, Array]) -> Array:
        hidden_row, target = args
        logits = jnp.einsum("...m,vm->...v", hidden_row, table, preferred_element_type=jnp.float32)
        if layout is not None:
            logits = layout.constrain(logits, "batch", "vocabulary")
        chosen = jnp.take_along_axis(logits, target[..., None], axis=-1)[..., 0]
        return chosen - jax.nn.logsumexp(logits, axis=-1)

    if layout is None:
        flat = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
        rows = max(1, min(targets.size, _LOGITS_AT_ONCE // table.shape[0]))
        return jax.lax.map(row, flat, batch_size=rows).reshape(targets.shape)
    # A "row" is one token of every prompt, since the prompts are on different devices.
    prompts = len(targets)
    by_token = (
        hidden.reshape(prompts, -1, hidden.shape[-1]).swapaxes(0, 1),
        targets.reshape(prompts, -1).swapaxes(0, 1),
    )
    elements = table.shape[0] * prompts // layout.batch_shards
    rows = max(1, min(len(by_token[0]), _LOGITS_AT_ONCE // elements))
    values = jax.lax.map(row, by_token, batch_size=rows)
    return values.swapaxes(0, 1).reshape(targets.shape)


def answer_logprobs(
    model: Transformer,
    prompts: Int[Array, "P S"],
    prompt_mask: Bool[Array, "P S"],
    answers: Int[Array, "P N L"],
    answer_mask: Bool[Array, "P N L"],
    *,
    room: Int[Array, ""] | int | None = None,
) -> Float[Array, "P N L"]:
    """Log-probability (nats) of every answer token given the prompt and what precedes it.

    Differentiable in the model: scoring and the training loss are this one function.

    **Arguments:**

    - `prompts`, `prompt_mask`: left-padded prompts.
    - `answers`, `answer_mask`: N right-padded answers of each prompt.
    - `room`: as in `score`.

    **Returns:** zero at padding.
    """
    room = longest(answer_mask) if room is None else room
    last, prefix = model.prefill(prompts, prompt_mask, room=room)
    hidden = model.extend(answers, answer_mask, prefix)
    # The token at position l is predicted from the position before it; the first one
    # from the end of the prompt.
    first = jnp.broadcast_to(last[:, None, -1:], (*answers.shape[:2], 1, last.shape[-1]))
    predicting = jnp.concatenate([first, hidden[:, :, :-1]], axis=2)
    logprobs = token_logprobs(predicting, model.output_table(), answers, model.layout)
    return jnp.where(answer_mask, logprobs, 0.0)


def longest(mask: Bool[Array, "P N L"]) -> Int[Array, " P"]:
    return mask.sum(axis=-1).max(axis=-1)


@functools.partial(jax.jit, static_argnums=0)
def _answer_logprobs(
    graph: nnx.GraphDef, state: nnx.State, room: int | None, *arrays: Array
) -> Array:
    return answer_logprobs(nnx.merge(graph, state), *arrays, room=room)


def score(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[Sequence[int]]],
    *,
    sequences_at_once: int = 256,
    room: int | None = None,
) -> list[list[Float[np.ndarray, " L"]]]:
    """Teacher-forced per-token log-probabilities (nats) of answers under a model.

    **Arguments:**

    - `prompts`: token ids of P prompts.
    - `answers`: for each prompt the token ids of its N answers, the same N for all.
    - `sequences_at_once`: bounds the memory; answers of several prompts share a batch.
    - `room`: how many tokens each prompt had room for, by default its longest answer. It
        decides which factors longrope takes, and nothing else: the `max_new_tokens` of
        sampled answers gives the log-probabilities that they were sampled with.

    **Returns:** for each prompt and answer an array as long as the answer.

    **Raises:** `UserError` for a prompt that does not fit the context with the longest answer;
    `NotFinite` if the logits are no numbers.
    """
    graph, state = nnx.split(model)
    values = np.concatenate(
        [
            to_host(_answer_logprobs(graph, state, room, *arrays))[:kept]
            for arrays, kept in batches(model, prompts, answers, sequences_at_once)
        ]
    )
    check_finite(values, model.embedding[...].dtype)
    return [
        [row[: len(answer)] for row, answer in zip(rows, group, strict=True)]
        for rows, group in zip(values, answers, strict=True)
    ]


def batches(
    model: Transformer,
    prefixes: Sequence[Sequence[int]],
    suffixes: Sequence[Sequence[Sequence[int]]],
    sequences_at_once: int,
) -> Iterator[tuple[tuple[Any, ...], int]]:
    """Rectangular batches of one shape, each with the number of its rows that count."""
    n, layout = len(suffixes[0]), model.layout
    behind = [max(map(len, group)) for group in suffixes]
    width = bucketed(longest_prompt(model.config, prefixes, behind))
    length = bucketed(max(behind))
    at_once = max(1, min(len(prefixes), sequences_at_once // n))
    if layout is not None:
        at_once = layout.rows(at_once)
    for rows in chunks(len(prefixes), at_once):
        left = pad_left([prefixes[i] for i in rows], width)
        right = pad_right([suffix for i in rows for suffix in suffixes[i]], length)
        shaped = (array.reshape(at_once, n, length) for array in right)
        arrays = (*left, *shaped)
        yield arrays if layout is None else layout.place_batch(arrays), len(np.unique(rows))
