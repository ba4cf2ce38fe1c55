"""Numbers that people give: the right kind, within bounds, or one line that says which."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import SupportsFloat

from gapjax.errors import UserError

_SEEDS = 2**32  # what JAX and NumPy both take


def real_number(name: str, value: object, low: float, high: float, *, above: bool = False) -> float:
    """`value` as a number from `low` to `high` (with `above`: above `low`).

    **Raises:** `UserError` for anything else: true or false, text, NaN and infinities included.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise UserError(f"{name} is {value!r}, not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.nan
    if not (low < number if above else low <= number) or not number <= high:
        bounds = f"above {low:g} and at most" if above else f"from {low:g} to"
        raise UserError(f"{name} is {_shown(value)}, not {bounds} {high:g}")
    return number


def whole_number(name: str, value: object, low: int, high: int) -> int:
    """`value` as a whole number from `low` to `high`.

    **Raises:** `UserError` for anything else, 2.0 and true included.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise UserError(f"{name} is {value!r}, not a whole number")
    number = int(value)
    if not low <= number <= high:
        raise UserError(f"{name} is {_shown(number)}, not between {low} and {high}")
    return number


def checked_seed(seed: object) -> int:
    """`seed` if JAX and NumPy both take it.

    **Raises:** `UserError` otherwise.
    """
    return whole_number("seed", seed, 0, _SEEDS - 1)


def _shown(value: SupportsFloat) -> str:
    """The number, short whatever its size."""
    if isinstance(value, int) and abs(value) < 10**15:
        return str(value)
    try:
        return f"{float(value):g}"
    except OverflowError:
        return "a number of more than 300 digits"
