"""Logits against transformers, in float32 on the CPU; the cached path and the plain one against
float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gapjax import models
from gapjax.models.prompts import encode_prompt
from tests.models.double import FLOAT32, double_logits
from tests.models.tiny import (
    CONFIGS,
    FAMILY_EXAMPLES,
    GOLDEN,
    golden_tokens,
    random_model,
    reference,
    reference_logits,
)

SENTENCES = (
    "What is 3 + 4? Answer with just the number.",
    "Why is the sky blue? Explain it to a child, in three short sentences, please.",
)

forward = nnx.jit(lambda model, *inputs: model(*inputs))


def compare(ours: np.ndarray, theirs: np.ndarray, real: np.ndarray) -> None:
    # Both are float32's.
    assert np.abs(ours - theirs)[real].max() <= 2 * FLOAT32 * np.abs(theirs[real]).max()
    assert (ours.argmax(-1) == theirs.argmax(-1))[real].all()


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_equal_transformers(name: str, tmp_path) -> None:
    pytest.importorskip("torch")
    theirs = reference(tmp_path, name)
    ours = models.load(tmp_path).model
    tokens = np.random.default_rng(0).integers(3, 97, (3, 70))
    mask = np.arange(70) < np.array([[70], [51], [1]])
    for side in (mask, mask[:, ::-1]):
        expected = reference_logits(theirs, tokens, side)
        assert 10 < np.abs(expected).max() < 100  # the tolerance below means something
        compare(np.asarray(forward(ours, tokens, side)), expected, side)


@pytest.mark.fast
@pytest.mark.parametrize("name", CONFIGS)
def test_logits_equal_those_that_transformers_once_gave(name: str) -> None:
    tokens, mask = golden_tokens()
    with np.load(GOLDEN) as golden:
        positions, expected = golden["positions"], golden[name]
    got = np.asarray(forward(random_model(name), tokens, mask))[:, positions]
    compare(got, expected, np.ones(got.shape[:2], bool))


@pytest.mark.parametrize("name", FAMILY_EXAMPLES)
def test_bfloat16_stays_close(name: str, tmp_path) -> None:
    torch = pytest.importorskip("torch")
    theirs = reference(tmp_path, name)
    theirs.to(torch.bfloat16).save_pretrained(tmp_path)
    ours = models.load(tmp_path, dtype="bfloat16").model
    assert ours.embedding[...].dtype == jnp.bfloat16
    tokens = np.random.default_rng(0).integers(3, 97, (2, 40))
    mask = np.ones((2, 40), bool)
    rough = reference_logits(theirs, tokens, mask)
    # The same rounded weights in float32 are the reference for bfloat16 arithmetic.
    expected = reference_logits(theirs.to(torch.float32), tokens, mask)
    got = np.asarray(forward(ours, tokens, mask))
    assert got.dtype == np.float32
    assert np.abs(got - expected).mean() < 1.5 * np.abs(rough - expected).mean()


def test_smollm2_equals_transformers(smollm2) -> None:
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    from gapjax.models.load import _smollm2

    path = _smollm2()
    theirs = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )
    rows = [encode_prompt(smollm2.tokenizer, text) for text in SENTENCES]
    assert len(set(map(len, rows))) > 1
    width = max(map(len, rows))
    tokens = np.array([[0] * (width - len(row)) + row for row in rows])
    mask = np.array([[False] * (width - len(row)) + [True] * len(row) for row in rows])
    expected = reference_logits(theirs, tokens, mask)
    assert 20 < np.abs(expected).max() < 60
    compare(np.asarray(forward(smollm2.model, tokens, mask)), expected, mask)


@nnx.jit
def in_pieces(model, tokens, mask):
    """The logits of the last ten positions: given at once, and decoded one by one."""
    prompts, rest = tokens[:, :-10], tokens[:, None, -10:]
    _, prefix = model.prefill(prompts, mask[:, :-10], room=10)
    given = model.logits(model.extend(rest, jnp.ones(rest.shape, bool), prefix))[:, 0]

    def decoded(cache, step):
        hidden, cache = model.decode(rest[:, :, step], step, cache, prefix)
        return cache, model.logits(hidden)[:, 0]

    cache = model.empty_cache(len(tokens), 1, 12)
    _, one_by_one = jax.lax.scan(decoded, cache, jnp.arange(10))
    return given, one_by_one.swapaxes(0, 1)


@pytest.mark.parametrize("name", ["llama", *FAMILY_EXAMPLES, "phi3, short factors"])
def test_the_plain_forward_and_cached_decoding_equal_float64(name: str) -> None:
    model = random_model(name)
    # Prompts on either side of the window and of longrope's original context (24).
    tokens = np.random.default_rng(1).integers(3, 97, (3, 30))
    mask = np.arange(30) >= np.array([[0], [3], [14]])
    exact = double_logits(model, tokens, mask)[:, -10:]
    whole = np.asarray(forward(model, tokens, mask))[:, -10:]
    for path in (whole, *in_pieces(model, tokens, mask)):
        np.testing.assert_allclose(path, exact, rtol=0, atol=FLOAT32 * np.abs(exact).max())


def test_several_continuations_share_a_prefix_under_a_window() -> None:
    model = random_model("mistral, window")
    rng = np.random.default_rng(2)
    prompts, rest = rng.integers(3, 97, (2, 9)), rng.integers(3, 97, (2, 3, 8))
    _, prefix = model.prefill(prompts, np.ones(prompts.shape, bool))
    together = model.logits(model.extend(rest, np.ones(rest.shape, bool), prefix))
    repeated = np.broadcast_to(prompts[:, None], (2, 3, 9))
    alone = forward(model, np.concatenate([repeated, rest], axis=-1).reshape(6, 17))
    np.testing.assert_allclose(
        together.reshape(6, 8, -1), alone[:, 9:], rtol=0, atol=2 * FLOAT32 * np.abs(alone).max()
    )


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"num_kv_heads": 3}, "cannot share"),
        ({"rotary_dim": 3}, "even part"),
        ({"rotary_dim": 10}, "even part"),
        ({"sliding_layers": (0,)}, "sliding_window"),
    ],
)
def test_an_architecture_that_does_not_fit_together_is_refused(changes, complaint) -> None:
    fitting = {"vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_layers": 1}
    fitting |= {"num_heads": 2, "num_kv_heads": 2, "head_dim": 4, "max_position": 8}
    models.DecoderConfig(**fitting)
    with pytest.raises(ValueError, match=complaint):
        models.DecoderConfig(**(fitting | changes))
