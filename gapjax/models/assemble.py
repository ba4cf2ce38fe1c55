"""Put named tensors into a `Transformer`, and take them out again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import jax.numpy as jnp
import numpy as np
from flax import nnx

from gapjax.errors import UserError
from gapjax.models.config import DecoderConfig
from gapjax.models.families import tensor_table
from gapjax.models.transformer import Transformer

# Files hold these beside the weights although the configuration implies them.
_REDUNDANT_SUFFIXES = ("rotary_emb.inv_freq",)
_LISTED = 4  # names per kind in an error message; a wrong file can have hundreds


class TensorSource(Protocol):
    """A checkpoint file, seen as Hugging Face tensor names, shapes and lazily read values."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]: ...

    def read(self, name: str) -> np.ndarray: ...


def assemble(
    config: DecoderConfig, source: TensorSource, *, dtype: str, where: object
) -> Transformer:
    """Build a model from a checkpoint, one tensor at a time.

    **Arguments:**

    - `config`: the architecture.
    - `source`: where the tensors come from.
    - `dtype`: of the parameters in memory, whatever it is on disk.
    - `where`: the file or folder, for error messages.

    **Raises:** `UserError` that lists every missing, unexpected and mis-shaped tensor.
    """
    graph, abstract = nnx.split(
        nnx.eval_shape(lambda: Transformer(config, dtype=jnp.dtype(dtype), rngs=nnx.Rngs(0)))
    )
    flat = dict(nnx.to_flat_state(abstract))
    table = tensor_table(config)
    stored = {spec.name: flat[spec.path].shape[:: -1 if spec.transpose else 1] for spec in table}
    _check_names_and_shapes(stored, source.shapes, config, where=where)
    for spec in table:
        value = source.read(spec.name)
        value = value.T if spec.transpose else value
        flat[spec.path] = flat[spec.path].replace(jnp.asarray(value.astype(jnp.dtype(dtype))))
    return nnx.merge(graph, nnx.from_flat_state(list(flat.items())))


def _check_names_and_shapes(
    expected: Mapping[str, tuple[int, ...]],
    found: Mapping[str, tuple[int, ...]],
    config: DecoderConfig,
    *,
    where: object,
) -> None:
    ignored = {name for name in found if name.endswith(_REDUNDANT_SUFFIXES)}
    if config.tie_embeddings:
        ignored.add("lm_head.weight")  # some exports store the tied table twice
    problems = {
        "missing": [name for name in expected if name not in found],
        "unexpected": sorted(set(found) - set(expected) - ignored),
        "mis-shaped": [
            f"{name} {found[name]} instead of {shape}"
            for name, shape in expected.items()
            if name in found and tuple(found[name]) != shape
        ],
    }
    complaints = [
        f"{len(names)} {kind} ({', '.join(names[:_LISTED])}{', …' * (len(names) > _LISTED)})"
        for kind, names in problems.items()
        if names
    ]
    if complaints:
        raise UserError(
            f"tensors do not fit the configuration: {'; '.join(complaints)}", where=where
        )


def disassemble(model: Transformer) -> Iterator[tuple[str, np.ndarray]]:
    """Yield every tensor of a model under its Hugging Face name, in that layout."""
    flat = dict(nnx.to_flat_state(nnx.state(model, nnx.Param)))
    for spec in tensor_table(model.config):
        value = np.asarray(flat[spec.path][...])
        # safetensors writes buffers as they lie in memory, so a view would be scrambled.
        yield spec.name, np.ascontiguousarray(value.T) if spec.transpose else value
