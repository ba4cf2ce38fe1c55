"""Sampling N answers of each prompt with a key-value cache, in one compiled loop."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, Int, Key

from gapjax.errors import UserError
from gapjax.generation.automaton import ENDED, START
from gapjax.generation.batching import bucketed, chunks, pad_left
from gapjax.generation.draw import Truncation, draw
from gapjax.generation.limits import check_finite, longest_prompt
from gapjax.generation.samples import Samples, with_texts
from gapjax.generation.stops import Stops, StopTable
from gapjax.models.transformer import Prefix, Transformer
from gapjax.parallel.distributed import to_host
from gapjax.parallel.layout import Layout

_SHRINK = 4  # unfinished answers move to a batch of a quarter of the size …
_SMALLEST_BATCH = 8  # … unless that would be smaller than this


def sample(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    *,
    key: Key[Array, ""],
    n: int,
    max_new_tokens: int,
    stop: Stops | Collection[int],
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    sequences_at_once: int = 256,
    first: int = 0,
) -> Samples:
    """Sample `n` answers of every prompt.

    The randomness of an answer depends on `key`, the prompt's index and the sample's
    index alone, so that two models sampled with the same key see the same random
    numbers (common random numbers), however the work is split into batches and devices.

    **Arguments:**

    - `model`: the language model.
    - `prompts`: token ids of P prompts.
    - `key`: a PRNG key.
    - `n`: answers of each prompt; they share its prefill.
    - `max_new_tokens`: at which unfinished answers are cut off.
    - `stop`: what ends an answer: token ids, or what `stops_of` made of stop texts.
    - `temperature`: divides the logits; 0 takes the most likely token.
    - `top_k`: draw from the so many most likely tokens.
    - `top_p`: of those, draw from the fewest that hold this share of the probability.
    - `sequences_at_once`: bounds the memory.
    - `first`: index of the first prompt, if these are a part of more.

    **Raises:** `UserError` if a number makes no sense, or that names a prompt which is empty,
    has tokens that the model does not know, or does not fit its context; `NotFinite` if the
    logits are no numbers.
    """
    _check_settings(n, max_new_tokens, temperature, top_k, top_p)
    width = bucketed(longest_prompt(model.config, prompts, max_new_tokens, first=first))
    at_once = max(1, min(len(prompts), sequences_at_once // n))
    layout = model.layout
    if layout is not None:
        at_once = layout.rows(at_once)
    stops = stop if isinstance(stop, Stops) else Stops(stop)
    graph, state = nnx.split(model)
    parts = []
    for rows in chunks(len(prompts), at_once):
        keys = jax.vmap(functools.partial(jax.random.fold_in, key))(first + rows)
        batch = (*pad_left([prompts[i] for i in rows], width), keys)
        part = _sample(
            graph,
            n,
            max_new_tokens,
            temperature < np.finfo(np.float32).tiny,
            state,
            *(batch if layout is None else layout.place_batch(batch)),
            np.asarray(sorted(stops.tokens), np.int32),
            None if stops.texts is None else stops.texts.table,
            float(temperature),
            Truncation(top_k, None if top_p is None else float(top_p)),
        )
        kept = len(np.unique(rows))
        parts.append([array[:kept] for array in to_host(part[:4])])
        check_finite(parts[-1][1], model.embedding[...].dtype)
    samples = Samples(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
    return samples if stops.texts is None else with_texts(samples, stops)


def _check_settings(
    n: int, max_new_tokens: int, temperature: float, top_k: int | None, top_p: float | None
) -> None:
    for name, count in (("n", n), ("max_new_tokens", max_new_tokens), ("top_k", top_k)):
        if count is not None and count < 1:
            raise UserError(f"{count} is not a positive number", where=name)
    if not 0 <= temperature < np.inf:
        raise UserError(f"{temperature} is not a temperature", where="temperature")
    if top_p is not None and not 0 < top_p <= 1:
        raise UserError(f"{top_p} is not a probability above 0", where="top_p")


class _Answers(NamedTuple):
    """Answers in the making, A × B of them: A prefixes with B answers each."""

    tokens: Int[Array, "A B T"]
    logprobs: Float[Array, "A B T"]
    lengths: Int[Array, "A B"]
    done: Bool[Array, "A B"]
    matching: Int[Array, "A B"] | None  # the automaton's states; None without stop texts


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _sample(
    graph: nnx.GraphDef,
    n: int,
    slots: int,
    greedy: bool,
    state: nnx.State,
    prompts: Int[Array, "P S"],
    prompt_mask: Bool[Array, "P S"],
    keys: Key[Array, " P"],
    stop: Int[Array, " stops"],
    stop_table: StopTable | None,
    temperature: Float[Array, ""] | float,
    truncation: Truncation,
) -> _Answers:
    def answers(state: nnx.State, batch: tuple, settings: tuple) -> _Answers:
        return _answers(nnx.merge(graph, state), n, slots, greedy, *batch, *settings)

    batch, settings = (prompts, prompt_mask, keys), (stop, stop_table, temperature, truncation)
    layout: Layout | None = nnx.merge(graph, state).layout
    if layout is None or not layout.replicated:
        return answers(state, batch, settings)
    # Every device goes on until its own answers are finished: nothing is to be waited for.
    rows = PartitionSpec(layout.batch_axes)
    alone = jax.shard_map(
        answers,
        mesh=layout.mesh,
        in_specs=(PartitionSpec(), rows, PartitionSpec()),
        out_specs=rows,
        check_vma=False,
    )
    return alone(state, batch, settings)


def _answers(
    model: Transformer,
    n: int,
    slots: int,
    greedy: bool,
    prompts: Int[Array, "P S"],
    prompt_mask: Bool[Array, "P S"],
    keys: Key[Array, " P"],
    stop: Int[Array, " stops"],
    stop_table: StopTable | None,
    temperature: Float[Array, ""] | float,
    truncation: Truncation,
) -> _Answers:
    shape = (prompts.shape[0], n)

    def extended(
        answers: _Answers, step: Array, logits: Float[Array, "A B V"], uniforms: Array
    ) -> _Answers:
        """One more token each; finished answers stay as they are."""
        if greedy:
            token = jnp.argmax(logits, axis=-1)
        else:
            token = draw(logits, uniforms[:, :, step], temperature, truncation)
        chosen = jnp.take_along_axis(logits, token[..., None], axis=-1)[..., 0]
        logprob = chosen - jax.nn.logsumexp(logits, axis=-1)
        tokens, logprobs, lengths, done, matching = answers
        # Where logits are no numbers there is nothing to go on with: `sample` refuses the model.
        ends = jnp.isin(token, stop) | ~jnp.isfinite(logprob)
        if stop_table is not None:
            classes, moves = map(jnp.asarray, stop_table)
            matching = moves[classes[token], matching].astype(jnp.int32)
            ends |= matching == ENDED
        return _Answers(
            tokens.at[:, :, step].set(jnp.where(done, 0, token)),
            logprobs.at[:, :, step].set(jnp.where(done, 0.0, logprob)),
            lengths + ~done,
            done | ends,
            matching,
        )

    def decoded(loop: tuple, prefix: Prefix, uniforms: Array, enough: int) -> tuple:
        """Decode until at most `enough` answers are unfinished."""

        def goes_on(loop: tuple) -> Array:
            step, answers, _ = loop
            return (step + 1 < slots) & ((~answers.done).sum() > enough)

        def advance(loop: tuple) -> tuple:
            step, answers, cache = loop
            hidden, cache = model.decode(answers.tokens[:, :, step], step, cache, prefix)
            logits = logits_of(hidden)
            return step + 1, extended(answers, step + 1, logits, uniforms), cache

        return jax.lax.while_loop(goes_on, advance, loop)

    def logits_of(hidden: Float[Array, "*batch M"]) -> Float[Array, "*batch V"]:
        # Whole, where the vocabulary is split: a token is drawn from all of it.
        logits = model.logits(hidden)
        return logits if model.layout is None else model.layout.constrain(logits, "batch")

    hidden, prefix = model.prefill(prompts, prompt_mask, room=slots)
    first = logits_of(hidden[:, -1])[:, None]
    uniforms = jax.vmap(lambda key: jax.random.uniform(key, (n, slots)))(keys)
    answers = extended(
        _Answers(
            jnp.zeros((*shape, slots), jnp.int32),
            jnp.zeros((*shape, slots), jnp.float32),
            jnp.zeros(shape, jnp.int32),
            jnp.zeros(shape, bool),
            None if stop_table is None else jnp.full(shape, START, jnp.int32),
        ),
        jnp.zeros((), jnp.int32),
        jnp.broadcast_to(first, (*shape, model.config.vocab_size)),
        uniforms,
    )
    if slots == 1:
        return answers
    # The last token is never fed back, so the cache has one slot less than the answer.
    cache = model.empty_cache(*shape, slots - 1)

    def finished(loop: tuple, prefix: Prefix, uniforms: Array) -> _Answers:
        """Decode to the end; what is unfinished moves to ever smaller batches.

        Most answers end long before the last one does. In a smaller batch every answer has
        its own copy of its prompt's keys and values.
        """
        total = loop[1].done.size
        size = total // _SHRINK
        # Answers do not move between devices: what that saves is not worth the traffic.
        spread = model.layout is not None and not model.layout.replicated
        if size < _SMALLEST_BATCH or spread:
            return decoded(loop, prefix, uniforms, enough=0)[1]
        step, answers, cache = decoded(loop, prefix, uniforms, enough=size)
        rows = jnp.nonzero(~answers.done.ravel(), size=size, fill_value=total)[0]

        def pick(x: Array) -> Array:
            return x.reshape(total, *x.shape[2:]).at[rows].get(mode="clip")[:, None]

        few: _Answers = jax.tree.map(pick, answers)
        # Places that no unfinished answer takes hold a copy, which must not be continued.
        few = few._replace(done=few.done | (rows == total)[:, None])
        few_prefix = jax.tree.map(
            lambda x: x.at[rows // answers.done.shape[1]].get(mode="clip"), prefix
        )
        few = finished((step, few, jax.tree.map(pick, cache)), few_prefix, pick(uniforms))

        def put_back(x: Array, part: Array) -> Array:
            flat = x.reshape(total, *x.shape[2:]).at[rows].set(part[:, 0], mode="drop")
            return flat.reshape(x.shape)

        return jax.tree.map(put_back, answers, few)

    return finished((jnp.zeros((), jnp.int32), answers, cache), prefix, uniforms)
