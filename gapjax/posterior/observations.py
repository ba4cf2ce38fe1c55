"""Curves as arrays of a few fixed sizes, so that another curve needs no new compilation.

A curve has units of its own, of uncertainty and of time, so that neither nats or bits nor epochs or
steps make a difference to what is inferred.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float

from gapjax.errors import UserError
from gapjax.trajectories import Curve

_SMALLEST_CLASS = 16
_FEWEST = 2  # curves; a program for one rounds otherwise than those for more
_MAX_SCALE_RATIO = 1e6
_RISEN = 4.0
_EARLY = 3  # intervals
_INTERVALS = 2.0  # a unit of time


class Observations(NamedTuple):
    """One curve (or a batch, with a leading axis), padded and in units of its scale.

    - `times`: since the first checkpoint, in units of the curve's `time_unit_of`; padding repeats
      the last.
    - `pair`: `(U_s, U_v)/scale` at each time; padding repeats the last.
    - `mask`: which checkpoints are real.
    - `span`: from first to last checkpoint, in the same unit.
    """

    times: Float[Array, "*curves time"]
    pair: Float[Array, "*curves time 2"]
    mask: Bool[Array, "*curves time"]
    span: Float[Array, "*curves"]


def size_class(n: int, smallest: int = _SMALLEST_CLASS) -> int:
    """The padded length of `n` items: the next power of two, at least `smallest`."""
    return max(smallest, 1 << (n - 1).bit_length())


def scale_of(curve: Curve) -> float:
    """A robust estimate of `U_s(0)` in nats, the unit of all priors.

    The median of the first three solver values: unlike the observed range it does not
    change as the curve grows longer. Of a curve that rises several times as high, from next to
    nothing, they are no measure; then it is a part of its height.

    **Raises:** `UserError` if the curve's values are too far apart to share one unit.
    """
    scale = max(float(np.median(curve.solver[:3])), float(curve.solver.max()) / _RISEN)
    largest = max(curve.solver.max(), curve.verifier.max())
    if largest > _MAX_SCALE_RATIO * scale:
        raise UserError(
            f"uncertainties run from {scale:g} to {largest:g} nats",
            where=curve.name,
            hint="check the units of the two columns",
        )
    return scale


def time_unit_of(curve: Curve) -> float:
    """The curve's unit of time in epochs, or whatever its times are in: two checkpoints.

    By the median of its first intervals, which does not change as the curve grows longer. Whoever
    measures chooses them such that a few dozen of them tell the story, which is all that the
    priors on rates say.
    """
    return _INTERVALS * float(np.median(np.diff(curve.epochs[: _EARLY + 1])))


def pad(curves: Sequence[Curve], scales: Sequence[float]) -> Observations:
    """Stack `curves` into one batch, padding checkpoints and curves to their size class.

    Curves beyond the given ones repeat the first one; callers drop their results.
    """
    length = size_class(max(len(curve.epochs) for curve in curves))
    rows = [_pad_one(curve, scale, length) for curve, scale in zip(curves, scales, strict=True)]
    rows += [rows[0]] * (size_class(len(curves), _FEWEST) - len(curves))
    # NumPy arrays: they become JAX arrays in the precision of whoever uses them.
    return Observations._make(np.stack(column) for column in zip(*rows, strict=True))


def one_curve(curve: Curve, scale: float) -> Observations:
    """One curve, padded, without the batch axis."""
    return Observations._make(column[0] for column in pad([curve], [scale]))


def _pad_one(curve: Curve, scale: float, length: int) -> tuple[np.ndarray, ...]:
    times = (curve.epochs - curve.epochs[0]) / time_unit_of(curve)
    pair = np.stack([curve.solver, curve.verifier], axis=-1) / scale
    missing = length - len(times)
    return (
        np.pad(times, (0, missing), mode="edge"),
        np.pad(pair, ((0, missing), (0, 0)), mode="edge"),
        np.arange(length) < len(times),
        times[-1],
    )
