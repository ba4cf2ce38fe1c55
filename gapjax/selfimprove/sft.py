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
from jaxtyping import Array, Bool, Int, Key

from gapjax.errors import UserError
from gapjax.generation.batching import chunks, pad_left, pad_right
from gapjax.generation.scoring import answer_logprobs
from gapjax.models import Transformer
from gapjax.models.transformer import Remat
from gapjax.parallel.layout import Layout
from gapjax.selfimprove.recipe import TrainConfig


class Batch(NamedTuple):
    """Prompts and one answer of each, padded as `answer_logprobs` takes them."""

    prompts: Int[np.ndarray, "B S"]
    prompt_mask: Bool[np.ndarray, "B S"]
    answers: Int[np.ndarray, "B 1 L"]
    answer_mask: Bool[np.ndarray, "B 1 L"]

    @property
    def tokens(self) -> int:
        """Tokens of prompts and answers, without padding."""
        filled = self.answer_mask.any((1, 2))
        return int(self.prompt_mask[filled].sum() + self.answer_mask.sum())


class TrainState(NamedTuple):
    """What changes from step to step."""

    trainable: nnx.State
    optimizer: optax.OptState
    step: Int[Array, ""]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Prompts with the answers to learn, as token ids, padded to one shape for the run."""

    prompts: Sequence[Sequence[int] | Int[np.ndarray, " tokens"]]
    answers: Sequence[Sequence[int] | Int[np.ndarray, " tokens"]]  # stop tokens included
    prompt_width: int  # tokens; at least the longest prompt
    answer_width: int  # tokens; at least the longest answer

    def batches(self, size: int, key: Key[Array, ""]) -> Iterator[Batch]:
        """One epoch in random order; a short last batch is filled with empty rows."""
        order = np.asarray(jax.random.permutation(key, len(self.prompts)))
        for rows in chunks(len(order), size):
            chosen = order[rows]
            tokens, mask = pad_left([self.prompts[i] for i in chosen], self.prompt_width)
            answers, answer_mask = pad_right([self.answers[i] for i in chosen], self.answer_width)
            _, first = np.unique(rows, return_index=True)
            repeated = np.setdiff1d(np.arange(len(rows)), first)
            answer_mask[repeated] = False
            yield Batch(tokens, mask, answers[:, None], answer_mask[:, None])

    def steps_per_epoch(self, batch_size: int) -> int:
        return -(-len(self.prompts) // batch_size)


class Trainer:
    """AdamW on the adapters of a model if it has any, on all of its weights otherwise.

    Immutable: `step` maps a `TrainState` to the next one.

    **Arguments:**

    - `steps`: of the whole run, at the end of which a rate that decays has come to 0.
    - `remat`: what of a layer is kept for the backward pass.

    Weights are trained, and the optimizer works, in float32, whatever the model computes in.
    """

    def __init__(
        self,
        model: Transformer,
        config: TrainConfig,
        *,
        steps: int = 0,
        remat: Remat = "none",
    ) -> None:
        if config.batch_size % config.accumulate:
            raise UserError(
                f"{config.accumulate} does not divide the batch of {config.batch_size}",
                where="train.accumulate",
            )
        self._adapters = bool(jax.tree.leaves(nnx.state(model, nnx.LoRAParam)))
        what = nnx.LoRAParam if self._adapters else nnx.Param
        graph, trainable, *frozen = nnx.split(model, what, ...)
        self._graph, self._trainable, self._frozen = graph, trainable, frozen[0]
        training = nnx.merge(graph, trainable, *frozen)
        training.remat = remat
        self._training_graph = nnx.graphdef(training)
        self._layout: Layout | None = model.layout
        self._compute = jnp.dtype(model.embedding[...].dtype)
        self._parts = config.accumulate
        self._optimizer = _optimizer(config, steps if config.schedule == "cosine" else 0)

    def init(self) -> TrainState:
        """The state before the first step."""
        # A copy, since `step` gives its argument's memory away and the model keeps its own.
        trainable = jax.tree.map(_exact_copy, self._trainable)
        if self._layout is None:
            return _initial(self._optimizer, trainable)
        shape = jax.eval_shape(functools.partial(_initial, self._optimizer), trainable)
        where = self._layout.shardings(shape)
        return jax.jit(_initial, static_argnums=0, out_shardings=where)(self._optimizer, trainable)

    def step(self, state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        """One update. `state` must not be used afterwards.

        **Returns:** the next state; the loss (nats an answer token) and the gradient's norm.
        """
        if self._layout is not None:
            rows = self._layout.batch_shards * self._parts
            batch = self._layout.place_batch(_filled(batch, -(-len(batch.prompts) // rows) * rows))
        how = self._training_graph, self._optimizer, self._parts, self._compute
        return _step(*how, state, self._frozen, batch)

    def model(self, state: TrainState) -> Transformer:
        """The model at `state`, adapters included."""
        # Copied for the same reason as in `init`.
        trainable = jax.tree.map(jnp.copy, state.trainable)
        if not self._adapters:  # which are rounded once they are merged
            trainable = jax.tree.map(lambda x: x.astype(self._compute), trainable)
        return nnx.merge(self._graph, trainable, self._frozen)


def _exact_copy(x: Array) -> Array:
    return jnp.copy(x) if x.dtype == jnp.float32 else x.astype(jnp.float32)


def _initial(optimizer: optax.GradientTransformation, trainable: nnx.State) -> TrainState:
    return TrainState(trainable, optimizer.init(trainable), jnp.zeros((), jnp.int32))


def _filled(batch: Batch, rows: int) -> Batch:
    """The batch with rows that count for nothing."""
    missing = rows - len(batch.prompts)
    repeated = jax.tree.map(lambda x: np.concatenate([x, np.repeat(x[-1:], missing, 0)]), batch)
    repeated.answer_mask[len(batch.prompts) :] = False
    return repeated


@functools.cache
def _optimizer(config: TrainConfig, steps: int) -> optax.GradientTransformation:
    """The same object for the same settings: what is compiled for one run serves the next."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(_rate(config, steps), weight_decay=config.weight_decay),
    )


def _rate(config: TrainConfig, steps: int) -> optax.Schedule:
    """Learning rate by step. From a first step that is not wasted: never 0."""
    warm_up = optax.schedules.linear_schedule(
        config.learning_rate / (config.warmup_steps + 1),
        config.learning_rate,
        max(config.warmup_steps, 1),
    )
    if config.schedule == "constant":
        return warm_up
    decay = optax.schedules.cosine_decay_schedule(
        config.learning_rate, max(steps - config.warmup_steps, 1)
    )
    return optax.schedules.join_schedules([warm_up, decay], [config.warmup_steps])


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3), donate_argnums=4)
def _step(
    graph: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    parts: int,
    compute: jnp.dtype,
    state: TrainState,
    frozen: nnx.State,
    batch: Batch,
) -> tuple[TrainState, dict[str, Array]]:
    count = jnp.maximum(batch.answer_mask.sum(), 1)
    layout: Layout | None = nnx.merge(graph, state.trainable, frozen).layout

    def share_of_loss(trainable: nnx.State, part: Batch) -> Array:
        """A part's contribution to the mean over the answer tokens of the whole batch."""
        rounded = jax.tree.map(lambda x: x.astype(compute), trainable)
        model = nnx.merge(graph, rounded, frozen)
        return -answer_logprobs(model, *map(jnp.asarray, part)).sum() / count

    loss_and_gradient = jax.value_and_grad(share_of_loss)

    def add_part(total: tuple, part: Batch) -> tuple[tuple, None]:
        return jax.tree.map(jnp.add, total, loss_and_gradient(state.trainable, part)), None

    if parts == 1:
        loss, gradient = loss_and_gradient(state.trainable, batch)
    else:
        nothing = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, state.trainable))
        split: Batch = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), batch)
        if layout is not None:
            split = jax.tree.map(lambda x: layout.constrain(x, None, "batch"), split)
        (loss, gradient), _ = jax.lax.scan(add_part, nothing, split)
    if layout is not None:
        gradient = layout.constrain_tree(gradient)
    updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.trainable)
    trainable = optax.apply_updates(state.trainable, updates)
    metrics = {"loss": loss, "gradient_norm": optax.tree.norm(gradient)}
    after = TrainState(trainable, optimizer_state, state.step + 1)
    return after if layout is None else layout.constrain_tree(after), metrics
