"""Supervised fine-tuning on answers: the loss, the step, the batches."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from gapjax.generation.batching import bucketed, chunks, pad_left, pad_right
from gapjax.generation.scoring import answer_logprobs
from gapjax.models import Transformer
from gapjax.selfimprove.recipe import TrainConfig


class Batch(NamedTuple):
    """Prompts and one answer of each, padded as `answer_logprobs` takes them."""

    prompts: Int[Array, "B S"]
    prompt_mask: Bool[Array, "B S"]
    answers: Int[Array, "B 1 L"]
    answer_mask: Bool[Array, "B 1 L"]


class TrainState(NamedTuple):
    """What changes from step to step."""

    trainable: nnx.State
    optimizer: optax.OptState
    step: Int[Array, ""]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Prompts with the answers to learn, as token ids, padded to one shape for the run."""

    prompts: Sequence[Sequence[int]]
    answers: Sequence[Sequence[int]]  # stop tokens included
    answer_width: int  # tokens; at least the longest answer

    def batches(self, size: int, key: Key[Array, ""]) -> Iterator[Batch]:
        """One epoch in random order; a short last batch is filled with empty rows."""
        order = np.asarray(jax.random.permutation(key, len(self.prompts)))
        prompt_width = bucketed(max(len(prompt) for prompt in self.prompts))
        for rows in chunks(len(order), size):
            chosen = order[rows]
            tokens, mask = pad_left([self.prompts[i] for i in chosen], prompt_width)
            answers, answer_mask = pad_right([self.answers[i] for i in chosen], self.answer_width)
            _, first = np.unique(rows, return_index=True)
            repeated = np.setdiff1d(np.arange(len(rows)), first)
            answer_mask[repeated] = False
            arrays = (tokens, mask, answers[:, None], answer_mask[:, None])
            yield Batch(*map(jnp.asarray, arrays))

    def steps_per_epoch(self, batch_size: int) -> int:
        return -(-len(self.prompts) // batch_size)


class Trainer:
    """AdamW on the adapters of a model if it has any, on all of its weights otherwise.

    Immutable: `step` maps a `TrainState` to the next one.
    """

    def __init__(self, model: Transformer, config: TrainConfig) -> None:
        adapters = nnx.state(model, nnx.LoRAParam)
        what = nnx.LoRAParam if jax.tree.leaves(adapters) else nnx.Param
        graph, trainable, *frozen = nnx.split(model, what, ...)
        self._graph, self._trainable, self._frozen = graph, trainable, frozen[0]
        # From a first step that is not wasted: at 0 warm-up steps the full rate at once.
        rate = optax.schedules.linear_schedule(
            config.learning_rate / (config.warmup_steps + 1),
            config.learning_rate,
            max(config.warmup_steps, 1),
        )
        self._optimizer = optax.chain(
            optax.clip_by_global_norm(config.clip_norm),
            optax.adamw(rate, weight_decay=config.weight_decay),
        )

    def init(self) -> TrainState:
        """The state before the first step."""
        # A copy, since `step` gives its argument's memory away and the model keeps its own.
        trainable = jax.tree.map(jnp.copy, self._trainable)
        return TrainState(trainable, self._optimizer.init(trainable), jnp.zeros((), jnp.int32))

    def step(self, state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        """One update. `state` must not be used afterwards.

        **Returns:** the next state; the loss (nats an answer token) and the gradient's norm.
        """
        return _step(self._graph, self._optimizer, state, self._frozen, batch)

    def model(self, state: TrainState) -> Transformer:
        """The model at `state`, adapters included."""
        # Copied for the same reason as in `init`.
        return nnx.merge(self._graph, jax.tree.map(jnp.copy, state.trainable), self._frozen)


def answer_loss(model: Transformer, batch: Batch) -> Float[Array, ""]:
    """Mean negative log-likelihood (nats) of the answer tokens; prompts do not count."""
    logprobs = answer_logprobs(model, *batch)
    return -logprobs.sum() / jnp.maximum(batch.answer_mask.sum(), 1)


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def _step(
    graph: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    frozen: nnx.State,
    batch: Batch,
) -> tuple[TrainState, dict[str, Array]]:
    def loss_of(trainable: nnx.State) -> Array:
        return answer_loss(nnx.merge(graph, trainable, frozen), batch)

    loss, gradient = jax.value_and_grad(loss_of)(state.trainable)
    updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.trainable)
    trainable = optax.apply_updates(state.trainable, updates)
    metrics = {"loss": loss, "gradient_norm": optax.tree.norm(gradient)}
    return TrainState(trainable, optimizer_state, state.step + 1), metrics
