"""Timing several contestants side by side, on a machine that drifts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

import numpy as np

_MEMORY = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
MACHINE = f"{os.cpu_count()} shared CPU cores, {_MEMORY:.0f} GiB of memory, no accelerator"
_TURN = 0.05  # seconds


def interleaved(
    contestants: Mapping[str, Callable[[], object]], *, repeats: int, slow: float = 20.0
) -> dict[str, np.ndarray]:
    """Seconds a call, the contestants taking turns in every round.

    A turn is as many calls as fill `_TURN` seconds, at least one.  A contestant whose turns
    took more than `slow` seconds together gets no further ones after its third.
    """
    calls = {name: _calls_in_a_turn(call) for name, call in contestants.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, call in contestants.items():
            if len(seconds[name]) >= 3 and sum(seconds[name]) > slow:
                continue
            begin = time.perf_counter()
            for _ in range(calls[name]):
                call()
            seconds[name].append((time.perf_counter() - begin) / calls[name])
    return {name: np.array(values) for name, values in seconds.items()}


def _calls_in_a_turn(call: Callable[[], object]) -> int:
    begin, calls = time.perf_counter(), 0
    while time.perf_counter() - begin < _TURN:
        call()
        calls += 1
    return calls


def quartiles(seconds: np.ndarray, unit: float = 1e-3) -> str:
    """`median [lower quartile, upper quartile]` in `unit` seconds."""
    low, middle, high = np.quantile(seconds, [0.25, 0.5, 0.75]) / unit
    return f"{middle:.3g} [{low:.3g}, {high:.3g}]"
