"""The decoder, in Flax NNX.

Shapes are named as follows: `P` prompts, `N` continuations of each prompt, `L` new
tokens of each continuation, `S` prompt (prefix) tokens, `T` slots of a continuation's
own cache, `H` query heads, `K` key-value heads, `G = H / K`, `D` head size, `M` model
width, `V` vocabulary.

All N continuations of a prompt attend to *one* copy of its keys and values. Sampling
N answers, scoring N candidates and the plain forward pass (N = 1, no prefix) are thus
the same code, and a prompt is never computed twice.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from gapjax.models.config import DecoderConfig
from gapjax.models.layers import MLP, Linear, RMSNorm, parameter
from gapjax.models.rope import Rotation, is_long, rotation
from gapjax.parallel.layout import Layout

# What of a layer is kept for the backward pass, rather than computed again: everything, the
# results of its matrix products, nothing.
Remat = Literal["none", "dots", "full"]

_Result = TypeVar("_Result")
_MASKED = -1e30  # finite, so that a fully masked (padding) row stays free of NaN


class LayerKV(NamedTuple):
    """Keys and values of one layer, rotary positions already applied."""

    k: Float[Array, "*batch T K D"]
    v: Float[Array, "*batch T K D"]


class Prefix(NamedTuple):
    """What continuations need to know of their prompt."""

    layers: tuple[LayerKV, ...]
    mask: Bool[Array, "P S"]
    long: Bool[Array, " P"]  # takes the long factors of longrope

    @property
    def lengths(self) -> Int[Array, " P"]:
        """Number of real (not padding) prompt tokens: the position of the next token."""
        return self.mask.sum(axis=-1)


class Visible(NamedTuple):
    """Which keys each query attends to."""

    own: Bool[Array, "P N L T"]
    prefix: Bool[Array, "P _ _ S"] | None


def _attend(
    q: Float[Array, "P N L H D"],
    own: LayerKV,
    prefix: LayerKV | None,
    visible: Visible,
) -> Float[Array, "P N L H D"]:
    """Softmax attention over the shared prefix and each continuation's own keys."""
    p, n, length, heads, size = q.shape
    q = q.reshape(p, n, length, own.k.shape[-2], -1, size) / size**0.5
    scores = jnp.einsum("pnlkgd,pntkd->pnkglt", q, own.k).astype(jnp.float32)
    scores = jnp.where(visible.own[:, :, None, None], scores, _MASKED)
    if prefix is not None:
        assert visible.prefix is not None
        shared = jnp.einsum("pnlkgd,pskd->pnkgls", q, prefix.k).astype(jnp.float32)
        shared = jnp.where(visible.prefix[:, :, None, None], shared, _MASKED)
        scores = jnp.concatenate([shared, scores], axis=-1)
    weights = jax.nn.softmax(scores, axis=-1).astype(q.dtype)
    split = weights.shape[-1] - own.k.shape[-3]
    out = jnp.einsum("pnkglt,pntkd->pnlkgd", weights[..., split:], own.v)
    if prefix is not None:
        out = out + jnp.einsum("pnkgls,pskd->pnlkgd", weights[..., :split], prefix.v)
    return out.reshape(p, n, length, heads, size)


class Attention(nnx.Module):
    """Grouped-query attention (arXiv:2305.13245) over a shared prefix and own keys."""

    def __init__(self, config: DecoderConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs | None) -> None:
        width, size = config.hidden_size, config.head_dim
        queries, keys = config.num_heads * size, config.num_kv_heads * size
        self.head_dim = size
        self.q = Linear(width, queries, bias=config.qkv_bias, dtype=dtype, rngs=rngs)
        self.k = Linear(width, keys, bias=config.qkv_bias, dtype=dtype, rngs=rngs)
        self.v = Linear(width, keys, bias=config.qkv_bias, dtype=dtype, rngs=rngs)
        self.o = Linear(queries, width, bias=config.output_bias, dtype=dtype, rngs=rngs)
        norm = functools.partial(RMSNorm, size, eps=config.norm_eps, dtype=dtype, rngs=rngs)
        self.q_norm = norm() if config.qk_norm else None
        self.k_norm = norm() if config.qk_norm else None

    def __call__(
        self,
        x: Float[Array, "P N L M"],
        turn: Rotation,
        visible: Visible,
        prefix: LayerKV | None,
        cache: LayerKV | None,
        step: Int[Array, ""] | int,
    ) -> tuple[Float[Array, "P N L M"], LayerKV]:
        def heads(y: Array) -> Array:
            return y.reshape(*y.shape[:-1], -1, self.head_dim)

        q, k = heads(self.q(x)), heads(self.k(x))
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        own = LayerKV(turn(k), heads(self.v(x)))
        if cache is not None:
            own = LayerKV(
                jax.lax.dynamic_update_slice_in_dim(cache.k, own.k, step, axis=2),
                jax.lax.dynamic_update_slice_in_dim(cache.v, own.v, step, axis=2),
            )
        out = _attend(turn(q), own, prefix, visible)
        return self.o(out.reshape(*out.shape[:-2], -1)), own


class Block(nnx.Module):
    """One pre-norm decoder layer."""

    def __init__(self, config: DecoderConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs | None) -> None:
        self.attention_norm = RMSNorm(
            config.hidden_size, eps=config.norm_eps, dtype=dtype, rngs=rngs
        )
        self.attention = Attention(config, dtype=dtype, rngs=rngs)
        self.mlp_norm = RMSNorm(config.hidden_size, eps=config.norm_eps, dtype=dtype, rngs=rngs)
        self.mlp = MLP(config, dtype=dtype, rngs=rngs)


class Transformer(nnx.Module):
    """A causal language model: token ids in, logits out.

    One decoder for every family; `config` says what is in it.

    **Arguments:**

    - `config`: the architecture.
    - `dtype`: of the parameters and the arithmetic; norms, softmax and logits are float32.
    - `rngs`: keys of the initial weights; None makes a model of shapes, to be filled.
    - `layout`: how what it computes lies on several devices.
    """

    def __init__(
        self,
        config: DecoderConfig,
        *,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs | None,
        layout: Layout | None = None,
    ) -> None:
        self.config = config
        self.layout = layout
        self.remat: Remat = "none"
        embedding = nnx.initializers.normal(config.hidden_size**-0.5)
        shape = (config.vocab_size, config.hidden_size)
        self.embedding = parameter(embedding, rngs, shape, dtype)
        self.blocks = nnx.List(
            [Block(config, dtype=dtype, rngs=rngs) for _ in range(config.num_layers)]
        )
        self.norm = RMSNorm(config.hidden_size, eps=config.norm_eps, dtype=dtype, rngs=rngs)
        if not config.tie_embeddings:
            self.unembedding = parameter(embedding, rngs, shape, dtype)

    def __call__(
        self, token_ids: Int[Array, "B T"], attention_mask: Bool[Array, "B T"] | None = None
    ) -> Float[Array, "B T V"]:
        """Logits (float32) of the next token at every position.

        **Arguments:**

        - `token_ids`: right- or left-padded token ids.
        - `attention_mask`: true (or 1) at real tokens; all of them by default. Logits at
            padding positions are meaningless.
        """
        if attention_mask is None:
            attention_mask = jnp.ones(token_ids.shape, bool)
        hidden, _ = self.prefill(token_ids, jnp.asarray(attention_mask, bool))
        return self.logits(hidden)

    def output_table(self) -> Float[Array, "V M"]:
        """The output projection: one row a token."""
        return self.embedding[...] if self.config.tie_embeddings else self.unembedding[...]

    def logits(self, hidden: Float[Array, "*batch M"]) -> Float[Array, "*batch V"]:
        """Logits in float32 of final hidden states."""
        logits = jnp.einsum(
            "...m,vm->...v", hidden, self.output_table(), preferred_element_type=jnp.float32
        )
        if self.layout is None:
            return logits
        # Whoever wants them whole is to gather them rather than the table.
        return self.layout.constrain(logits, "batch", *(None,) * (logits.ndim - 2), "vocabulary")

    def prefill(
        self,
        token_ids: Int[Array, "P S"],
        mask: Bool[Array, "P S"],
        *,
        room: Int[Array, " P"] | int = 0,
    ) -> tuple[Float[Array, "P S M"], Prefix]:
        """Final hidden states of prompts, and the `Prefix` their continuations attend to.

        **Arguments:**

        - `room`: how many tokens may follow. Only longrope needs to know: its factors
            depend on the length of the whole sequence, which keys already rotated
            cannot be told later.
        """
        long = is_long(self.config, mask.sum(axis=-1) + room)
        hidden, layers = self._run(token_ids[:, None], mask[:, None], long[:, None], prefix=None)
        squeezed = tuple(LayerKV(layer.k[:, 0], layer.v[:, 0]) for layer in layers)
        return hidden[:, 0], Prefix(squeezed, mask, long)

    def extend(
        self, token_ids: Int[Array, "P N L"], mask: Bool[Array, "P N L"], prefix: Prefix
    ) -> Float[Array, "P N L M"]:
        """Final hidden states of N given continuations of each prompt (teacher forcing)."""
        return self._run(token_ids, mask, prefix.long[:, None], prefix=prefix)[0]

    def empty_cache(self, prompts: int, continuations: int, slots: int) -> tuple[LayerKV, ...]:
        """Room for `slots` new tokens of each continuation, one `LayerKV` a layer."""
        config = self.config
        shape = (prompts, continuations, slots, config.num_kv_heads, config.head_dim)
        zeros = jnp.zeros(shape, self.embedding[...].dtype)
        return tuple(self._placed_cache(LayerKV(zeros, zeros)) for _ in range(config.num_layers))

    def decode(
        self,
        token_ids: Int[Array, "P N"],
        step: Int[Array, ""],
        cache: tuple[LayerKV, ...],
        prefix: Prefix,
    ) -> tuple[Float[Array, "P N M"], tuple[LayerKV, ...]]:
        """Feed the `step`-th token of every continuation; return its hidden state and the cache."""
        slots = jnp.arange(cache[0].k.shape[2])
        start = prefix.lengths[:, None, None]
        hidden, cache = self._layers(
            token_ids[..., None],
            jnp.broadcast_to(start + step, (*token_ids.shape, 1)),
            prefix.long[:, None],
            self._visible(
                jnp.broadcast_to(slots <= step, (*token_ids.shape, 1, slots.size)),
                start + step,
                start + slots,
                prefix,
            ),
            prefix=prefix,
            cache=cache,
            step=step,
        )
        return hidden[:, :, 0], cache

    def _run(
        self,
        token_ids: Int[Array, "P N L"],
        mask: Bool[Array, "P N L"],
        long: Bool[Array, "P _"],
        prefix: Prefix | None,
    ) -> tuple[Float[Array, "P N L M"], tuple[LayerKV, ...]]:
        # Padding does not advance the position, on whichever side it stands.
        positions = jnp.maximum(jnp.cumsum(mask, axis=-1) - 1, 0)
        if prefix is not None:
            positions = positions + prefix.lengths[:, None, None]
        causal = jnp.tril(jnp.ones((token_ids.shape[-1],) * 2, bool))
        visible = self._visible(causal & mask[..., None, :], positions, positions, prefix)
        return self._layers(token_ids, positions, long, visible, prefix=prefix, cache=None, step=0)

    def _visible(
        self,
        own: Bool[Array, "P N L T"],
        query_positions: Int[Array, "P _ L"],
        key_positions: Int[Array, "P _ T"],
        prefix: Prefix | None,
    ) -> tuple[Visible, Visible]:
        """What layers see: those that attend to everything, those with a sliding window."""
        before = None if prefix is None else prefix.mask[:, None, None]
        everything = Visible(own, before)
        if self.config.sliding_window is None:
            return everything, everything
        oldest = query_positions[..., None] - self.config.sliding_window + 1
        own = own & (key_positions[..., None, :] >= oldest)
        if before is not None and prefix is not None:
            prefix_positions = jnp.cumsum(prefix.mask, axis=-1) - 1
            before = before & (prefix_positions[:, None, None] >= oldest)
        return everything, Visible(own, before)

    def _layers(
        self,
        token_ids: Int[Array, "P N L"],
        positions: Int[Array, "P N L"],
        long: Bool[Array, "P _"],
        visible: tuple[Visible, Visible],
        *,
        prefix: Prefix | None,
        cache: tuple[LayerKV, ...] | None,
        step: Int[Array, ""] | int,
    ) -> tuple[Float[Array, "P N L M"], tuple[LayerKV, ...]]:
        turn = rotation(self.config, positions, long)
        layers = []

        def layer(
            i: int, block: Block, x: Array, prefix: LayerKV | None, cache: LayerKV | None
        ) -> tuple[Array, LayerKV]:
            sees = visible[i in self.config.sliding_layers]
            out, own = block.attention(block.attention_norm(x), turn, sees, prefix, cache, step)
            x = self._placed(x + out)
            return self._placed(x + block.mlp(block.mlp_norm(x))), self._placed_cache(own)

        x = self._embedded(token_ids)
        for i, block in enumerate(self.blocks):
            x, own = _rematerialised(functools.partial(layer, i, block), self.remat)(
                x,
                None if prefix is None else prefix.layers[i],
                None if cache is None else cache[i],
            )
            layers.append(own)
        return self.norm(x), tuple(layers)

    def _embedded(self, token_ids: Int[Array, "P N L"]) -> Float[Array, "P N L M"]:
        if self.layout is None:
            return self.embedding[...][token_ids]
        # `fsdp` splits both the table's width and the batch. Each device looks up its part of
        # the width for the batch of all of them, and then they exchange: left to itself, the
        # compiler gathers everything everywhere.
        token_ids = self.layout.constrain(token_ids, "copies")
        x = self.embedding[...][token_ids]
        return self._placed(self.layout.constrain(x, "copies", None, None, "width"))

    def _placed(self, hidden: Float[Array, "P N L M"]) -> Float[Array, "P N L M"]:
        # Said for every layer: left to itself, the compiler may gather the batch rather than
        # the weights.
        return hidden if self.layout is None else self.layout.constrain(hidden, "batch")

    def _placed_cache(self, own: LayerKV) -> LayerKV:
        if self.layout is None:
            return own
        axes = ("batch", None, None, "heads")
        return LayerKV(*(self.layout.constrain(x, *axes) for x in own))


def spread(model: Transformer, layout: Layout) -> Transformer:
    """The same model, without adapters, in another layout; `model` is left as it was."""
    graph, state = nnx.split(model)
    moved = nnx.merge(graph, layout.place_tree(state))
    moved.layout = layout
    return moved


def _rematerialised(layer: Callable[..., _Result], remat: Remat) -> Callable[..., _Result]:
    """A layer whose intermediate results are computed again in the backward pass, or not."""
    match remat:
        case "none":
            return layer
        case "dots":
            policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
            return jax.checkpoint(layer, policy=policy)
        case "full":
            return jax.checkpoint(layer)
