"""One draw: the cuts against transformers' own, the sampler against a plain one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gapjax.generation.draw import Truncation, draw, inverse_cdf, truncated

_truncated = jax.jit(truncated)  # one program, whatever the numbers


@pytest.mark.fast
@pytest.mark.parametrize("vocabulary", [3, 256, 700])
def test_inverse_cdf_against_a_plain_one(vocabulary) -> None:
    rng = np.random.default_rng(0)
    weights = rng.exponential(size=(4, 50, vocabulary)) ** 4
    weights[:, :, rng.random(vocabulary) < 0.3] = 0.0
    weights[..., 1] = 1.0
    uniform = rng.random((4, 50))
    uniform[0, :3] = [0.0, np.float32(1) - np.finfo(np.float32).epsneg, 0.5]
    ends = np.cumsum(weights, axis=-1)
    expected = (ends <= (uniform * ends[..., -1])[..., None]).sum(axis=-1)
    got = np.asarray(inverse_cdf(jnp.asarray(weights), jnp.asarray(uniform)))
    assert (np.take_along_axis(weights, got[..., None], axis=-1) > 0).all()
    assert (got == expected).mean() > 0.98  # rounding decides near the edges


@pytest.mark.parametrize("top_k", [None, 1, 7, 900, 5000])
@pytest.mark.parametrize("top_p", [None, 1e-6, 0.3, 0.95, 1.0])
def test_cuts_equal_those_of_transformers(top_k, top_p) -> None:
    torch = pytest.importorskip("torch")
    from transformers import TopKLogitsWarper, TopPLogitsWarper

    logits = 3 * np.random.default_rng(0).normal(size=(6, 1000)).astype(np.float32)
    left = torch.tensor(logits)
    if top_k is not None:
        left = TopKLogitsWarper(top_k)(None, left)
    if top_p is not None:
        left = TopPLogitsWarper(top_p)(None, left)
    expected = torch.softmax(left.double(), dim=-1).numpy()
    weights = jnp.exp(logits - logits.max())
    got = np.asarray(_truncated(weights, Truncation(top_k, top_p)), float)
    got /= got.sum(axis=-1, keepdims=True)
    if top_p == 1.0:  # rounding of the sum decides on tokens that hardly ever occur
        np.testing.assert_allclose(got, expected, atol=1e-6)
        return
    np.testing.assert_array_equal(got > 0, expected > 0)
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_equally_probable_tokens_stay_together() -> None:
    weights = jnp.asarray([[4.0, 1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0, 2.0]])
    np.testing.assert_array_equal(truncated(weights, Truncation(top_k=2)), weights)
    np.testing.assert_array_equal(truncated(weights, Truncation(top_p=0.6)), weights)
    np.testing.assert_array_equal(
        truncated(weights, Truncation(top_p=0.5)), jnp.where(weights > 1, weights, 0)
    )


@pytest.mark.fast
def test_extreme_logits_and_temperatures() -> None:
    logits = jnp.asarray([[-1e30, 50.0, 49.0, -jnp.inf], [1e4, -1e4, 0.0, 1e4 - 1]])
    uniform = jnp.asarray([0.99999, 0.99999])
    for cut in (Truncation(), Truncation(top_k=3, top_p=0.999)):
        np.testing.assert_array_equal(draw(logits, uniform, 1e-3, cut), [1, 0])
        np.testing.assert_array_equal(draw(logits, uniform, 1.0, cut), [2, 3])
