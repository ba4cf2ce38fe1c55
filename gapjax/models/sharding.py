"""Where the parameters of a model lie on a mesh of devices.

A mesh may have an axis `fsdp`, over which the model width is split, and an axis `tensor`,
over which heads, the feed-forward's inner width and the vocabulary are split. An axis that
the mesh lacks, or whose size does not divide the parameter's, leaves it whole.
"""

from __future__ import annotations

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from gapjax.models.families import Path

_MESH_AXES = {"width": "fsdp", "heads": "tensor", "inner": "tensor", "vocabulary": "tensor"}

# Logical axes by the end of a parameter's path; what is not here lies everywhere.
_LOGICAL_AXES: dict[Path, tuple[str, ...]] = {
    ("embedding",): ("vocabulary", "width"),
    ("unembedding",): ("vocabulary", "width"),
    ("q", "kernel"): ("width", "heads"),
    ("k", "kernel"): ("width", "heads"),
    ("v", "kernel"): ("width", "heads"),
    ("o", "kernel"): ("heads", "width"),
    ("gate", "kernel"): ("width", "inner"),
    ("up", "kernel"): ("width", "inner"),
    ("down", "kernel"): ("inner", "width"),
}


def parameter_axes(mesh: Mesh | AbstractMesh, path: Path, shape: tuple[int, ...]) -> PartitionSpec:
    """The mesh axis, if any, over which each axis of a parameter is split.

    **Arguments:**

    - `mesh`: the devices.
    - `path`: of the parameter in `Transformer`, as in `nnx.to_flat_state`.
    - `shape`: of the whole parameter.
    """
    axes = [_MESH_AXES[name] for name in _LOGICAL_AXES.get(path[-2:], ())]
    return PartitionSpec(
        *(
            axis if axis in mesh.shape and size % mesh.shape[axis] == 0 else None
            for axis, size in zip(axes, shape, strict=False)
        )
    )


def place(value: np.ndarray, mesh: Mesh | None, path: Path) -> jax.Array:
    """A parameter on its devices; on the default one where there is no mesh."""
    if mesh is None:
        return jax.device_put(value)  # transposes as it copies, which NumPy does slowly
    # Whatever the mesh says, the compiler is to place what is computed from parameters.
    automatic = (AxisType.Auto,) * len(mesh.axis_names)
    devices = Mesh(mesh.devices, mesh.axis_names, axis_types=automatic)
    return jax.device_put(value, NamedSharding(devices, parameter_axes(mesh, path, value.shape)))
