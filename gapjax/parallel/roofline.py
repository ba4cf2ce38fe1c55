"""How long the phases of a round take at best, and how much memory: closed forms.

A step needs arithmetic, reads and writes memory, and passes on data; done at the same time and
each at its published peak, it takes as long as the slowest of the three (the roofline model,
doi:10.1145/1498765.1498785). No program reaches this: the figures say what cannot be
beaten, what bounds a step, and which of two meshes is better, not what a run will take.

Everything is per device. `P` prompts of `S` tokens with `N` answers of `T` tokens each; a mesh
of `data` x `fsdp` x `tensor` devices as in `gapjax.parallel.layout`. Counted are matrix products
(2 operations a parameter and token, 2 and 3 times as many with the backward pass to adapters and
to all weights: arXiv:2001.08361), attention over all slots (masked ones are computed too), weights
and caches read, weights gathered and results reduced. Not counted: norms, softmax, padding,
adapters' own products, latency.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from gapjax.errors import UserError
from gapjax.parallel.hardware import Generation, Hardware

if TYPE_CHECKING:
    from gapjax.models.config import DecoderConfig

Remat = Literal["none", "dots", "full"]
_WEIGHT = 2  # bytes of a parameter, activation, key or value in bfloat16
_EXACT = 4  # bytes of what is float32: logits, scores, trained weights, moments, gradients
_SPARE = 0.9  # of the memory, for us; the rest is the compiler's and the runtime's
_AXES = ("data", "fsdp", "tensor")
# Bytes of weights up to which every device samples by itself, as in `gapjax.selfimprove.rounds`.
SMALL = 2 * 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mesh:
    """Sizes of the axes over which the work is split."""

    data: int = 1
    fsdp: int = 1
    tensor: int = 1

    @property
    def devices(self) -> int:
        return self.data * self.fsdp * self.tensor

    @property
    def rows(self) -> int:
        """Into how many parts a batch is split."""
        return self.data * self.fsdp

    def __str__(self) -> str:
        split = [f"{axis}={size}" for axis in _AXES if (size := getattr(self, axis)) > 1]
        return ",".join(split) or "one device"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Load:
    """What a run does."""

    prompts: int = 64  # sampled and verified at a time
    samples: int = 16  # answers of each
    prompt_tokens: int = 512
    new_tokens: int = 512
    batch: int = 64  # rows of a training step: a prompt and an answer
    rank: int = 16  # of adapters on all layers; 0 trains all weights
    remat: Remat = "full"

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name == "rank" else 1
            if isinstance(value, int) and value < least:
                raise UserError(f"{value} is less than {least}", where=field.name)


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds of a step, if nothing but one thing took time."""

    compute: float
    memory: float
    network: float

    @property
    def seconds(self) -> float:
        """Of the step: the slowest hides the others."""
        return max(self.compute, self.memory, self.network)

    @property
    def bound(self) -> str:
        """What the step waits for."""
        return max(("compute", "memory", "network"), key=lambda name: getattr(self, name))

    @property
    def utilisation(self) -> float:
        """Of the peak compute: what model FLOPs utilisation can be at most."""
        return self.compute / self.seconds


def times(step: Step, generation: Generation, mesh: Mesh) -> Times:
    """How long a step takes.

    Each axis of the mesh is taken to lie along one axis of the torus. Where that is no ring,
    data goes one way only.
    """
    network = 0.0
    for axis, received in step.network.items():
        ring = getattr(mesh, axis) % generation.wraparound == 0
        network += received / (generation.ring_bandwidth if ring else generation.link_bandwidth)
    return Times(
        compute=step.flops / generation.flops,
        memory=step.memory / generation.memory_bandwidth,
        network=network,
    )


def prefill_step(config: DecoderConfig, load: Load, mesh: Mesh) -> Step:
    """The prompts' keys and values, and the distribution of the first token."""
    tokens = load.prompts * load.prompt_tokens
    flops = 2.0 * Parameters.of(config).layer * config.num_layers * tokens
    flops += 2 * Parameters.of(config).head * load.prompts
    flops += _attention(config, load.prompts * load.prompt_tokens, load.prompt_tokens)
    cache = _cache(config, load, mesh, answers=False)
    return Step(
        name="prefill",
        flops=flops / mesh.devices,
        memory=_weights(config, mesh.tensor) + cache,
        network=_forward_network(config, mesh, tokens),
        resident=_sampling_memory(config, load, mesh),
        tokens=tokens,
    )


def decode_step(config: DecoderConfig, load: Load, mesh: Mesh) -> Step:
    """One more token of every answer."""
    answers = load.prompts * load.samples
    count = Parameters.of(config)
    flops = 2.0 * (count.layer * config.num_layers + count.head) * answers
    flops += _attention(config, answers, load.prompt_tokens + load.new_tokens)
    network = _forward_network(config, mesh, answers)
    logits = answers / mesh.rows * config.vocab_size * _EXACT  # a token is drawn from all of them
    network["tensor"] += logits * _others(mesh.tensor)
    return Step(
        name="decode",
        flops=flops / mesh.devices,
        memory=_weights(config, mesh.tensor) + _cache(config, load, mesh, answers=True) + logits,
        network=network,
        resident=_sampling_memory(config, load, mesh),
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
    activations = _layer_activations(config, load, mesh, (new + old) / mesh.rows)
    return Step(
        name="verify",
        flops=flops / mesh.devices,
        memory=_weights(config, mesh.tensor) + 2 * config.num_layers * activations,
        network=_forward_network(config, mesh, new + old),
        resident={
            "weights": _weights(config, mesh.fsdp * mesh.tensor),
            "cache": _cache(config, load, mesh, answers=False),
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
    trained = _trained(config, load)
    # Gradients have the type of the arithmetic until they are added up.
    network["fsdp"] += trained * _WEIGHT / mesh.tensor * _others(mesh.fsdp)
    network["data"] += 2 * trained * _WEIGHT / (mesh.fsdp * mesh.tensor) * _others(mesh.data)

    shards = mesh.fsdp * mesh.tensor
    row_tokens = tokens / mesh.rows
    layer = _layer_activations(config, load, mesh, row_tokens)
    kept = {
        "none": layers * layer,
        "dots": layers * row_tokens * _kept_products(config, mesh) + layer,
        "full": layers * row_tokens * config.hidden_size * _WEIGHT + layer,
    }[load.remat]
    resident = {
        # Adapters come on top of the frozen weights, a rounded copy on top of trained ones.
        "weights": _weights(config, shards),
        "trained": trained * _EXACT / shards,
        "optimizer": 2 * trained * _EXACT / shards,
        "gradient": trained * _EXACT / shards,
        "activations": kept,
    }
    update = 7 * trained * _EXACT / shards  # weights and moments read and written, the gradient
    passes = (2 + again) * _weights(config, mesh.tensor)
    return Step(
        name="train",
        flops=flops / mesh.devices,
        memory=passes + update + 2 * (2 + again) * layers * layer,
        network=network,
        resident=resident,
        tokens=tokens,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phase:
    """A phase of a round: sampling is a prefill and as many decode steps as new tokens."""

    name: str
    step: Step
    times: Times
    repeated: int
    mesh: Mesh
    fits: bool

    @property
    def seconds(self) -> float:
        return self.times.seconds * self.repeated


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """Of one load on one mesh."""

    mesh: Mesh
    phases: tuple[Phase, ...]

    @property
    def fits(self) -> bool:
        return all(phase.fits for phase in self.phases)

    @property
    def seconds(self) -> float:
        """Of sampling and verifying the prompts once, and of one training step."""
        return sum(phase.seconds for phase in self.phases)


def estimate(
    config: DecoderConfig,
    load: Load,
    hardware: Hardware,
    mesh: Mesh,
    *,
    replicate_below: int = SMALL,
) -> Estimate:
    """All phases on one mesh.

    **Arguments:**

    - `replicate_below`: bytes of weights up to which every device samples and verifies by
        itself, with all weights.
    """
    alone = _weights(config, 1) <= replicate_below
    inference = Mesh(data=mesh.devices) if alone else mesh
    room = _SPARE * hardware.generation.memory

    def phase(step: Step, mesh: Mesh, repeated: int = 1) -> Phase:
        return Phase(
            name=step.name,
            step=step,
            times=times(step, hardware.generation, mesh),
            repeated=repeated,
            mesh=mesh,
            fits=step.held <= room,
        )

    return Estimate(
        mesh=mesh,
        phases=(
            phase(prefill_step(config, load, inference), inference),
            phase(decode_step(config, load, inference), inference, max(load.new_tokens - 1, 1)),
            phase(verify_step(config, load, inference), inference),
            phase(train_step(config, load, mesh), mesh),
        ),
    )


def best_mesh(
    config: DecoderConfig, load: Load, hardware: Hardware, *, replicate_below: int = SMALL
) -> Mesh:
    """Of the meshes of all chips the fastest that fits; the smallest in memory if none does."""
    sizes = [1 << i for i in range(hardware.chips.bit_length())]
    candidates = []
    for fsdp, tensor in itertools.product(sizes, sizes):
        if hardware.chips % (fsdp * tensor) or config.num_kv_heads % tensor:
            continue
        mesh = Mesh(data=hardware.chips // (fsdp * tensor), fsdp=fsdp, tensor=tensor)
        found = estimate(config, load, hardware, mesh, replicate_below=replicate_below)
        most = max(phase.step.held for phase in found.phases)
        candidates.append((not found.fits, found.seconds if found.fits else most, mesh))
    return min(candidates, key=lambda candidate: candidate[:2])[2]


def make_mesh(sizes: Mapping[str, int], hardware: Hardware) -> Mesh:
    """A mesh of all chips; what is left goes to `data`, as in `gapjax.parallel.mesh`.

    **Raises:** `UserError` if the chips cannot be arranged so.
    """
    if unknown := sorted(set(sizes) - set(_AXES)):
        raise UserError(
            f"unknown axes {', '.join(unknown)}", where="mesh", hint=f"known: {', '.join(_AXES)}"
        )
    given = math.prod(sizes.values())
    if given < 1 or hardware.chips % given or ("data" in sizes and given != hardware.chips):
        wanted = " x ".join(f"{axis} {size}" for axis, size in sizes.items())
        raise UserError(f"{hardware.chips} chips cannot be arranged as {wanted}", where="mesh")
    return Mesh(**{"data": hardware.chips // given, **sizes})


def _others(size: int) -> float:
    """Share of what all devices of an axis have that is not one's own."""
    return (size - 1) / size


def _weights(config: DecoderConfig, shards: int) -> float:
    return Parameters.of(config).total * _WEIGHT / shards


def _trained(config: DecoderConfig, load: Load) -> int:
    """Parameters that an optimizer step changes."""
    if not load.rank:
        return Parameters.of(config).total
    width, size, inner = config.hidden_size, config.head_dim, config.intermediate_size
    queries, keys = config.num_heads * size, config.num_kv_heads * size
    sides = 2 * (width + queries) + 2 * (width + keys) + 3 * (width + inner)
    return config.num_layers * load.rank * sides


def _attention(config: DecoderConfig, queries: float, keys: float) -> float:
    """Operations of scores and of sums of values, in all layers."""
    return 4 * config.num_layers * config.num_heads * config.head_dim * queries * keys


def _cache(config: DecoderConfig, load: Load, mesh: Mesh, *, answers: bool) -> float:
    """Bytes of keys and values: of the prompts, once each, and of the answers."""
    slots = load.prompts * load.prompt_tokens
    if answers:
        slots += load.prompts * load.samples * load.new_tokens
    split = mesh.tensor if config.num_kv_heads % mesh.tensor == 0 else 1
    pair = 2 * config.num_layers * config.num_kv_heads * config.head_dim * _WEIGHT
    return math.ceil(slots / mesh.rows) * pair / split


def _sampling_memory(config: DecoderConfig, load: Load, mesh: Mesh) -> dict[str, float]:
    rows = load.prompts * load.samples / mesh.rows
    tokens = load.prompts * load.prompt_tokens / mesh.rows
    return {
        "weights": _weights(config, mesh.fsdp * mesh.tensor),
        "cache": _cache(config, load, mesh, answers=True),
        "activations": _layer_activations(config, load, mesh, tokens),
        "logits": 2 * rows * config.vocab_size * _EXACT,
    }


def _kept_products(config: DecoderConfig, mesh: Mesh) -> float:
    """Bytes a token of the results of one layer's matrix products, and of what goes into it."""
    heads = (config.num_heads + 2 * config.num_kv_heads) * config.head_dim
    split = (heads + 2 * config.intermediate_size) / mesh.tensor
    return _WEIGHT * (3 * config.hidden_size + split)


def _layer_activations(config: DecoderConfig, load: Load, mesh: Mesh, tokens: float) -> float:
    """Bytes of what is computed within one layer: of matrices' results and attention's scores."""
    context = load.prompt_tokens + load.new_tokens
    inner = _WEIGHT * 2 * config.intermediate_size / mesh.tensor
    scores = config.num_heads / mesh.tensor * context * (_EXACT + _WEIGHT)
    return tokens * (_kept_products(config, mesh) + inner + scores)


def _forward_network(
    config: DecoderConfig, mesh: Mesh, tokens: float, *, passes: int = 1
) -> dict[str, float]:
    """Bytes: weights gathered in each pass, two sums over heads or inner width in each layer.

    **Arguments:**

    - `tokens`: of all passes and devices.
    """
    sums = 2 * config.num_layers * tokens / mesh.rows * config.hidden_size * _WEIGHT
    return {
        "data": 0.0,
        "fsdp": passes * _weights(config, mesh.tensor) * _others(mesh.fsdp),
        "tensor": 2 * sums * _others(mesh.tensor),  # a sum is two passes around the ring
    }
