"""Logits against transformers, in float32 on the CPU."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gapjax import models
from gapjax.models.prompts import encode_prompt
from tests.models.tiny import LLAMA_VARIANTS, reference

SENTENCES = (
    "What is 3 + 4? Answer with just the number.",
    "Why is the sky blue? Explain it to a child, in three short sentences, please.",
)

forward = nnx.jit(lambda model, *inputs: model(*inputs))


def reference_logits(model, tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    import torch

    mask = torch.tensor(mask.astype(int))
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        logits = model(torch.tensor(tokens), attention_mask=mask, position_ids=positions).logits
    return logits.float().numpy()


def compare(ours: np.ndarray, theirs: np.ndarray, real: np.ndarray, *, tolerance: float) -> None:
    assert np.abs(ours - theirs)[real].max() <= tolerance
    assert (ours.argmax(-1) == theirs.argmax(-1))[real].all()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("variant", LLAMA_VARIANTS)
def test_logits_equal_transformers(variant: str, side: str, tmp_path) -> None:
    pytest.importorskip("torch")
    theirs = reference(tmp_path, **LLAMA_VARIANTS[variant])
    ours = models.load(tmp_path).model
    tokens = np.random.default_rng(0).integers(0, 97, (3, 70))
    lengths = np.array([70, 51, 1])
    mask = np.arange(70) < lengths[:, None]
    if side == "left":
        mask = mask[:, ::-1]
    expected = reference_logits(theirs, tokens, mask)
    assert np.abs(expected).max() > 10  # the tolerance below means something
    compare(np.asarray(forward(ours, tokens, mask)), expected, mask, tolerance=1e-3)


def test_bfloat16_stays_close(tmp_path) -> None:
    torch = pytest.importorskip("torch")
    theirs = reference(tmp_path)
    theirs.to(torch.bfloat16).save_pretrained(tmp_path)
    ours = models.load(tmp_path, dtype="bfloat16").model
    assert ours.embedding[...].dtype == jnp.bfloat16
    tokens = np.random.default_rng(0).integers(0, 97, (2, 20))
    mask = np.ones((2, 20), bool)
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
    compare(np.asarray(forward(smollm2.model, tokens, mask)), expected, mask, tolerance=1e-3)


@pytest.mark.fast
def test_a_prefix_and_its_continuation_equal_the_whole(adder) -> None:
    model = adder.model
    tokens = np.random.default_rng(1).integers(2, 14, (2, 12))
    whole = np.asarray(model(tokens))
    hidden, prefix = model.prefill(tokens[:, :7], np.ones((2, 7), bool))
    rest = model.extend(tokens[:, None, 7:], np.ones((2, 1, 5), bool), prefix)
    np.testing.assert_allclose(model.logits(hidden), whole[:, :7], atol=1e-4)
    np.testing.assert_allclose(model.logits(rest)[:, 0], whole[:, 7:], atol=1e-4)


@pytest.mark.fast
def test_an_architecture_that_does_not_fit_together_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot share"):
        models.DecoderConfig(
            vocab_size=8,
            hidden_size=8,
            intermediate_size=8,
            num_layers=1,
            num_heads=3,
            num_kv_heads=2,
            head_dim=4,
            max_position=8,
        )
