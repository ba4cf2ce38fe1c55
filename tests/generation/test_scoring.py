"""Chunked log-probabilities against the plain softmax over all logits."""

from __future__ import annotations

import dataclasses
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import special

from gapjax import models
from gapjax.generation import choices, sample, score, scoring
from gapjax.models import Transformer
from tests.models.tiny import config

PROMPTS = [[3, 4, 12, 5, 13], [6, 12, 7, 8, 9, 13]]
ANSWERS = [[[3, 4, 1], [5, 1]], [[9, 9, 9, 1], [2]]]


def plain_logprobs(model, tokens: list[int]) -> np.ndarray:
    logits = np.asarray(model(np.array([tokens]))[0], np.float64)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


@pytest.mark.fast
def test_score_equals_the_plain_softmax(adder) -> None:
    for at_once in (256, 2):
        got = score(adder.model, PROMPTS, ANSWERS, sequences_at_once=at_once)
        for prompt, answers, rows in zip(PROMPTS, ANSWERS, got, strict=True):
            for answer, row in zip(answers, rows, strict=True):
                table = plain_logprobs(adder.model, prompt + answer)
                expected = [table[len(prompt) + i - 1, token] for i, token in enumerate(answer)]
                np.testing.assert_allclose(row, expected, atol=1e-4)


def test_slices_of_the_vocabulary_change_nothing(monkeypatch) -> None:
    keys = jax.random.split(jax.random.key(0), 3)
    hidden = jax.random.normal(keys[0], (3, 5, 8))
    table = jax.random.normal(keys[1], (11, 8))
    targets = jax.random.randint(keys[2], (3, 5), 0, 11)

    def total(h):
        return scoring.token_logprobs(h, table, targets).sum()

    expected = jax.nn.log_softmax(hidden @ table.T)
    expected = jnp.take_along_axis(expected, targets[..., None], axis=-1)[..., 0]
    expected_gradient = jax.grad(
        lambda h: jnp.take_along_axis(
            jax.nn.log_softmax(h @ table.T), targets[..., None], axis=-1
        ).sum()
    )(hidden)
    for at_once in (2**24, 11, 40):
        monkeypatch.setattr(scoring, "_LOGITS_AT_ONCE", at_once)
        got = scoring.token_logprobs(hidden, table, targets)
        np.testing.assert_allclose(got, expected, atol=1e-5)
        np.testing.assert_allclose(jax.grad(total)(hidden), expected_gradient, atol=1e-5)


def test_logprobs_of_a_bfloat16_model_are_float32() -> None:
    # Of a large vocabulary and long answers: rounded to 8 bits, one logit of 20 would be off
    # by up to 0.06 nats, and a sum of 500 terms by far more.
    keys = jax.random.split(jax.random.key(0), 3)
    hidden = jax.random.normal(keys[0], (500, 64), jnp.bfloat16)
    table = 3 * jax.random.normal(keys[1], (2000, 64), jnp.bfloat16)
    targets = jax.random.randint(keys[2], (500,), 0, 2000)
    got = jax.jit(scoring.token_logprobs)(hidden, table, targets)
    logits = np.asarray(hidden, np.float64) @ np.asarray(table, np.float64).T
    expected = logits[np.arange(500), targets] - special.logsumexp(logits, axis=-1)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_a_bfloat16_model_samples_and_scores_in_float32() -> None:
    model = models.load("adder", dtype="bfloat16").model
    samples = sample(
        model, PROMPTS, key=jax.random.key(0), n=3, max_new_tokens=8, stop=[1], temperature=2.0
    )
    assert samples.logprobs.dtype == np.float32
    assert samples.uncertainties.dtype == np.float64
    for p, rows in enumerate(score(model, PROMPTS, samples.answers())):
        for n, row in enumerate(rows):
            tokens = np.array([PROMPTS[p] + samples.answer(p, n)])
            logits = np.asarray(model(tokens)[0, len(PROMPTS[p]) - 1 : -1], np.float64)
            plain = special.log_softmax(logits, axis=-1)
            plain = plain[np.arange(len(row)), samples.answer(p, n)]
            # What is left is the rounding of the activations, in another order of operations.
            for got in (row, samples.logprobs[p, n, : len(row)]):
                assert got.dtype == np.float32
                np.testing.assert_allclose(got, plain, atol=0.2)


@pytest.mark.parametrize("differentiated", [False, True])
def test_no_array_holds_the_vocabulary_at_every_position(monkeypatch, differentiated) -> None:
    vocabulary, rows = 1009, 8
    monkeypatch.setattr(scoring, "_LOGITS_AT_ONCE", rows * vocabulary)
    model = Transformer(
        dataclasses.replace(config("llama, tied"), vocab_size=vocabulary), rngs=nnx.Rngs(0)
    )
    graph, state = nnx.split(model)
    prompts, answers = np.ones((2, 16), np.int32), np.ones((2, 6, 24), np.int32)

    def logprobs(state):
        arrays = prompts, prompts > 0, answers, answers > 0
        return scoring.answer_logprobs(nnx.merge(graph, state), *arrays)

    def chosen(state):
        arrays = prompts, prompts > 0, answers, answers > 0, np.array([3, 4])
        return choices.choice_logprobs(nnx.merge(graph, state), (0, 1), *arrays)

    if differentiated:
        # With respect to what is trained: the gradient of the table has its shape, no more.
        programs = [jax.grad(lambda state: logprobs(state).sum())]
    else:
        programs = [logprobs, chosen]
    for program in programs:
        text = jax.jit(program).lower(state).compile().as_text()
        shapes = {tuple(map(int, found.split(","))) for found in re.findall(r"\[([\d,]+)\]", text)}
        holding = {shape for shape in shapes if vocabulary in shape}
        assert holding  # the table, at least
        table = vocabulary * model.config.hidden_size
        for shape in holding:
            assert np.prod(shape) in (table, vocabulary) or np.prod(shape) <= rows * vocabulary


def test_a_run_compiles_once_for_each_bucket_of_lengths(adder, monkeypatch) -> None:
    traced = chex.assert_max_traces(scoring._answer_logprobs.__wrapped__, n=4)
    chex.clear_trace_counter()
    monkeypatch.setattr(scoring, "_answer_logprobs", jax.jit(traced, static_argnums=0))
    for length in range(1, 17):  # prompts and answers of 8 or 16 tokens
        for answer in (3, 12):
            score(adder.model, [[3] * length, [4]], [[[5] * answer, [6]], [[7], [8]]])
