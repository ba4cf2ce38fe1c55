"""Chunked log-probabilities against the plain softmax over all logits."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gapjax.generation import score, score_choices, scoring

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


def test_choices_equal_the_plain_logits(adder) -> None:
    got = score_choices(adder.model, PROMPTS, ANSWERS, [4, 9])
    for p, prompt in enumerate(PROMPTS):
        for n, answer in enumerate(ANSWERS[p]):
            logits = np.asarray(adder.model(np.array([prompt + answer])))[0, -1]
            np.testing.assert_allclose(got[p, n], logits[[4, 9]], atol=1e-4)


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
