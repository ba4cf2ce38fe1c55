"""Compiling for devices that are not there, and what the compiler says about the result.

With `libtpu` installed (the extra `tpu`) it is the TPU's own compiler, which needs no TPU;
otherwise XLA's for the CPU, told that there are many of them: it places arrays and collectives
by the same rules, but turns bfloat16 into float32 and overlaps nothing.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from gapjax.parallel import load
from gapjax.parallel.collectives import Kind, Traffic, collectives
from gapjax.parallel.hardware import Hardware
from gapjax.parallel.layout import MESH_AXES


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compiled:
    """What one execution of a program costs a device, in bytes and operations.

    Of a loop whose length the compiler does not know, `flops` and `accessed` count one turn.
    """

    arguments: float
    outputs: float  # without those that take the place of an argument
    temporaries: float  # no line in the number of layers, and no part of the peak
    peak: float  # of everything in use at once, by the compiler's own account
    flops: float
    accessed: float  # bytes read and written by all instructions, caches left out of account
    traffic: Mapping[Kind, Traffic]

    @property
    def received(self) -> float:
        """Bytes from other devices."""
        return sum(moved.bytes for moved in self.traffic.values())


def has_tpu_compiler() -> bool:
    """Whether `libtpu` is installed."""
    found = importlib.util.find_spec("libtpu")
    return found is not None and found.origin is not None  # not just a folder of that name


def environment(hardware: Hardware) -> dict[str, str]:
    """What a process has to find in its environment so that `device_mesh` works in it."""
    flags = os.environ.get("XLA_FLAGS", "")
    count = f"--xla_force_host_platform_device_count={hardware.chips}"
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "TPU_SKIP_MDS_QUERY": "1",  # there is no TPU to be asked about
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # nor one to be kept from other processes
        "XLA_FLAGS": flags if has_tpu_compiler() else f"{flags} {count}".strip(),
    }


def topology(hardware: Hardware) -> str:
    """Chips along each axis of the torus, as near to a square or a cube as can be.

    As in https://cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus#topology.
    """
    axes = hardware.generation.links // 2
    power = hardware.chips.bit_length() - 1
    sides = sorted(1 << ((power + i) // axes) for i in range(axes))
    if hardware.chips < 2**axes:
        sides.reverse()  # 2x2x1
    return "x".join(map(str, sides))


def device_mesh(hardware: Hardware, mesh: load.Mesh) -> Mesh:
    """The devices to compile for.

    **Raises:** `ValueError` if the environment is not as `environment` says.
    """
    shape = tuple(getattr(mesh, axis) for axis in MESH_AXES)
    if has_tpu_compiler():
        from jax.experimental import topologies

        name = f"{hardware.generation.name}:{topology(hardware)}"
        devices = topologies.get_topology_desc(platform="tpu", topology_name=name).devices
        if len(devices) != hardware.chips:
            raise ValueError(f"{name} has {len(devices)} devices")
        types = (AxisType.Auto,) * len(shape)
        # In their own order: the compiler's answers do not depend on which chip is where.
        return Mesh(np.array(devices).reshape(shape), MESH_AXES, axis_types=types)
    if jax.device_count() != hardware.chips:
        raise ValueError(f"{jax.device_count()} devices instead of {hardware.chips}")
    return jax.make_mesh(shape, MESH_AXES, axis_types=(AxisType.Auto,) * len(shape))


def compile_ahead(lowered: jax.stages.Lowered) -> Compiled:
    """Compile, and take the figures."""
    compiled = lowered.compile()
    memory: Any = compiled.memory_analysis()
    costs: Any = compiled.cost_analysis()
    return Compiled(
        arguments=float(memory.argument_size_in_bytes),
        outputs=float(memory.output_size_in_bytes - memory.alias_size_in_bytes),
        temporaries=float(memory.temp_size_in_bytes),
        peak=float(memory.peak_memory_in_bytes),
        flops=float(costs.get("flops", math.nan)),
        accessed=float(costs.get("bytes accessed", math.nan)),
        traffic=collectives(compiled.as_text() or ""),
    )


def extrapolate(one: Compiled, two: Compiled, layers: int) -> Compiled:
    """A program of so many layers from those of the same with one layer and with two.

    The second layer costs what each further one does.
    """

    def line(first: float, second: float) -> float:
        return first + (layers - 1) * (second - first)

    nothing = Traffic(0.0, 0.0)
    traffic = {}
    for kind in sorted(set(one.traffic) | set(two.traffic)):
        first, second = one.traffic.get(kind, nothing), two.traffic.get(kind, nothing)
        traffic[kind] = Traffic(
            line(first.count, second.count), max(line(first.bytes, second.bytes), 0.0)
        )
    numbers = {
        field.name: line(getattr(one, field.name), getattr(two, field.name))
        for field in dataclasses.fields(Compiled)
        if field.name != "traffic"
    }
    return Compiled(**numbers, traffic=traffic)
