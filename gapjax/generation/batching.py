"""Ragged token lists to rectangular arrays, in few distinct shapes.

Every distinct shape is a compilation, so lengths are rounded up to buckets and row
counts to what the caller fixes. Prompts are padded on the left, so that their last
token is always in the last column; what follows them is padded on the right.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

_FINEST = 8  # tokens


def bucketed(length: int) -> int:
    """`length` rounded up to one of few lengths: 8, 16, … 64, 80, … 128, 160, … 256, 320, …

    At most a quarter more (or 8 tokens), and four shapes to compile for each doubling.
    """
    step = max(_FINEST, 2 ** ((length - 1).bit_length() - 3)) if length > 1 else _FINEST
    return max(_FINEST, -(-length // step) * step)


def pad_left(
    rows: Sequence[Sequence[int]], length: int
) -> tuple[Int[np.ndarray, "rows length"], Bool[np.ndarray, "rows length"]]:
    """Token ids and mask with the tokens at the right edge; the padding's id is 0.

    **Raises:** `ValueError` if a row is longer than `length`.
    """
    tokens, mask = pad_right([row[::-1] for row in rows], length)
    return tokens[:, ::-1], mask[:, ::-1]


def pad_right(
    rows: Sequence[Sequence[int]], length: int
) -> tuple[Int[np.ndarray, "rows length"], Bool[np.ndarray, "rows length"]]:
    """Token ids and mask with the tokens at the left edge; the padding's id is 0.

    **Raises:** `ValueError` if a row is longer than `length`.
    """
    tokens = np.zeros((len(rows), length), np.int32)
    mask = np.zeros((len(rows), length), bool)
    for i, row in enumerate(rows):
        if len(row) > length:
            raise ValueError(f"row {i} has {len(row)} tokens, more than {length}")
        tokens[i, : len(row)] = row
        mask[i, : len(row)] = True
    return tokens, mask


def chunks(total: int, size: int) -> list[np.ndarray]:
    """Row indices 0 … total-1 in groups of exactly `size`.

    The last group repeats its final row to keep the shape; callers drop the repeats.
    """
    return [
        np.minimum(np.arange(start, start + size), total - 1) for start in range(0, total, size)
    ]
