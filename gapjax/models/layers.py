"""The layers that a decoder is made of, each without knowledge of the others."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from gapjax.models.config import DecoderConfig


def parameter(
    init: Callable[..., Array], rngs: nnx.Rngs | None, shape: tuple[int, ...], dtype: jnp.dtype
) -> nnx.Param:
    """A parameter with initial values, or (without `rngs`) with a shape only."""
    if rngs is None:
        return nnx.Param(jax.ShapeDtypeStruct(shape, dtype))
    return nnx.Param(init(rngs.params(), shape, dtype))


class Linear(nnx.Module):
    """`x @ kernel + bias`; most layers of most families have no bias."""

    def __init__(
        self,
        in_size: int,
        out_size: int,
        *,
        bias: bool = False,
        dtype: jnp.dtype,
        rngs: nnx.Rngs | None,
    ) -> None:
        init = nnx.initializers.variance_scaling(1.0, "fan_in", "normal")
        zeros = nnx.initializers.zeros
        self.kernel = parameter(init, rngs, (in_size, out_size), dtype)
        self.bias = parameter(zeros, rngs, (out_size,), dtype) if bias else None

    def __call__(self, x: Float[Array, "*batch i"]) -> Float[Array, "*batch o"]:
        y = x @ self.kernel[...]
        return y if self.bias is None else y + self.bias[...]


class RMSNorm(nnx.Module):
    """Root-mean-square normalisation, computed in float32 (arXiv:1910.07467)."""

    def __init__(self, size: int, *, eps: float, dtype: jnp.dtype, rngs: nnx.Rngs | None) -> None:
        self.scale = parameter(nnx.initializers.ones, rngs, (size,), dtype)
        self.eps = eps

    def __call__(self, x: Float[Array, "*batch M"]) -> Float[Array, "*batch M"]:
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + self.eps)
        return y.astype(x.dtype) * self.scale[...]


class MLP(nnx.Module):
    """SwiGLU feed-forward (arXiv:2002.05202)."""

    def __init__(self, config: DecoderConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs | None) -> None:
        width, inner = config.hidden_size, config.intermediate_size
        self.gate = Linear(width, inner, dtype=dtype, rngs=rngs)
        self.up = Linear(width, inner, dtype=dtype, rngs=rngs)
        self.down = Linear(inner, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "*batch M"]) -> Float[Array, "*batch M"]:
        return self.down(jax.nn.silu(self.gate(x)) * self.up(x))
