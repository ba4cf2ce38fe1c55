"""Put named tensors into a `Transformer`, and take them out again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from gapjax.errors import UserError
from gapjax.models.config import DecoderConfig
from gapjax.models.families import TensorSpec, tensor_table
from gapjax.models.finite import cast
from gapjax.models.transformer import Transformer
from gapjax.parallel.distributed import to_host
from gapjax.parallel.layout import Layout

# Files hold these beside the weights although the configuration implies them.
_REDUNDANT_SUFFIXES = ("rotary_emb.inv_freq",)
_LISTED = 4  # names per kind in an error message; a wrong file can have hundreds


class TensorSource(Protocol):
    """A checkpoint file, seen as Hugging Face tensor names, shapes and lazily read values."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]: ...

    def read(self, name: str) -> np.ndarray: ...


def assemble(
    config: DecoderConfig, source: TensorSource, *, dtype: str, mesh: Mesh | None, where: object
) -> Transformer:
    """Build a model from a checkpoint, one tensor at a time.

    **Arguments:**

    - `config`: the architecture.
    - `source`: where the tensors come from.
    - `dtype`: of the parameters in memory, whatever it is on disk.
    - `mesh`: the devices over which they are spread (`gapjax.parallel.layout`).
    - `where`: the file or folder, for error messages.

    **Raises:** `UserError` that lists every missing, unexpected and mis-shaped tensor.
    """
    layout = None if mesh is None else Layout(mesh, head_dim=config.head_dim)
    empty = Transformer(config, dtype=jnp.dtype(dtype), rngs=None, layout=layout)
    graph, abstract = nnx.split(empty)
    flat = dict(nnx.to_flat_state(abstract))
    counted = {name: shape for name, shape in source.shapes.items() if not _ignored(name, config)}
    if problems := complaints(stored_shapes(config), counted):
        raise UserError(f"tensors do not fit the configuration: {problems}", where=where)
    for spec in tensor_table(config):
        whole = source.read(spec.name)
        ends = np.cumsum([_out_size(flat[path], spec) for path in spec.paths])
        for path, part in zip(spec.paths, np.split(whole, ends[:-1]), strict=True):
            value = cast(part, jnp.dtype(dtype), spec.name, where=where)
            value = value.T if spec.transpose else value
            # The device transposes as it copies, which NumPy does slowly.
            placed = jax.device_put(value) if layout is None else layout.place(value, path)
            flat[path] = flat[path].replace(placed)
    return nnx.merge(graph, nnx.from_flat_state(list(flat.items())))


def _ignored(name: str, config: DecoderConfig) -> bool:
    # Some exports store a tied table twice.
    twice = config.tie_embeddings and name == "lm_head.weight"
    return twice or name.endswith(_REDUNDANT_SUFFIXES)


def _out_size(parameter: nnx.Variable, spec: TensorSpec) -> int:
    return parameter.shape[-1 if spec.transpose else 0]


def stored_shapes(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """The name and the shape of every tensor of a checkpoint."""
    model = Transformer(config, dtype=jnp.dtype("float32"), rngs=None)
    flat: dict[Any, nnx.Variable] = dict(nnx.to_flat_state(nnx.state(model)))

    def shape(spec: TensorSpec) -> tuple[int, ...]:
        rest = flat[spec.paths[0]].shape[:: -1 if spec.transpose else 1][1:]
        return (sum(_out_size(flat[path], spec) for path in spec.paths), *rest)

    return {spec.name: shape(spec) for spec in tensor_table(config)}


def complaints(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
) -> str:
    """All missing, unexpected and mis-shaped tensors in one line; empty if there are none."""
    problems = {
        "missing": [name for name in expected if name not in found],
        "unexpected": sorted(set(found) - set(expected)),
        "mis-shaped": [
            f"{name} {found[name]} instead of {shape}"
            for name, shape in expected.items()
            if name in found and tuple(found[name]) != shape
        ],
    }
    return "; ".join(
        f"{len(names)} {kind} ({', '.join(names[:_LISTED])}{', …' * (len(names) > _LISTED)})"
        for kind, names in problems.items()
        if names
    )


def stored_tensor(spec: TensorSpec, flat: Mapping[Any, nnx.Variable]) -> np.ndarray:
    """A tensor as the checkpoint holds it, from the parameters of a model.

    In a run of several processes each has to ask for it.
    """
    parts = [to_host(flat[path][...]) for path in spec.paths]
    parts = [part.T if spec.transpose else part for part in parts]
    # safetensors writes buffers as they lie in memory, so a view would be scrambled.
    return np.ascontiguousarray(parts[0] if len(parts) == 1 else np.concatenate(parts))
