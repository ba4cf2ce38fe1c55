"""What is to run, and over how many devices: what estimates and compilations ahead of time take."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal

from gapjax.errors import UserError
from gapjax.parallel.hardware import Hardware

Remat = Literal["none", "dots", "full"]
_AXES = ("data", "fsdp", "tensor")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mesh:
    """Sizes of the axes over which the work is split."""

    data: int = 1
    fsdp: int = 1
    tensor: int = 1

    @property
    def devices(self) -> int:
        return self.data * self.fsdp * self.tensor

    @property
    def rows(self) -> int:
        """Into how many parts a batch is split."""
        return self.data * self.fsdp

    def __str__(self) -> str:
        split = [f"{axis}={size}" for axis in _AXES if (size := getattr(self, axis)) > 1]
        return ",".join(split) or "one device"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Load:
    """What a run does."""

    prompts: int = 64  # sampled and verified at a time
    samples: int = 16  # answers of each
    prompt_tokens: int = 512
    new_tokens: int = 512
    batch: int = 64  # rows of a training step: a prompt and an answer
    rank: int = 16  # of adapters on all layers; 0 trains all weights
    remat: Remat = "full"

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name == "rank" else 1
            if isinstance(value, int) and value < least:
                raise UserError(f"{value} is less than {least}", where=field.name)


def make_mesh(sizes: Mapping[str, int], hardware: Hardware) -> Mesh:
    """A mesh of all chips; what is left goes to `data`, as in `gapjax.parallel.mesh`.

    **Raises:** `UserError` if the chips cannot be arranged so.
    """
    if unknown := sorted(set(sizes) - set(_AXES)):
        raise UserError(
            f"unknown axes {', '.join(unknown)}", where="mesh", hint=f"known: {', '.join(_AXES)}"
        )
    given = math.prod(sizes.values())
    if given < 1 or hardware.chips % given or ("data" in sizes and given != hardware.chips):
        wanted = " x ".join(f"{axis} {size}" for axis, size in sizes.items())
        raise UserError(f"{hardware.chips} chips cannot be arranged as {wanted}", where="mesh")
    return Mesh(**{"data": hardware.chips // given, **sizes})
