"""The steps of a round: their batches, and after which of them is measured."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import numpy as np
from jaxtyping import Array, Key

from gapjax.selfimprove.recipe import TrainConfig
from gapjax.selfimprove.sft import Batch, Dataset


def batches(learns: Dataset, config: TrainConfig, key: Key[Array, ""]) -> Iterator[Batch]:
    """The batches of a round, epoch after epoch."""
    for epoch in range(config.epochs_per_round):
        yield from learns.batches(config.batch_size, jax.random.fold_in(key, epoch))


def measure_steps(steps_per_epoch: int, config: TrainConfig) -> set[int]:
    """Steps of a round after which to measure, its last one among them.

    Those asked for, or the nearest to each multiple of `measure_every`.
    """
    total = steps_per_epoch * config.epochs_per_round
    if config.measure_every_steps is not None:
        return {*range(config.measure_every_steps, total, config.measure_every_steps), total}
    count = int(config.epochs_per_round / config.measure_every + 1e-9)
    marks = np.arange(1, count + 1) * config.measure_every * steps_per_epoch
    return {int(step) for step in np.rint(marks) if step >= 1} | {total}
