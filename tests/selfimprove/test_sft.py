"""Fine-tuning: the loss on answer tokens, what is trained, what is not."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gapjax import models
from gapjax.errors import UserError
from gapjax.generation.scoring import answer_logprobs
from gapjax.models.lora import attach
from gapjax.selfimprove import sft
from gapjax.selfimprove.recipe import TrainConfig
from gapjax.selfimprove.sft import Dataset, Trainer

CONFIG = TrainConfig(batch_size=4, learning_rate=3e-3, warmup_steps=0)
DATA = Dataset(
    prompts=[[3, 4, 12, 5, 13], [6, 12, 7, 8, 9, 13], [2, 2, 12, 3, 13]],
    answers=[[3, 4, 1], [5, 1], [9, 9, 9, 1]],
    prompt_width=8,
    answer_width=8,
)


def tokens_of(batch) -> list[tuple[list[int], list[int]]]:
    rows = zip(*(np.asarray(x) for x in batch), strict=True)
    return [(p[m].tolist(), a[0][am[0]].tolist()) for p, m, a, am in rows]


@pytest.mark.fast
def test_loss_is_the_mean_over_answer_tokens(adder) -> None:
    batch = next(DATA.batches(4, jax.random.key(0)))
    total, count = 0.0, 0
    for prompt, answer in zip(DATA.prompts, DATA.answers, strict=True):
        logits = np.asarray(adder.model(np.array([[*prompt, *answer]]))[0], np.float64)
        table = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        for i, token in enumerate(answer):
            total -= table[len(prompt) + i - 1, token]
            count += 1
    for parts in (1, 4):  # however the batch is split to save memory
        trainer = Trainer(adder.model, dataclasses.replace(CONFIG, accumulate=parts))
        _, metrics = trainer.step(trainer.init(), batch)
        assert float(metrics["loss"]) == pytest.approx(total / count, rel=1e-5)


def test_parts_of_a_batch_give_the_gradient_of_the_whole(adder) -> None:
    batch = next(DATA.batches(4, jax.random.key(0)))
    states = []
    for parts in (1, 4):
        trainer = Trainer(adder.model, dataclasses.replace(CONFIG, accumulate=parts))
        state, metrics = trainer.step(trainer.init(), batch)
        states.append((float(metrics["gradient_norm"]), state))
    assert states[0][0] == pytest.approx(states[1][0], rel=1e-4)
    moments = [jax.tree.leaves(state.optimizer) for _, state in states]
    for whole, summed in zip(*moments, strict=True):
        np.testing.assert_allclose(whole, summed, rtol=1e-3, atol=1e-6)
    with pytest.raises(UserError, match=r"accumulate: 3 does not divide the batch of 4"):
        Trainer(adder.model, dataclasses.replace(CONFIG, accumulate=3))


def test_a_second_run_compiles_nothing(adder) -> None:
    batch = next(DATA.batches(4, jax.random.key(0)))
    compiled = []
    for steps in (10, 20):  # of no account to a constant rate
        trainer = Trainer(adder.model, CONFIG, steps=steps)
        trainer.step(trainer.init(), batch)
        compiled.append(sft._step._cache_size())
    assert compiled[0] == compiled[1]


def test_a_rate_that_decays_ends_at_zero(adder) -> None:
    trainer = Trainer(adder.model, dataclasses.replace(CONFIG, schedule="cosine"), steps=2)
    state = trainer.init()
    batch = next(DATA.batches(4, jax.random.key(0)))
    weights = []
    for _ in range(3):
        state, _ = trainer.step(state, batch)
        weights.append(np.asarray(trainer.model(state).embedding[...]))
    assert np.abs(weights[1] - weights[0]).max() > 0
    np.testing.assert_array_equal(weights[2], weights[1])


def test_an_epoch_shows_every_answer_once_in_batches_of_one_shape() -> None:
    batches = list(DATA.batches(2, jax.random.key(3)))
    assert len(batches) == DATA.steps_per_epoch(2) == 2
    assert len({tuple(x.shape for x in batch) for batch in batches}) == 1
    rows = [row for batch in batches for row in tokens_of(batch) if row[1]]
    expected = list(zip(DATA.prompts, DATA.answers, strict=True))
    assert sorted(rows) == sorted((list(p), list(a)) for p, a in expected)


@pytest.mark.parametrize("rank", [0, 4])
def test_training_lowers_the_loss_and_touches_what_it_should(adder, rank: int) -> None:
    base = [np.asarray(x) for x in jax.tree.leaves(nnx.state(adder.model))]
    model = adder.model
    if rank:
        model = attach(model, rank=rank, alpha=rank, targets="mlp", key=jax.random.key(0))
    trainer = Trainer(model, CONFIG)
    state = trainer.init()
    losses = []
    for epoch in range(30):
        for batch in DATA.batches(4, jax.random.key(epoch)):
            state, metrics = trainer.step(state, batch)
            losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.3 * losses[0]
    trained = trainer.model(state)
    kernels = [trained.blocks[0].mlp.up.kernel, trained.embedding]
    before = [adder.model.blocks[0].mlp.up.kernel, adder.model.embedding]
    same = [bool((a[...] == b[...]).all()) for a, b in zip(kernels, before, strict=True)]
    assert same == [bool(rank), bool(rank)]
    assert {type(v) for v in jax.tree.leaves(state.trainable, is_leaf=is_variable)} == {
        nnx.LoRAParam if rank else nnx.Param
    }
    for x, y in zip(base, jax.tree.leaves(nnx.state(adder.model)), strict=True):
        np.testing.assert_array_equal(x, y)  # the model one started from is left alone


def is_variable(x: object) -> bool:
    return isinstance(x, nnx.Variable)


def test_without_warm_up_the_first_step_counts(adder) -> None:
    trainer = Trainer(adder.model, CONFIG)
    batch = next(DATA.batches(4, jax.random.key(0)))
    state, first = trainer.step(trainer.init(), batch)
    _, second = trainer.step(state, batch)
    assert float(second["loss"]) < float(first["loss"])


@pytest.mark.parametrize("rank", [0, 4])
def test_a_bfloat16_model_is_trained_in_float32(rank: int) -> None:
    """Steps too small for bfloat16 add up."""
    model = models.load("adder", dtype="bfloat16").model
    if rank:
        model = attach(model, rank=rank, alpha=rank, targets="mlp", key=jax.random.key(0))
    slow = dataclasses.replace(CONFIG, learning_rate=1e-6)
    trainer = Trainer(model, slow)
    state = trainer.init()
    assert {x.dtype for x in jax.tree.leaves((state.trainable, state.optimizer))} <= {
        jnp.dtype("float32"),
        jnp.dtype("int32"),
    }
    before = [np.asarray(x) for x in jax.tree.leaves(state.trainable)]
    state, metrics = trainer.step(state, next(DATA.batches(4, jax.random.key(0))))
    assert metrics["loss"].dtype == jnp.float32
    moved = [
        np.asarray(x) != y for x, y in zip(jax.tree.leaves(state.trainable), before, strict=True)
    ]
    assert np.mean(np.concatenate([np.ravel(each) for each in moved])) > 0.3
    kernel = trainer.model(state).blocks[0].mlp.up.kernel[...]
    assert kernel.dtype == jnp.bfloat16
    base = np.asarray(model.blocks[0].mlp.up.kernel[...], np.float32)
    assert (np.asarray(kernel, np.float32) == base).mean() > 0.9  # they do not show in it


def test_what_is_kept_for_the_backward_pass_does_not_matter(adder) -> None:
    batch = next(DATA.batches(4, jax.random.key(0)))
    norms, sizes = [], []
    for remat in ("none", "dots", "full"):
        trainer = Trainer(adder.model, CONFIG, remat=remat)
        state, metrics = trainer.step(trainer.init(), batch)
        norms.append(float(metrics["gradient_norm"]))
        graph = trainer._training_graph
        loss = lambda p, graph=graph: answer_logprobs(nnx.merge(graph, p), *batch).sum()  # noqa: E731
        sizes.append(str(jax.make_jaxpr(jax.grad(loss))(state.trainable)).count("dot_general"))
    np.testing.assert_allclose(norms, norms[0], rtol=1e-5)
    assert sizes[0] <= sizes[1] < sizes[2]  # matrix products: the fewer kept, the more made anew
