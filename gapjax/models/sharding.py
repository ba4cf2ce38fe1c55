"""Where the parameters of a model lie on a mesh of devices.

A mesh may have an axis `fsdp`, over which the model width is split, and an axis `tensor`,
over which heads, the feed-forward's inner width and the vocabulary are split. An axis that
the mesh lacks, or whose size does not divide the parameter's, leaves it whole.
"""

from __future__ import annotations

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

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


def parameter_sharding(mesh: Mesh, path: Path, shape: tuple[int, ...]) -> NamedSharding:
    """The sharding of one parameter.

    **Arguments:**

    - `mesh`: the devices.
    - `path`: of the parameter in `Transformer`, as in `nnx.to_flat_state`.
    - `shape`: of the whole parameter.
    """
    logical = _LOGICAL_AXES.get(path[-2:], ())
    axes = [_MESH_AXES[name] for name in logical]
    spec = [
        axis if axis in mesh.shape and size % mesh.shape[axis] == 0 else None
        for axis, size in zip(axes, shape, strict=False)
    ]
    # The compiler places what is computed from the parameters.
    automatic = Mesh(
        mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names)
    )
    return NamedSharding(automatic, PartitionSpec(*spec))


def place(value: np.ndarray, mesh: Mesh | None, path: Path) -> jax.Array:
    """A parameter on its devices; on the default one where there is no mesh."""
    if mesh is None:
        return jax.device_put(value)  # transposes as it copies, which NumPy does slowly
    return jax.device_put(value, parameter_sharding(mesh, path, value.shape))
