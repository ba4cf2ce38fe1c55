"""Adapters: identity at the start, merge equivalence, only adapters are trained."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import nnx

from gapjax.errors import UserError
from gapjax.generation import sample
from gapjax.models.lora import attach, merge
from tests.models.tiny import random_model

TOKENS = np.random.default_rng(0).integers(2, 14, (2, 9))


def adapted(model, **changes):
    options = {"rank": 3, "alpha": 6.0, "targets": "attention|mlp", "key": jax.random.key(0)}
    return attach(model, **(options | changes))


def disturbed(model):
    """The same model after some training: `b` is no longer zero."""
    adapters = nnx.state(model, nnx.LoRAParam)
    nnx.update(model, jax.tree.map(lambda x: x + 0.1, adapters))
    return model


@pytest.mark.fast
def test_identity_at_the_start(adder) -> None:
    np.testing.assert_array_equal(adapted(adder.model)(TOKENS), adder.model(TOKENS))


@pytest.mark.fast
def test_merged_computes_the_same_and_differs_from_the_base(adder) -> None:
    before = np.asarray(adder.model(TOKENS))
    model = disturbed(adapted(adder.model))
    merged = merge(model)
    np.testing.assert_allclose(merged(TOKENS), model(TOKENS), atol=1e-4)
    assert np.abs(np.asarray(merged(TOKENS)) - before).max() > 0.1
    np.testing.assert_array_equal(adder.model(TOKENS), before)  # the base is untouched


def test_merged_has_the_structure_of_the_base(adder) -> None:
    # Equal graphs mean that sampling the merged model does not compile anew.
    assert nnx.split(merge(adapted(adder.model)))[0] == nnx.split(adder.model)[0]


def test_targets_are_chosen_by_path(adder) -> None:
    model = adapted(adder.model, targets=r"blocks\.1\.attention\.(q|v)$")
    paths = {path[:-1] for path, _ in nnx.to_flat_state(nnx.state(model, nnx.LoRAParam))}
    assert paths == {("blocks", 1, "attention", "q"), ("blocks", 1, "attention", "v")}


def test_biases_stay() -> None:
    base = random_model("llama, biases")
    model = disturbed(adapted(base))
    np.testing.assert_array_equal(adapted(base)(TOKENS), base(TOKENS))
    np.testing.assert_allclose(merge(model)(TOKENS), model(TOKENS), atol=1e-3)
    assert nnx.split(merge(model))[0] == nnx.split(base)[0]


def test_the_cached_sampler_takes_adapters(adder) -> None:
    model = disturbed(adapted(adder.model))
    options = {"key": jax.random.key(1), "n": 3, "max_new_tokens": 5, "stop": [1]}
    got, expected = (sample(m, [[3, 4, 5]], **options) for m in (model, merge(model)))
    np.testing.assert_array_equal(got.tokens, expected.tokens)
    np.testing.assert_allclose(got.logprobs, expected.logprobs, atol=1e-4)


@pytest.mark.parametrize("targets", ["nothing_of_the_kind", "("])
def test_targets_that_make_no_sense(adder, targets) -> None:
    with pytest.raises(UserError):
        adapted(adder.model, targets=targets)
