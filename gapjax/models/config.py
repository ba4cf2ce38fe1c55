"""The shape of a decoder: everything the code needs to know about a checkpoint."""

from __future__ import annotations

import dataclasses
import math


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearScaling:
    """Positions divided by one factor (arXiv:2306.15595)."""

    factor: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Llama3Scaling:
    """Llama 3.1's frequency-dependent stretching of rotary positions.

    Source: the `llama3` rule of the Llama 3.1 release, as in its `config.json`.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class YarnScaling:
    """YaRN (arXiv:2309.00071): slow rotary pairs are stretched, fast ones kept.

    A pair is kept if it turns more than `beta_fast` times over the original context, and
    stretched by `factor` if less than `beta_slow` times.
    """

    factor: float
    original_max_position_embeddings: int
    attention_factor: float  # multiplies queries and keys
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True  # the two edges to whole pairs


@dataclasses.dataclass(frozen=True, kw_only=True)
class LongRopeScaling:
    """A divisor for each rotary frequency (arXiv:2402.13753), as in the Phi-3 family.

    A sequence longer than the original context takes the long factors, at all of its
    positions; any other takes the short ones.
    """

    short_factor: tuple[float, ...]
    long_factor: tuple[float, ...]
    original_max_position_embeddings: int
    attention_factor: float  # multiplies the rotated part of queries and of keys


RopeScaling = LinearScaling | Llama3Scaling | YarnScaling | LongRopeScaling


_POSITIVE = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_layers", "num_heads"),
    *("num_kv_heads", "head_dim", "max_position", "rope_theta", "norm_eps"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """A Llama-type decoder: RMSNorm, rotary positions, grouped-query attention, SwiGLU.

    `gapjax.models.families` says which of these a family of checkpoints can set.
    """

    family: str = "llama"  # Hugging Face's `model_type`, in which the model is exported
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_position: int  # `max_position_embeddings`, see `context`
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    rotary_dim: int | None = None  # leading entries of a head that are rotated; None: all
    sliding_window: int | None = None  # a token sees this many, itself included …
    sliding_layers: tuple[int, ...] = ()  # … in these layers; in the others all before it
    qkv_bias: bool = False
    output_bias: bool = False  # of the attention's output projection
    qk_norm: bool = False  # RMSNorm of each head's queries and keys
    norm_eps: float = 1e-6
    tie_embeddings: bool = False  # the output projection is the embedding table

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} = {getattr(self, name)} is not positive and finite")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"{self.num_heads} attention heads cannot share {self.num_kv_heads} key-value heads"
            )
        rotary = self.head_dim if self.rotary_dim is None else self.rotary_dim
        if rotary % 2 or not 0 < rotary <= self.head_dim:
            raise ValueError(
                f"rotary positions need an even part of head_dim = {self.head_dim}, not {rotary}"
            )
        if isinstance(self.rope_scaling, LongRopeScaling):
            for name in ("short_factor", "long_factor"):
                if (count := len(getattr(self.rope_scaling, name))) != rotary // 2:
                    raise ValueError(f"{name} has {count} values instead of {rotary // 2}")
        if self.sliding_layers and (self.sliding_window is None or self.sliding_window < 1):
            raise ValueError(f"sliding_window = {self.sliding_window} is not a number of tokens")

    @property
    def context(self) -> int:
        """How many tokens a sequence may have.

        Rotary positions that are stretched reach `factor` times as far as those a model was
        trained with. Whether `max_position_embeddings` says how far that is, or how far the
        originals reached (as in the model cards of Qwen2.5 and wherever positions are divided by
        one factor), differs from file to file: the farther counts.
        """
        match self.rope_scaling:
            case LinearScaling(factor=factor):
                stretched = factor * self.max_position
            case YarnScaling(factor=factor, original_max_position_embeddings=original):
                stretched = factor * original
            case Llama3Scaling(factor=factor, original_max_position_embeddings=original):
                # Llama 3.2 has a factor of 32 over 8192, and was made for 131072.
                stretched = 0 if original < self.max_position else factor * original
            case _:
                stretched = 0
        return max(self.max_position, int(stretched))
