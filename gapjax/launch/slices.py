"""TPU slices by the names that Google gives them: chips, topology and hosts."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gapjax.errors import UserError

# Chips of a host; the tables below leave out the slices for which it is another number.
_CHIPS_PER_HOST = 4


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Chips that are wired to each other, and what the schedulers call them."""

    name: str  # the accelerator type, as `gcloud compute tpus` and xpk take it
    topology: str  # chips along each axis, as GKE's node label has it
    node_label: str  # the value of cloud.google.com/gke-tpu-accelerator
    runtime: str  # the image of the TPU VMs, where there is no container

    @property
    def chips(self) -> int:
        """Chips, each of which is one JAX device in these generations."""
        return math.prod(int(side) for side in self.topology.split("x"))

    @property
    def hosts(self) -> int:
        """Hosts, each of which runs one process."""
        return self.chips // _CHIPS_PER_HOST


# Topologies: https://cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus#topology,
# runtimes: https://cloud.google.com/tpu/docs/runtimes. v5e and v6e are named by their chips …
_FLAT = {
    4: "2x2",
    8: "2x4",
    16: "4x4",
    32: "4x8",
    64: "8x8",
    128: "8x16",
    256: "16x16",
}
# … and v5p by its cores, of which a chip has two. There are larger ones.
_CUBIC = {
    8: "2x2x1",
    16: "2x2x2",
    32: "2x2x4",
    64: "2x4x4",
    128: "4x4x4",
    256: "4x4x8",
    512: "4x8x8",
    1024: "8x8x8",
}
_GENERATIONS = (
    ("v5litepod", "tpu-v5-lite-podslice", "v2-alpha-tpuv5-lite", _FLAT),
    ("v5p", "tpu-v5p-slice", "v2-alpha-tpuv5", _CUBIC),
    ("v6e", "tpu-v6e-slice", "v2-alpha-tpuv6e", _FLAT),
)
SLICES = {
    f"{generation}-{size}": Slice(
        name=f"{generation}-{size}", topology=topology, node_label=label, runtime=runtime
    )
    for generation, label, runtime, topologies in _GENERATIONS
    for size, topology in topologies.items()
}


def find_slice(name: str) -> Slice:
    """The slice of an accelerator type such as `v5litepod-16`.

    **Raises:** `UserError` with the types of that generation, or with the generations.
    """
    if name in SLICES:
        return SLICES[name]
    generation = name.partition("-")[0]
    known = [other for other in SLICES if other.startswith(f"{generation}-")]
    generations = ", ".join(f"{prefix}-N" for prefix, *_ in _GENERATIONS)
    raise UserError(
        f"unknown accelerator {name!r}", hint=f"known: {', '.join(known) or generations}"
    )
