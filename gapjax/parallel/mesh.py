"""The devices of a run, of one process or of many, as a mesh."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping
from typing import Literal

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, PartitionSpec

from gapjax.errors import UserError
from gapjax.parallel.distributed import meet
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
    mesh = jax.make_mesh(
        tuple(shape.values()), MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES)
    )
    if jax.process_count() > 1 and jax.default_backend() == "cpu":
        _connect(mesh)
    return mesh


def _connect(mesh: Mesh) -> None:
    """Open the connections between CPUs of several hosts while these are at the same point.

    They are made with the first collective of a group of devices, and the one that comes first
    gives up after half a minute, which the compilation before it may well last longer elsewhere.
    """
    used = [axis for axis, size in mesh.shape.items() if size > 1]
    for count in range(1, len(used) + 1):
        for axes in itertools.combinations(used, count):
            meet()
            total = jax.shard_map(
                functools.partial(jax.lax.psum, axis_name=axes),
                mesh=mesh,
                in_specs=PartitionSpec(),
                out_specs=PartitionSpec(),
                check_vma=False,
            )
            jax.block_until_ready(jax.jit(total)(np.ones(1, np.float32)))
