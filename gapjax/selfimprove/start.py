"""Where a run goes on that was cut short."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Protocol

from gapjax.generation import Samples
from gapjax.selfimprove.learning import Record
from gapjax.selfimprove.sft import TrainState


@dataclasses.dataclass(frozen=True)
class Start:
    """The phases that are done already; by default none."""

    round: int = 0
    steps: int = 0  # optimizer steps of this round
    state: TrainState | None = None  # None: the initial one
    measured: bool = False  # whether the model of `state` has been measured
    selected: bool = False  # whether it is settled what this round learns
    history: tuple[tuple[float, dict[str, float]], ...] = ()  # epoch, metrics of measurements


class Kept(Protocol):
    """What a run has yielded before and is not to be kept in memory."""

    def samples(self, what: str, step: int, first: int) -> Samples | None:
        """Those of the `Sampled` of this phase, step and part, if its phase was cut short."""

    def rows(self, what: str, number: int) -> Iterable[Record]:
        """All `records` of a "round" or of a measurement of the "probe" problems, from 0."""
