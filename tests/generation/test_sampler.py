"""Sampling: the right distribution, the right log-probabilities, the right shapes."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gapjax.errors import UserError
from gapjax.generation import sample, sampler, score
from gapjax.models.prompts import encode_prompt, stop_tokens

EOS = 1


def prompts_of(loaded, *texts: str) -> list[list[int]]:
    return [encode_prompt(loaded.tokenizer, text) for text in texts]


@pytest.fixture(scope="module")
def prompts(adder):
    return prompts_of(adder, "12+34=", "7+8=", "99+99=")


def draw(adder, prompts, **changes):
    options = {"key": jax.random.key(0), "n": 5, "max_new_tokens": 6, "stop": [EOS]}
    return sample(adder.model, prompts, **(options | changes))


@pytest.mark.fast
def test_logprobs_equal_rescoring(adder, prompts) -> None:
    samples = draw(adder, prompts, temperature=1.7)  # reported under the untempered model
    for p, rows in enumerate(score(adder.model, prompts, samples.answers())):
        for n, row in enumerate(rows):
            length = samples.lengths[p, n]
            np.testing.assert_allclose(samples.logprobs[p, n, :length], row, atol=1e-4)
            assert not samples.logprobs[p, n, length:].any()
            assert not samples.tokens[p, n, length:].any()


def test_smollm2s_logprobs_equal_rescoring(smollm2) -> None:
    prompts = prompts_of(smollm2, "What is 3 + 4?", "Name a colour, and say why you like it.")
    samples = sample(
        smollm2.model, prompts, key=jax.random.key(1), n=3, max_new_tokens=12, stop=[2]
    )
    for p, rows in enumerate(score(smollm2.model, prompts, samples.answers())):
        for n, row in enumerate(rows):
            np.testing.assert_allclose(
                samples.logprobs[p, n, : samples.lengths[p, n]], row, atol=1e-4
            )


@pytest.mark.fast
def test_one_by_one_equals_a_padded_batch_and_the_same_key_the_same_samples(adder, prompts) -> None:
    together = draw(adder, prompts)
    in_parts = draw(adder, prompts, sequences_at_once=5)
    np.testing.assert_array_equal(together.tokens, in_parts.tokens)
    np.testing.assert_allclose(together.logprobs, in_parts.logprobs, atol=1e-5)
    first = draw(adder, prompts[:1])
    np.testing.assert_array_equal(first.tokens[0], together.tokens[0])
    other = draw(adder, prompts, key=jax.random.key(1))
    assert (other.tokens != together.tokens).any()


def test_frequencies_follow_the_softmax(adder, prompts) -> None:
    n = 4000
    for temperature in (1.0, 0.5):
        samples = draw(adder, prompts[:1], n=n, max_new_tokens=1, temperature=temperature)
        counts = np.bincount(samples.tokens[0, :, 0], minlength=14)
        logits = np.asarray(adder.model(np.array(prompts[:1]))[0, -1], np.float64)
        expected = n * np.exp(logits / temperature) / np.exp(logits / temperature).sum()
        # Rare tokens share a cell, or the statistic would not follow chi-square.
        common = expected >= 5
        observed = np.append(counts[common], counts[~common].sum())
        predicted = np.append(expected[common], expected[~common].sum())
        keep = predicted > 0.5
        assert stats.chisquare(observed[keep], predicted[keep], sum_check=False).pvalue > 1e-3


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
    got = np.asarray(sampler._inverse_cdf(jnp.asarray(weights), jnp.asarray(uniform)))
    assert (np.take_along_axis(weights, got[..., None], axis=-1) > 0).all()
    assert (got == expected).mean() > 0.98  # rounding decides near the edges


def test_stops_at_stop_tokens_and_at_the_cap(adder, prompts) -> None:
    samples = draw(adder, prompts, n=64, max_new_tokens=3)
    for p in range(3):
        for n in range(64):
            answer = samples.answer(p, n)
            assert EOS not in answer[:-1]
            assert samples.finished[p, n] == (answer[-1] == EOS)
            assert samples.finished[p, n] or len(answer) == 3
            assert EOS not in samples.text_tokens(p, n)
    assert samples.finished.any()
    assert not samples.finished.all()


def test_the_loop_ends_when_all_answers_have(adder, prompts) -> None:
    # 40 slots would run past the model's trained length; greedy answers end after 3 tokens.
    samples = draw(adder, prompts, temperature=0.0, max_new_tokens=40)
    assert samples.finished.all()
    assert samples.lengths.max() <= 5


def test_greedy_equals_transformers(smollm2) -> None:
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    from gapjax.models.load import _smollm2

    path = _smollm2()
    theirs = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )
    texts = ["What is 3 + 4?", "Name the capital of France.", "Write a haiku about rain."]
    prompts = prompts_of(smollm2, *texts)
    ours = sample(
        smollm2.model,
        prompts,
        key=jax.random.key(0),
        n=1,
        max_new_tokens=16,
        stop=stop_tokens(smollm2.tokenizer),
        temperature=0.0,
    )
    for p, prompt in enumerate(prompts):
        with torch.no_grad():
            expected = theirs.generate(
                torch.tensor([prompt]), max_new_tokens=16, do_sample=False, eos_token_id=2
            )
        assert ours.answer(p, 0) == expected[0, len(prompt) :].tolist()


def test_moving_unfinished_answers_to_smaller_batches_changes_nothing(
    adder, prompts, monkeypatch
) -> None:
    # 3 × 64 answers, of which more and more end: batches of 192, 48 and 12. A hot sampler
    # makes some answers long, and a short cap leaves some unfinished.
    for cap in (4, 30):
        options = {"n": 64, "max_new_tokens": cap, "temperature": 1.5}
        moved = draw(adder, prompts, **options)
        monkeypatch.setattr(sampler, "_SMALLEST_BATCH", 10**6)
        sampler._sample.clear_cache()
        stayed = draw(adder, prompts, **options)
        monkeypatch.undo()
        sampler._sample.clear_cache()
        assert (moved.lengths > 4).any() or cap == 4
        np.testing.assert_array_equal(moved.tokens, stayed.tokens)
        np.testing.assert_array_equal(moved.finished, stayed.finished)
        np.testing.assert_allclose(moved.logprobs, stayed.logprobs, atol=1e-4)


def test_chunks_and_new_weights_do_not_compile_again(adder, prompts) -> None:
    chex.clear_trace_counter()
    traced = chex.assert_max_traces(sampler._sample.__wrapped__, n=1)
    jitted = jax.jit(traced, static_argnums=(0, 1, 2, 3))
    original, sampler._sample = sampler._sample, jitted
    try:
        for seed in range(3):
            draw(adder, prompts * 3, key=jax.random.key(seed), sequences_at_once=10)
    finally:
        sampler._sample = original


def test_prompts_that_cannot_be_sampled(adder, prompts) -> None:
    with pytest.raises(UserError, match="no tokens"):
        draw(adder, [[]])
    with pytest.raises(UserError, match="context of 64 tokens"):
        draw(adder, prompts, max_new_tokens=60)
