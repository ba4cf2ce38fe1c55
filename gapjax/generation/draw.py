"""Drawing one token from logits: temperature, truncation, and a cheap categorical sampler.

On a CPU, sorting 64 rows of a vocabulary of 49k tokens takes seconds, and a Gumbel variate for
each of them longer than the decoder itself. So nothing here sorts, and a token costs one uniform.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_CDF_BLOCK = 256


class Truncation(NamedTuple):
    """Which tokens may be drawn; the cuts apply in this order, each to what the last one left.

    Tokens exactly as probable as the last one kept are kept too.
    """

    top_k: Int[Array, ""] | int | None = None  # the k most probable tokens
    top_p: Float[Array, ""] | float | None = None  # the fewest that hold this probability


def draw(
    logits: Float[Array, "*batch V"],
    uniform: Float[Array, "*batch"],
    temperature: Float[Array, ""] | float,
    truncation: Truncation,
) -> Int[Array, "*batch"]:
    """A token with the probability that `softmax(logits / temperature)`, truncated, gives it.

    Temperature first, then top-k (arXiv:1805.04833), then top-p (arXiv:1904.09751), as in
    transformers.

    **Arguments:**

    - `uniform`: one number in [0, 1) for each token, all the randomness there is.
    """
    weights = jnp.exp((logits - logits.max(axis=-1, keepdims=True)) / temperature)
    return inverse_cdf(truncated(weights, truncation), uniform)


def truncated(
    weights: Float[Array, "*batch V"], truncation: Truncation
) -> Float[Array, "*batch V"]:
    """Unnormalised probabilities, zero where a token must not be drawn."""
    if truncation.top_k is not None:
        every = jnp.ones_like(weights)
        weights = _head(weights, every, jnp.full(weights.shape[:-1], truncation.top_k, jnp.float32))
    if truncation.top_p is not None:
        weights = _head(weights, weights, truncation.top_p * weights.sum(axis=-1))
    return weights


def _head(
    weights: Float[Array, "*batch V"],
    sizes: Float[Array, "*batch V"],
    enough: Float[Array, "*batch"],
) -> Float[Array, "*batch V"]:
    """The largest weights, as few as have a total size of `enough`; zero elsewhere.

    Bisection over the threshold. Floating-point numbers that are not negative have the order
    of their bit patterns, so 31 halvings end at the very weight of the last token kept.
    """

    def halve(_: int, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = low + (high - low) // 2
        threshold = jax.lax.bitcast_convert_type(middle, jnp.float32)
        kept = jnp.where(weights >= threshold[..., None], sizes, 0.0).sum(axis=-1)
        return jnp.where(kept >= enough, middle, low), jnp.where(kept >= enough, high, middle)

    # Invariant: `low` keeps enough (zero keeps everything), `high` (above all weights) does not.
    high = jax.lax.bitcast_convert_type(weights.max(axis=-1), jnp.int32) + 1
    low, _ = jax.lax.fori_loop(0, 31, halve, (jnp.zeros_like(high), high))
    threshold = jax.lax.bitcast_convert_type(low, jnp.float32)
    return jnp.where(weights >= threshold[..., None], weights, 0.0)


def inverse_cdf(
    weights: Float[Array, "*batch V"], uniform: Float[Array, "*batch"]
) -> Int[Array, "*batch"]:
    """Draw an index with probability proportional to `weights`, from one uniform each.

    In two steps, first a block of the vocabulary and then a token in it, since a long
    cumulative sum is slow.
    """
    padding = -weights.shape[-1] % _CDF_BLOCK
    blocks = jnp.pad(weights, [(0, 0)] * (weights.ndim - 1) + [(0, padding)])
    blocks = blocks.reshape(*weights.shape[:-1], -1, _CDF_BLOCK)
    ends = jnp.cumsum(blocks.sum(axis=-1), axis=-1)
    target = uniform * ends[..., -1]
    # `ends <= target` counts the blocks left of the target, empty ones included.
    block = (ends <= target[..., None]).sum(axis=-1)
    inside = jnp.take_along_axis(blocks, block[..., None, None], axis=-2)[..., 0, :]
    before = jnp.take_along_axis(ends, jnp.maximum(block - 1, 0)[..., None], axis=-1)[..., 0]
    target = target - jnp.where(block > 0, before, 0.0)
    token_ends = jnp.cumsum(inside, axis=-1)
    # Rounding may leave the target at or past the block's end: take its last real token.
    last = _CDF_BLOCK - 1 - jnp.argmax(inside[..., ::-1] > 0, axis=-1)
    token = jnp.minimum((token_ends <= target[..., None]).sum(axis=-1), last)
    return block * _CDF_BLOCK + token
