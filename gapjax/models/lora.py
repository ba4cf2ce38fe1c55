"""Low-rank adapters (arXiv:2106.09685) on chosen linear layers.

Our own, since it is thirty lines over `flax.nnx.LoRAParam`: a library that intercepts
the layers' operations would have to be kept working with the cached decoder, which
instead never sees an adapter, because sampling and scoring use the merged weights.
"""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from gapjax.errors import UserError
from gapjax.models.transformer import Linear, Transformer


class LoRALinear(nnx.Module):
    """`x @ (kernel + scale * a @ b)`, with `b = 0` at the start: the identity change."""

    def __init__(self, base: Linear, rank: int, scale: float, key: Key[Array, ""]) -> None:
        rows, columns = base.kernel.shape
        dtype = base.kernel.dtype
        self.kernel = base.kernel
        self.bias = base.bias
        self.scale = scale
        self.a = nnx.LoRAParam(jax.random.normal(key, (rows, rank), dtype) * rows**-0.5)
        self.b = nnx.LoRAParam(jnp.zeros((rank, columns), dtype))

    def __call__(self, x: Float[Array, "*batch i"]) -> Float[Array, "*batch o"]:
        return x @ self.kernel[...] + (x @ self.a[...] @ self.b[...]) * self.scale

    def merged(self) -> Float[Array, "i o"]:
        """The one kernel that does the same."""
        return self.kernel[...] + self.a[...] @ self.b[...] * self.scale


def attach(
    model: Transformer, *, rank: int, alpha: float, targets: str, key: Key[Array, ""]
) -> Transformer:
    """A model that computes the same, with adapters on its linear layers.

    The weights are shared with `model`, which is left as it was.

    **Arguments:**

    - `rank`: of the change of each kernel.
    - `alpha`: the change is scaled by `alpha / rank`.
    - `targets`: a regular expression; a layer whose path (`blocks.0.attention.q`) it
        matches somewhere gets an adapter.
    - `key`: for the initial values.

    **Raises:** `UserError` if the expression is invalid or matches no layer.
    """
    try:
        pattern = re.compile(targets)
    except re.error as error:
        raise UserError(f"{targets!r} is not a regular expression ({error})") from error
    adapted = nnx.clone(model)
    layers = [
        (path, module)
        for path, module in nnx.iter_modules(adapted)
        if isinstance(module, Linear) and pattern.search(".".join(map(str, path)))
    ]
    if not layers:
        raise UserError(f"no linear layer matches {targets!r}", hint="try 'attention|mlp'")
    keys = jax.random.split(key, len(layers))
    for (path, module), layer_key in zip(sorted(layers, key=lambda x: x[0]), keys, strict=True):
        _replace(adapted, path, LoRALinear(module, rank, alpha / rank, layer_key))
    return adapted


def merge(model: Transformer) -> Transformer:
    """A model without adapters that computes the same, in the structure of the base model.

    The weights that have no adapter are shared with `model`, which is left as it was.
    """
    merged = nnx.clone(model)
    for path, module in list(nnx.iter_modules(merged)):
        if isinstance(module, LoRALinear):
            plain = nnx.eval_shape(
                lambda m=module: Linear(*m.kernel.shape, dtype=m.kernel.dtype, rngs=nnx.Rngs(0))
            )
            plain.kernel = nnx.Param(module.merged())
            _replace(merged, path, plain)
    return merged


def _replace(model: Transformer, path: tuple, module: nnx.Module) -> None:
    *parents, name = path
    owner: Any = model
    for part in parents:
        owner = owner[part] if isinstance(part, int) else getattr(owner, part)
    setattr(owner, name, module)
