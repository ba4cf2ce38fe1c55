"""A digest of arrays that no process need hold whole, the same however they are split.

Each element, as an unsigned number, is multiplied by one odd 64-bit number for each of its
coordinates, and the products are added up modulo 2**64. Integer sums have no order, so every
process adds up its own parts; an odd factor can be undone, so no change of a single element goes
unnoticed, and other damage does with a probability of 2**-64 or so. It is no protection against
someone who wants to deceive.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import jax
import numpy as np
from jaxtyping import UInt64

from gapjax.parallel.distributed import exchange

_ELEMENTS_AT_ONCE = 2**22


def fingerprint(arrays: Mapping[str, jax.Array]) -> str:
    """The digest of named arrays, with their types and shapes; called by every process alike."""
    sums = [_own_sum(arrays[name]) for name in sorted(arrays)]
    digest = hashlib.sha256()
    for name, *parts in zip(sorted(arrays), *exchange(sums), strict=True):
        value = arrays[name]
        digest.update(f"{name} {value.dtype} {value.shape} {sum(parts) % 2**64}\n".encode())
    return digest.hexdigest()


def _own_sum(array: jax.Array) -> int:
    """Of the parts on this process's devices; of copies one counts."""
    factors = [_factors(axis, size) for axis, size in enumerate(array.shape)]
    total = 0
    for shard in array.addressable_shards:
        if shard.replica_id == 0:
            inside = [f[at] for f, at in zip(factors, shard.index, strict=True)]
            total += _weighted_sum(np.asarray(shard.data), inside)
    return total % 2**64


def _factors(axis: int, size: int) -> UInt64[np.ndarray, " size"]:
    return np.random.default_rng(axis).integers(2**64, size=size, dtype=np.uint64) | np.uint64(1)


def _weighted_sum(part: np.ndarray, factors: list[UInt64[np.ndarray, " _"]]) -> int:
    bits = np.ascontiguousarray(part).view(f"u{part.itemsize}")
    if part.size == 0 or not factors:
        return int(bits.sum())
    *before, last = factors
    rows = bits.reshape(-1, len(last))
    step = max(1, _ELEMENTS_AT_ONCE // len(last))
    sums = np.concatenate(
        [rows[i : i + step].astype(np.uint64) @ last for i in range(0, len(rows), step)]
    )
    for factor in reversed(before):
        sums = sums.reshape(-1, len(factor)) @ factor
    return int(sums.sum())
