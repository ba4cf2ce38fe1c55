"""Over which axes of the mesh which axes of an array are split: one table for all of them.

A mesh has three axes, any of which may have the size 1 or be missing. `data` and `fsdp` split
the rows of a batch; `fsdp` splits the model's width besides, so that no device holds all weights
(ZeRO, arXiv:1910.02054); `tensor` splits heads, the feed-forward's inner width and the vocabulary
(arXiv:1909.08053). What an optimizer keeps of a parameter lies where the parameter lies.

An axis of an array that the mesh's does not divide stays whole.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

Path = tuple[str | int, ...]  # of a parameter in its module, as in `nnx.to_flat_state`
_Tree = TypeVar("_Tree")

MESH_AXES = ("data", "fsdp", "tensor")

# What the axes of arrays are called, and what of the mesh splits them.
_RULES: dict[str, tuple[str, ...]] = {
    "batch": ("data", "fsdp"),  # prompts or training rows: of batches, activations, the cache
    "copies": ("data",),  # a batch of which each copy of the weights takes its part
    "width": ("fsdp",),  # of parameters; activations have it whole
    "heads": ("tensor",),  # query or key-value heads, never a part of one
    "inner": ("tensor",),
    "vocabulary": ("tensor",),
}

# The axes of a parameter by the end of its path; what is not here lies everywhere.
_PARAMETERS: dict[Path, tuple[str | None, ...]] = {
    ("embedding",): ("vocabulary", "width"),
    ("unembedding",): ("vocabulary", "width"),
}
for _layer, _axes in {
    "q": ("width", "heads"),
    "k": ("width", "heads"),
    "v": ("width", "heads"),
    "o": ("heads", "width"),
    "gate": ("width", "inner"),
    "up": ("width", "inner"),
    "down": ("inner", "width"),
}.items():
    _PARAMETERS[_layer, "kernel"] = _axes
    _PARAMETERS[_layer, "bias"] = _axes[1:]
    _PARAMETERS[_layer, "a"] = (_axes[0], None)  # adapters: the rank is small
    _PARAMETERS[_layer, "b"] = (None, _axes[1])


@dataclasses.dataclass(frozen=True)
class Layout:
    """How arrays lie on a mesh.

    - `mesh`: the devices. Whatever it says, the compiler is to place what follows.
    - `head_dim`: of the model, whose heads are kept whole.
    - `replicated`: every device holds all weights, and the batch is split over all of them:
        the fastest way to sample from a model that is small enough.
    """

    mesh: Mesh | AbstractMesh
    head_dim: int = 1
    replicated: bool = False

    def __post_init__(self) -> None:
        types = (AxisType.Auto,) * len(self.mesh.axis_names)
        object.__setattr__(self, "mesh", self.mesh.update(axis_types=types))

    @property
    def batch_axes(self) -> tuple[str, ...]:
        """The axes of the mesh that split a batch."""
        wanted = MESH_AXES if self.replicated else _RULES["batch"]
        return tuple(axis for axis in wanted if axis in self.mesh.shape)

    @property
    def batch_shards(self) -> int:
        """Into how many parts a batch is split."""
        return math.prod(self.mesh.shape[axis] for axis in self.batch_axes)

    def rows(self, count: int) -> int:
        """`count` rows rounded up to a number that can be split."""
        return -(-count // self.batch_shards) * self.batch_shards

    def spec(self, shape: Sequence[int], axes: Sequence[str | None]) -> PartitionSpec:
        """How an array is split whose axes count what `axes` says; the rest are whole."""
        return PartitionSpec(*(self._split(n, name) for n, name in zip(shape, axes, strict=False)))

    def parameter(self, path: Path, shape: Sequence[int]) -> PartitionSpec:
        """How a parameter is split, or what an optimizer keeps of it.

        **Arguments:**

        - `path`: the end of it is what counts.
        """
        axes = _PARAMETERS.get(path[-2:], _PARAMETERS.get(path[-1:], ()))
        counts = [
            n // self.head_dim if name == "heads" else n
            for n, name in zip(shape, axes, strict=False)
        ]
        return self.spec(counts, axes)

    def shardings(self, tree: Any) -> Any:
        """The same for each array of a tree in which the paths end like those of parameters."""

        def sharding(path: tuple, array: Any) -> NamedSharding:
            return self._on_devices(self.parameter(_names(path), array.shape))

        return jax.tree_util.tree_map_with_path(sharding, tree)

    def place(self, value: np.ndarray | jax.Array, path: Path) -> jax.Array:
        """A parameter on its devices; each process has the whole of it, or its part on them."""
        return _move(value, self._on_devices(self.parameter(path, value.shape)))

    def place_tree(self, tree: _Tree) -> _Tree:
        """`place` for each parameter of a tree."""
        return jax.tree.map(_move, tree, self.shardings(tree))

    def place_batch(self, tree: _Tree) -> _Tree:
        """Arrays whose first axis are rows, and which every process has whole."""

        def place(x: Any) -> jax.Array:
            if isinstance(x, jax.Array) and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
                data = place(np.asarray(jax.random.key_data(x)))
                return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
            return _spread(np.asarray(x), self._on_devices(PartitionSpec(self.batch_axes)))

        return jax.tree.map(place, tree)

    def constrain(self, x: jax.Array, *axes: str | None) -> jax.Array:
        """Tell the compiler where an intermediate result lies."""
        if self.replicated:  # from weights that are everywhere follows everything else
            return x
        return jax.lax.with_sharding_constraint(x, self._on_devices(self.spec(x.shape, axes)))

    def constrain_tree(self, tree: _Tree) -> _Tree:
        """The same for parameters."""
        return jax.lax.with_sharding_constraint(tree, self.shardings(tree))

    def _split(self, size: int, name: str | None) -> tuple[str, ...] | str | None:
        if name is None or (self.replicated and name != "batch"):
            return None
        wanted = self.batch_axes if name == "batch" else _RULES[name]
        axes = tuple(axis for axis in wanted if axis in self.mesh.shape)
        if not axes or size % math.prod(self.mesh.shape[axis] for axis in axes):
            return None
        return axes[0] if len(axes) == 1 else axes

    def _on_devices(self, spec: PartitionSpec) -> NamedSharding:
        return NamedSharding(self.mesh, spec)


def _names(path: tuple) -> Path:
    """A key path of JAX as a path of names; what leads into a variable is none."""
    names = tuple(getattr(k, "key", getattr(k, "name", getattr(k, "idx", ""))) for k in path)
    return names[:-1] if names and names[-1] in ("value", "raw_value") else names


def _spread(value: np.ndarray, sharding: NamedSharding) -> jax.Array:
    if sharding.is_fully_addressable:
        return jax.device_put(value, sharding)
    return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])


def _move(x: np.ndarray | jax.Array, sharding: NamedSharding) -> jax.Array:
    if isinstance(x, jax.Array) and x.sharding.device_set == sharding.device_set:
        return jax.device_put(x, sharding)  # between devices, without a detour
    return _spread(np.asarray(x), sharding)
