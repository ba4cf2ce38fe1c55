"""Low-rank adapters (arXiv:2106.09685) on chosen linear layers.

Our own, since it is thirty lines over `flax.nnx.LoRAParam`, where a library that
intercepts the layers' operations would have to be kept working with the cached decoder.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import regex
from flax import nnx
from jaxtyping import Array, Float, Key

from gapjax.errors import UserError
from gapjax.models.families import Path
from gapjax.models.layers import Linear
from gapjax.models.transformer import Transformer

# To match one name by an expression that somebody wrote; Python's own `re` knows no limit.
_SECONDS = 1.0


class LoRALinear(nnx.Module):
    """`x @ (kernel + scale * a @ b) + bias`; only `a` and `b` are `nnx.LoRAParam`."""

    def __init__(
        self,
        base: Linear,
        *,
        a: Float[Array, "i rank"],
        b: Float[Array, "rank o"],
        alpha: float,
    ) -> None:
        self.kernel = base.kernel
        self.bias = base.bias
        self.alpha = alpha
        self.a = nnx.LoRAParam(a)
        self.b = nnx.LoRAParam(b)

    @property
    def scale(self) -> float:
        """What the product of the adapter's matrices is multiplied with."""
        return self.alpha / self.a.shape[1]

    def __call__(self, x: Float[Array, "*batch i"]) -> Float[Array, "*batch o"]:
        # Adapters may be kept more exactly than the model computes.
        a, b = (part[...].astype(x.dtype) for part in (self.a, self.b))
        y = x @ self.kernel[...] + (x @ a @ b) * self.scale
        return y if self.bias is None else y + self.bias[...]

    def merged(self) -> Float[Array, "i o"]:
        """The one kernel that does the same, rounded once to the kernel's type."""
        a, b = (part[...].astype(jnp.float32) for part in (self.a, self.b))
        kernel = self.kernel[...]
        return (kernel.astype(jnp.float32) + a @ b * self.scale).astype(kernel.dtype)


def attach(
    model: Transformer, *, rank: int, alpha: float, targets: str, key: Key[Array, ""]
) -> Transformer:
    """A model that computes the same, with adapters on its linear layers (`b` is zero).

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
        pattern = regex.compile(targets)
    except regex.error as error:
        raise UserError(f"{targets!r} is not a regular expression ({error})") from error
    adapted = nnx.clone(model)
    modules: Iterable[tuple[Any, nnx.Module]] = nnx.iter_modules(adapted)
    try:
        layers = [
            (path, module)
            for path, module in modules
            if isinstance(module, Linear)
            and pattern.search(".".join(map(str, path)), timeout=_SECONDS)
        ]
    except TimeoutError as error:
        raise UserError(f"{targets!r} takes for ever to match the name of a layer") from error
    if not layers:
        raise UserError(f"no linear layer matches {targets!r}", hint="try 'attention|mlp'")
    keys = jax.random.split(key, len(layers))
    for (path, module), layer_key in zip(sorted(layers, key=lambda x: x[0]), keys, strict=True):
        rows, columns = module.kernel.shape
        dtype = module.kernel.dtype
        a = jax.random.normal(layer_key, (rows, rank), dtype) * rows**-0.5
        b = jnp.zeros((rank, columns), dtype)
        if model.layout is not None:
            a = model.layout.place(np.asarray(a), (*path, "a"))
            b = model.layout.place(np.asarray(b), (*path, "b"))
        replace(adapted, path, LoRALinear(module, a=a, b=b, alpha=alpha))
    return adapted


def merge(model: Transformer) -> Transformer:
    """A model without adapters that computes the same, in the structure of the base model.

    The weights that have no adapter are shared with `model`, which is left as it was.
    """
    merged = nnx.clone(model)
    for path, module in adapters(merged).items():
        rows, columns = module.kernel.shape
        bias = module.bias is not None
        plain = Linear(rows, columns, bias=bias, dtype=module.kernel.dtype, rngs=None)
        kernel = module.merged()
        if model.layout is not None:
            kernel = model.layout.place(kernel, (*path, "kernel"))
        plain.kernel = nnx.Param(kernel)
        if module.bias is not None:
            plain.bias = module.bias
        replace(merged, path, plain)
    return merged


def adapters(model: Transformer) -> dict[Path, LoRALinear]:
    """The adapted layers of a model, by path."""
    modules: Iterable[tuple[Any, nnx.Module]] = nnx.iter_modules(model)
    return {path: module for path, module in modules if isinstance(module, LoRALinear)}


def replace(model: Transformer, path: Path, module: nnx.Module) -> None:
    """Put another module where `path` leads."""
    *parents, name = path
    owner: Any = model
    for part in parents:
        owner = owner[part] if isinstance(part, int) else getattr(owner, part)
    setattr(owner, str(name), module)
