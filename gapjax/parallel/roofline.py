"""How long the phases of a round take at best, and how much memory: closed forms.

A step needs arithmetic, reads and writes memory, and passes on data; done at the same time and
each at its published peak, it takes as long as the slowest of the three (the roofline model,
doi:10.1145/1498765.1498785). No program reaches this: the figures say what cannot be
beaten, what bounds a step, and which of two meshes is better, not what a run will take.

Everything is per device. `P` prompts of `S` tokens with `N` answers of `T` tokens each; a mesh
of `data` x `fsdp` x `tensor` devices as in `gapjax.parallel.layout`. Counted are matrix products
(2 operations a parameter and token, 2 and 3 times as many with the backward pass to adapters and
to all weights: arXiv:2001.08361), attention over all slots (masked ones are computed too), weights
and caches read, weights gathered and results reduced. Not counted: norms, softmax, padding,
adapters' own products, latency.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

from gapjax.parallel.footprint import weights_bytes
from gapjax.parallel.hardware import Generation, Hardware
from gapjax.parallel.load import Load, Mesh
from gapjax.parallel.steps import Step, decode_step, prefill_step, train_step, verify_step

if TYPE_CHECKING:
    from gapjax.models.config import DecoderConfig

_SPARE = 0.9  # of the memory, for us; the rest is the compiler's and the runtime's
# Bytes of weights up to which every device samples by itself, as in `gapjax.selfimprove.rounds`.
SMALL = 2 * 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds of a step, if nothing but one thing took time."""

    compute: float
    memory: float
    network: float

    @property
    def seconds(self) -> float:
        """Of the step: the slowest hides the others."""
        return max(self.compute, self.memory, self.network)

    @property
    def bound(self) -> str:
        """What the step waits for."""
        return max(("compute", "memory", "network"), key=lambda name: getattr(self, name))

    @property
    def utilisation(self) -> float:
        """Of the peak compute: what model FLOPs utilisation can be at most."""
        return self.compute / self.seconds


def times(step: Step, generation: Generation, mesh: Mesh) -> Times:
    """How long a step takes.

    Each axis of the mesh is taken to lie along one axis of the torus. Where that is no ring,
    data goes one way only.
    """
    network = 0.0
    for axis, received in step.network.items():
        ring = getattr(mesh, axis) % generation.wraparound == 0
        network += received / (generation.ring_bandwidth if ring else generation.link_bandwidth)
    return Times(
        compute=step.flops / generation.flops,
        memory=step.memory / generation.memory_bandwidth,
        network=network,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phase:
    """A phase of a round: sampling is a prefill and as many decode steps as new tokens."""

    name: str
    step: Step
    times: Times
    repeated: int
    mesh: Mesh
    fits: bool

    @property
    def seconds(self) -> float:
        return self.times.seconds * self.repeated


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """Of one load on one mesh."""

    mesh: Mesh
    phases: tuple[Phase, ...]

    @property
    def fits(self) -> bool:
        return all(phase.fits for phase in self.phases)

    @property
    def seconds(self) -> float:
        """Of sampling and verifying the prompts once, and of one training step."""
        return sum(phase.seconds for phase in self.phases)


def estimate(
    config: DecoderConfig,
    load: Load,
    hardware: Hardware,
    mesh: Mesh,
    *,
    replicate_below: int = SMALL,
) -> Estimate:
    """All phases on one mesh.

    **Arguments:**

    - `replicate_below`: bytes of weights up to which every device samples and verifies by
        itself, with all weights.
    """
    alone = weights_bytes(config, 1) <= replicate_below
    inference = Mesh(data=mesh.devices) if alone else mesh
    room = _SPARE * hardware.generation.memory

    def phase(step: Step, mesh: Mesh, repeated: int = 1) -> Phase:
        return Phase(
            name=step.name,
            step=step,
            times=times(step, hardware.generation, mesh),
            repeated=repeated,
            mesh=mesh,
            fits=step.held <= room,
        )

    return Estimate(
        mesh=mesh,
        phases=(
            phase(prefill_step(config, load, inference), inference),
            phase(decode_step(config, load, inference), inference, max(load.new_tokens - 1, 1)),
            phase(verify_step(config, load, inference), inference),
            phase(train_step(config, load, mesh), mesh),
        ),
    )


def best_mesh(
    config: DecoderConfig, load: Load, hardware: Hardware, *, replicate_below: int = SMALL
) -> Mesh:
    """Of the meshes of all chips the fastest that fits; the smallest in memory if none does."""
    sizes = [1 << i for i in range(hardware.chips.bit_length())]
    candidates = []
    for fsdp, tensor in itertools.product(sizes, sizes):
        if hardware.chips % (fsdp * tensor) or config.num_kv_heads % tensor:
            continue
        mesh = Mesh(data=hardware.chips // (fsdp * tensor), fsdp=fsdp, tensor=tensor)
        found = estimate(config, load, hardware, mesh, replicate_below=replicate_below)
        most = max(phase.step.held for phase in found.phases)
        candidates.append((not found.fits, found.seconds if found.fits else most, mesh))
    return min(candidates, key=lambda candidate: candidate[:2])[2]
