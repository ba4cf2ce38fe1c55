"""What the steps of a round cost a device: operations, bytes read, received and held.

Closed forms; what they count is said in `gapjax.parallel.roofline`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from gapjax.parallel.footprint import (
    EXACT,
    WEIGHT,
    Parameters,
    cache_bytes,
    kept_products,
    layer_activations,
    sampling_memory,
    trained_parameters,
    weights_bytes,
)
from gapjax.parallel.load import Load, Mesh

if TYPE_CHECKING:
    from gapjax.models.config import DecoderConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """What one step costs a device."""

    name: str
    flops: float
    memory: float  # bytes read or written
    network: Mapping[str, float]  # bytes received along each axis of the mesh
    resident: Mapping[str, float]  # bytes that are held meanwhile, and what they are
    tokens: float  # of all devices: how many the step gets done

    @property
    def held(self) -> float:
        return sum(self.resident.values())


def prefill_step(config: DecoderConfig, load: Load, mesh: Mesh) -> Step:
    """The prompts' keys and values, and the distribution of the first token."""
    tokens = load.prompts * load.prompt_tokens
    flops = 2.0 * Parameters.of(config).layer * config.num_layers * tokens
    flops += 2 * Parameters.of(config).head * load.prompts
    flops += _attention(config, load.prompts * load.prompt_tokens, load.prompt_tokens)
    cache = cache_bytes(config, load, mesh, answers=False)
    return Step(
        name="prefill",
        flops=flops / mesh.devices,
        memory=weights_bytes(config, mesh.tensor) + cache,
        network=_forward_network(config, mesh, tokens),
        resident=sampling_memory(config, load, mesh),
        tokens=tokens,
    )


def decode_step(config: DecoderConfig, load: Load, mesh: Mesh) -> Step:
    """One more token of every answer."""
    answers = load.prompts * load.samples
    count = Parameters.of(config)
    flops = 2.0 * (count.layer * config.num_layers + count.head) * answers
    flops += _attention(config, answers, load.prompt_tokens + load.new_tokens)
    network = _forward_network(config, mesh, answers)
    logits = answers / mesh.rows * config.vocab_size * EXACT  # a token is drawn from all of them
    caches = cache_bytes(config, load, mesh, answers=True)
    network["tensor"] += logits * _others(mesh.tensor)
    return Step(
        name="decode",
        flops=flops / mesh.devices,
        memory=weights_bytes(config, mesh.tensor) + caches + logits,
        network=network,
        resident=sampling_memory(config, load, mesh),
        tokens=answers,
    )


def verify_step(config: DecoderConfig, load: Load, mesh: Mesh) -> Step:
    """Log-probabilities of all answers, each prompt computed once.

    A verifier that asks the model about an answer reads about as much.
    """
    answers = load.prompts * load.samples
    new, old = answers * load.new_tokens, load.prompts * load.prompt_tokens
    count = Parameters.of(config)
    flops = 2.0 * count.layer * config.num_layers * (new + old) + 2 * count.head * new
    flops += _attention(config, old, load.prompt_tokens)
    flops += _attention(config, new, load.prompt_tokens + load.new_tokens)
    activations = layer_activations(config, load, mesh, (new + old) / mesh.rows)
    return Step(
        name="verify",
        flops=flops / mesh.devices,
        memory=weights_bytes(config, mesh.tensor) + 2 * config.num_layers * activations,
        network=_forward_network(config, mesh, new + old),
        resident={
            "weights": weights_bytes(config, mesh.fsdp * mesh.tensor),
            "cache": cache_bytes(config, load, mesh, answers=False),
            "activations": activations,
        },
        tokens=new,
    )


def train_step(config: DecoderConfig, load: Load, mesh: Mesh) -> Step:
    """One optimizer step on a batch of prompts with an answer each."""
    count, layers = Parameters.of(config), config.num_layers
    context = load.prompt_tokens + load.new_tokens
    tokens, again = load.batch * context, load.remat == "full"
    backward = 1 if load.rank else 2
    attention = _attention(config, load.batch * load.prompt_tokens, load.prompt_tokens)
    attention += _attention(config, load.batch * load.new_tokens, context)
    products = 2 * count.layer * layers * tokens
    # The head's results are always computed again.
    head = 2 * count.head * load.batch * load.new_tokens * (2 + backward)
    flops = products * (1 + backward + again) + attention * (3 + again) + head

    # Weights are gathered before each pass, forward, backward and once more if it is repeated.
    network = _forward_network(config, mesh, tokens * (2 + again), passes=2 + again)
    trained = trained_parameters(config, load)
    # Gradients have the type of the arithmetic until they are added up.
    network["fsdp"] += trained * WEIGHT / mesh.tensor * _others(mesh.fsdp)
    network["data"] += 2 * trained * WEIGHT / (mesh.fsdp * mesh.tensor) * _others(mesh.data)

    shards = mesh.fsdp * mesh.tensor
    row_tokens = tokens / mesh.rows
    layer = layer_activations(config, load, mesh, row_tokens)
    kept = {
        "none": layers * layer,
        "dots": layers * row_tokens * kept_products(config, mesh) + layer,
        "full": layers * row_tokens * config.hidden_size * WEIGHT + layer,
    }[load.remat]
    resident = {
        # Adapters come on top of the frozen weights, a rounded copy on top of trained ones.
        "weights": weights_bytes(config, shards),
        "trained": trained * EXACT / shards,
        "optimizer": 2 * trained * EXACT / shards,
        "gradient": trained * EXACT / shards,
        "activations": kept,
    }
    update = 7 * trained * EXACT / shards  # weights and moments read and written, the gradient
    passes = (2 + again) * weights_bytes(config, mesh.tensor)
    return Step(
        name="train",
        flops=flops / mesh.devices,
        memory=passes + update + 2 * (2 + again) * layers * layer,
        network=network,
        resident=resident,
        tokens=tokens,
    )


def _others(size: int) -> float:
    """Share of what all devices of an axis have that is not one's own."""
    return (size - 1) / size


def _attention(config: DecoderConfig, queries: float, keys: float) -> float:
    """Operations of scores and of sums of values, in all layers."""
    return 4 * config.num_layers * config.num_heads * config.head_dim * queries * keys


def _forward_network(
    config: DecoderConfig, mesh: Mesh, tokens: float, *, passes: int = 1
) -> dict[str, float]:
    """Bytes: weights gathered in each pass, two sums over heads or inner width in each layer.

    **Arguments:**

    - `tokens`: of all passes and devices.
    """
    sums = 2 * config.num_layers * tokens / mesh.rows * config.hidden_size * WEIGHT
    return {
        "data": 0.0,
        "fsdp": passes * weights_bytes(config, mesh.tensor) * _others(mesh.fsdp),
        "tensor": 2 * sums * _others(mesh.tensor),  # a sum is two passes around the ring
    }
