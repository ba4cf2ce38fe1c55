"""Weights that are numbers, before and after they are cast."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from gapjax.errors import UserError

# The exponent of NaN and of infinities, which no finite value has.
_EXPONENT = {
    "float64": 0x7FF0 << 48,
    "float32": 0x7F80 << 16,
    "float16": 0x7C00,
    "bfloat16": 0x7F80,
}


def count_not_finite(values: np.ndarray) -> int:
    """How many values of an array of floats are NaN or infinite."""
    # By their bits: ten times as fast in bfloat16, which NumPy does not know.
    mask = np.array(_EXPONENT[values.dtype.name], f"u{values.dtype.itemsize}")
    return int(np.count_nonzero((values.view(mask.dtype) & mask) == mask))


def cast(stored: np.ndarray, dtype: jnp.dtype, name: str, *, where: object) -> np.ndarray:
    """The values of a tensor in another type.

    **Arguments:**

    - `name`, `where`: the tensor and its file, for error messages.

    **Raises:** `UserError` for values that are no numbers, or are none in this type.
    """
    if bad := count_not_finite(stored):
        raise UserError(f"{name}: {bad} of {stored.size} values are NaN or infinite", where=where)
    with np.errstate(over="ignore"):
        values = np.asarray(stored, dtype)
    # Of the same type it is the same array, and has been looked at.
    if values is not stored and (bad := count_not_finite(values)):
        raise UserError(
            f"{name}: {bad} of {stored.size} values are beyond the range of {dtype.name} "
            f"(±{float(jnp.finfo(dtype).max):.4g})",
            where=where,
            hint="take bfloat16 or float32",
        )
    return values
