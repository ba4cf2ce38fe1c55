"""TPU generations as Google publishes them, for estimates.

Peak compute, memory and its bandwidth: the "System architecture" tables of "TPU v4", "TPU v5e",
"TPU v5p", "TPU v6e" and "TPU7x (Ironwood)" in the Cloud TPU documentation,
https://docs.cloud.google.com/tpu/docs/v4 (v5e, v5p, v6e, tpu7x likewise); the last one repeats
v5p and v6e and says that their memory is counted in GiB. Links: 4 of a chip in a 2D torus, 6 in
a 3D one (same pages); what a link carries one way: "How to Scale Your Model", part 2, table "TPU
specs", https://jax-ml.github.io/scaling-book/tpus, which is a tenth below what Google names.
Chips of a host in slices of several hosts:
https://cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus.
"""

from __future__ import annotations

import dataclasses

from gapjax.errors import UserError

_GIB = 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generation:
    """What one chip can do, at best."""

    name: str
    device_kinds: tuple[str, ...]  # as `jax.Device.device_kind` has it
    flops: float  # bfloat16, a second
    memory: int  # bytes of HBM
    memory_bandwidth: float  # bytes a second
    links: int  # to neighbours: two for each axis of the torus
    link_bandwidth: float  # bytes a second, one way
    wraparound: int  # an axis is a ring only if its chips are a multiple of this
    cores_in_name: int = 1  # Google counts v4-N and v5p-N in cores, two of which are a device
    chips_per_host: int = 4
    largest: int  # chips of a slice

    @property
    def ring_bandwidth(self) -> float:
        """Bytes a second that a chip passes on along one axis of the torus, both ways together."""
        return 2 * self.link_bandwidth


GENERATIONS = {
    generation.name: generation
    for generation in (
        Generation(
            name="v4",
            device_kinds=("TPU v4",),
            flops=275e12,
            memory=32 * _GIB,
            memory_bandwidth=1200e9,
            links=6,
            link_bandwidth=45e9,
            wraparound=4,
            cores_in_name=2,
            largest=4096,
        ),
        Generation(
            name="v5e",
            device_kinds=("TPU v5 lite", "TPU v5e"),
            flops=197e12,
            memory=16 * _GIB,
            memory_bandwidth=819e9,
            links=4,
            link_bandwidth=45e9,
            wraparound=16,
            largest=256,
        ),
        Generation(
            name="v5p",
            device_kinds=("TPU v5", "TPU v5p"),
            flops=459e12,
            memory=95 * _GIB,
            memory_bandwidth=2765e9,
            links=6,
            link_bandwidth=90e9,
            wraparound=4,
            cores_in_name=2,
            largest=6144,
        ),
        Generation(
            name="v6e",
            device_kinds=("TPU v6 lite", "TPU v6e"),
            flops=918e12,
            memory=32 * _GIB,
            memory_bandwidth=1638e9,
            links=4,
            link_bandwidth=90e9,
            wraparound=16,
            largest=256,
        ),
    )
}
_ALIASES = {"v5litepod": "v5e"}


@dataclasses.dataclass(frozen=True)
class Hardware:
    """Chips of one generation that are wired to each other."""

    generation: Generation
    chips: int  # each of which is one JAX device

    @property
    def hosts(self) -> int:
        return -(-self.chips // self.generation.chips_per_host)


def find_hardware(name: str) -> Hardware:
    """The slice of a name such as `v5e-64`.

    As in Google's accelerator types the number counts chips of v5e (`v5litepod`) and v6e, and
    cores of v4 and v5p, of which a chip has two.

    **Raises:** `UserError` for a name that is none, or a slice that is not made.
    """
    prefix, _, number = name.partition("-")
    generation = GENERATIONS.get(_ALIASES.get(prefix, prefix))
    if generation is None or not (number.isascii() and number.isdigit()):
        raise UserError(
            f"unknown hardware {name!r}",
            hint=f"known: {', '.join(f'{known}-N' for known in GENERATIONS)}",
        )
    chips, odd = divmod(int(number), generation.cores_in_name)
    if odd or not 1 <= chips <= generation.largest or chips & (chips - 1):
        unit = "chips" if generation.cores_in_name == 1 else "cores, two to a chip"
        raise UserError(
            f"no slice of {name}",
            hint=f"N counts {unit}: a power of 2, at most "
            f"{generation.largest * generation.cores_in_name}",
        )
    return Hardware(generation, chips)


def peak_flops(device_kind: str) -> float | None:
    """Bfloat16 operations a second of a device, at best; None if nobody has told us.

    **Arguments:**

    - `device_kind`: as `jax.Device.device_kind` has it.
    """
    for generation in GENERATIONS.values():
        if device_kind in generation.device_kinds:
            return generation.flops
    return None
