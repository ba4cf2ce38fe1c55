"""How many parameters a model has, and the bytes that a device holds of what is computed.

Per device and in bytes where nothing else is said; letters as in `gapjax.parallel.roofline`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from gapjax.parallel.load import Load, Mesh

if TYPE_CHECKING:
    from gapjax.models.config import DecoderConfig

WEIGHT = 2  # bytes of a parameter, activation, key or value in bfloat16
EXACT = 4  # bytes of what is float32: logits, scores, trained weights, moments, gradients


@dataclasses.dataclass(frozen=True)
class Parameters:
    """How many of them there are."""

    layer: int  # matrices of one layer
    head: int  # the output projection
    total: int  # everything: norms, biases and embeddings too

    @classmethod
    def of(cls, config: DecoderConfig) -> Parameters:
        """Of a decoder."""
        width, size, inner = config.hidden_size, config.head_dim, config.intermediate_size
        queries, keys = config.num_heads * size, config.num_kv_heads * size
        layer = width * (2 * queries + 2 * keys + 3 * inner)
        small = 2 * width + 2 * size * config.qk_norm
        small += (queries + 2 * keys) * config.qkv_bias + width * config.output_bias
        head = config.vocab_size * width
        tables = head if config.tie_embeddings else 2 * head
        return cls(layer, head, config.num_layers * (layer + small) + tables + width)


def weights_bytes(config: DecoderConfig, shards: int) -> float:
    return Parameters.of(config).total * WEIGHT / shards


def trained_parameters(config: DecoderConfig, load: Load) -> int:
    """Parameters that an optimizer step changes."""
    if not load.rank:
        return Parameters.of(config).total
    width, size, inner = config.hidden_size, config.head_dim, config.intermediate_size
    queries, keys = config.num_heads * size, config.num_kv_heads * size
    sides = 2 * (width + queries) + 2 * (width + keys) + 3 * (width + inner)
    return config.num_layers * load.rank * sides


def cache_bytes(config: DecoderConfig, load: Load, mesh: Mesh, *, answers: bool) -> float:
    """Bytes of keys and values: of the prompts, once each, and of the answers."""
    slots = load.prompts * load.prompt_tokens
    if answers:
        slots += load.prompts * load.samples * load.new_tokens
    split = mesh.tensor if config.num_kv_heads % mesh.tensor == 0 else 1
    pair = 2 * config.num_layers * config.num_kv_heads * config.head_dim * WEIGHT
    return math.ceil(slots / mesh.rows) * pair / split


def sampling_memory(config: DecoderConfig, load: Load, mesh: Mesh) -> dict[str, float]:
    rows = load.prompts * load.samples / mesh.rows
    tokens = load.prompts * load.prompt_tokens / mesh.rows
    return {
        "weights": weights_bytes(config, mesh.fsdp * mesh.tensor),
        "cache": cache_bytes(config, load, mesh, answers=True),
        "activations": layer_activations(config, load, mesh, tokens),
        "logits": 2 * rows * config.vocab_size * EXACT,
    }


def kept_products(config: DecoderConfig, mesh: Mesh) -> float:
    """Bytes a token of the results of one layer's matrix products, and of what goes into it."""
    heads = (config.num_heads + 2 * config.num_kv_heads) * config.head_dim
    split = (heads + 2 * config.intermediate_size) / mesh.tensor
    return WEIGHT * (3 * config.hidden_size + split)


def layer_activations(config: DecoderConfig, load: Load, mesh: Mesh, tokens: float) -> float:
    """Bytes of what is computed within one layer: of matrices' results and attention's scores."""
    context = load.prompt_tokens + load.new_tokens
    inner = WEIGHT * 2 * config.intermediate_size / mesh.tensor
    scores = config.num_heads / mesh.tensor * context * (EXACT + WEIGHT)
    return tokens * (kept_products(config, mesh) + inner + scores)
