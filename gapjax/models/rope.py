"""Rotary positions (arXiv:2104.09864) and the ways in which they are stretched.

Shapes are named as in `gapjax.models.transformer`; `R` is half the rotated part of a head.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gapjax.models.config import (
    DecoderConfig,
    LinearScaling,
    Llama3Scaling,
    LongRopeScaling,
    YarnScaling,
)


class Rotation(NamedTuple):
    """Cosine and sine of the angle of every rotary pair at every position."""

    cos: Float[Array, "*batch L R"]
    sin: Float[Array, "*batch L R"]

    def __call__(self, x: Float[Array, "*batch L heads D"]) -> Float[Array, "*batch L heads D"]:
        """Turn queries or keys: entry i of the rotated part together with entry i + R."""
        half = self.cos.shape[-1]
        y = x.astype(jnp.float32)
        first, second, rest = y[..., :half], y[..., half : 2 * half], y[..., 2 * half :]
        cos, sin = self.cos[..., None, :], self.sin[..., None, :]
        turned = (first * cos - second * sin, second * cos + first * sin, rest)
        return jnp.concatenate(turned, axis=-1).astype(x.dtype)


def frequencies(config: DecoderConfig, *, long: bool = False) -> Float[np.ndarray, " R"]:
    """Angular frequency (radians a position) of each rotary pair.

    **Arguments:**

    - `long`: take the long factors of `LongRopeScaling`; of no effect elsewhere.
    """
    size = config.head_dim if config.rotary_dim is None else config.rotary_dim
    plain = 1.0 / config.rope_theta ** (np.arange(0, size, 2) / size)
    match config.rope_scaling:
        case LinearScaling(factor=factor):
            plain = plain / factor
        case Llama3Scaling() as scaling:
            plain = _blend(plain, scaling)
        case YarnScaling() as scaling:
            plain = _ramp(plain, scaling, config.rope_theta)
        case LongRopeScaling() as scaling:
            plain = plain / np.asarray(scaling.long_factor if long else scaling.short_factor)
    return plain.astype(np.float32)


def _blend(plain: np.ndarray, scaling: Llama3Scaling) -> np.ndarray:
    # Long waves are slowed down by `factor`, short ones kept, those between blended.
    turns = scaling.original_max_position_embeddings * plain / (2 * np.pi)
    keep = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    keep = np.clip(keep, 0.0, 1.0)
    return keep * plain + (1 - keep) * plain / scaling.factor


def _ramp(plain: np.ndarray, scaling: YarnScaling, theta: float) -> np.ndarray:
    # From the pair that turns `beta_fast` times to the one that turns `beta_slow` times.
    pairs = plain.size
    turns = np.array([scaling.beta_fast, scaling.beta_slow])
    waves = scaling.original_max_position_embeddings / (2 * np.pi * turns)
    begin, end = pairs * np.log(waves) / np.log(theta)
    if scaling.truncate:
        begin, end = np.floor(begin), np.ceil(end)
    begin, end = max(begin, 0), min(end, 2 * pairs - 1)
    stretched = np.clip((np.arange(pairs) - begin) / (end - begin or 1e-3), 0.0, 1.0)
    return stretched * plain / scaling.factor + (1 - stretched) * plain


def is_long(config: DecoderConfig, lengths: Int[Array, "*batch"]) -> Bool[Array, "*batch"]:
    """Whether sequences of these lengths (tokens) take the long factors of longrope."""
    if isinstance(config.rope_scaling, LongRopeScaling):
        return lengths > config.rope_scaling.original_max_position_embeddings
    return jnp.zeros(lengths.shape, bool)


def rotation(
    config: DecoderConfig, positions: Int[Array, "*batch L"], long: Bool[Array, "*batch"]
) -> Rotation:
    """The rotation at each position of sequences, some of which take the long factors."""
    if isinstance(config.rope_scaling, LongRopeScaling):
        per_sequence = jnp.where(
            long[..., None], frequencies(config, long=True), frequencies(config)
        )[..., None, :]
    else:
        per_sequence = jnp.asarray(frequencies(config))
    stretch = getattr(config.rope_scaling, "attention_factor", 1.0)
    angles = positions[..., None].astype(jnp.float32) * per_sequence
    return Rotation(jnp.cos(angles) * stretch, jnp.sin(angles) * stretch)
