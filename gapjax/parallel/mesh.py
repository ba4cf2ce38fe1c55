"""The devices of a run, of one process or of many, as a mesh."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import jax
from jax.sharding import AxisType, Mesh

from gapjax.errors import UserError
from gapjax.parallel.layout import MESH_AXES

MeshAxis = Literal["data", "fsdp", "tensor"]


def make_mesh(sizes: Mapping[MeshAxis, int]) -> Mesh | None:
    """A mesh of all devices; None where there is only one, and nothing to split.

    **Arguments:**

    - `sizes`: of some of the axes `data`, `fsdp` and `tensor`. Axes that are not mentioned have
        the size 1, but for `data`, which takes what is left.

    **Raises:** `UserError` if the devices cannot be arranged so.
    """
    if unknown := sorted(set(sizes) - set(MESH_AXES)):
        raise UserError(
            f"unknown axes {', '.join(unknown)}",
            where="mesh",
            hint=f"known: {', '.join(MESH_AXES)}",
        )
    count = jax.device_count()
    given = math.prod(sizes.values())
    shape = {"data": 1, "fsdp": 1, "tensor": 1} | dict(sizes)
    if "data" not in sizes and given >= 1 and count % given == 0:
        shape["data"] = count // given
    if math.prod(shape.values()) != count:
        wanted = " x ".join(f"{axis} {size}" for axis, size in sizes.items())
        raise UserError(f"{count} devices cannot be arranged as {wanted}", where="mesh")
    if count == 1:
        return None
    # Neighbours on the interconnect share the last axis, which talks most.
    return jax.make_mesh(
        tuple(shape.values()), MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES)
    )
