"""Sampling: the right distribution, the right log-probabilities, the right shapes."""

from __future__ import annotations

import chex
import jax
import numpy as np
import pytest
from flax import nnx
from scipy import stats

from gapjax import models
from gapjax.errors import UserError
from gapjax.generation import sample, sampler, score
from gapjax.generation.limits import NotFinite, check_finite
from gapjax.models.prompts import encode_prompt
from tests.models.tiny import random_model, reference

EOS = 1


def prompts_of(loaded, *texts: str) -> list[list[int]]:
    return [encode_prompt(loaded.tokenizer, text) for text in texts]


def probabilities(logits, *, temperature=1.0, top_k=None, top_p=None) -> np.ndarray:
    """What tokens are to be drawn with, by sorting."""
    weights = np.exp((logits - logits.max()) / temperature)
    order = np.argsort(-weights)
    if top_k is not None:
        weights[order[top_k:]] = 0.0
    weights /= weights.sum()
    if top_p is not None:
        before = np.cumsum(weights[order]) - weights[order]
        weights[order[before >= top_p]] = 0.0
    return weights / weights.sum()


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


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 0.5},
        {"temperature": 2.0, "top_k": 5},
        {"temperature": 3.0, "top_p": 0.8},
        {"temperature": 3.0, "top_k": 8, "top_p": 0.9},
    ],
    ids=str,
)
def test_frequencies_follow_the_softmax(adder, prompts, settings) -> None:
    n = 4000
    samples = draw(adder, prompts[:1], n=n, max_new_tokens=1, **settings)
    counts = np.bincount(samples.tokens[0, :, 0], minlength=14)
    logits = np.asarray(adder.model(np.array(prompts[:1]))[0, -1], np.float64)
    expected = n * probabilities(logits, **settings)
    assert not counts[expected == 0].any()
    # Rare tokens share a cell, or the statistic would not follow chi-square.
    common = expected >= 5
    observed = np.append(counts[common], counts[~common].sum())
    predicted = np.append(expected[common], expected[~common].sum())
    keep = predicted > 0.5
    assert keep.sum() > 2
    assert stats.chisquare(observed[keep], predicted[keep], sum_check=False).pvalue > 1e-3


def test_truncated_samples_report_untruncated_logprobs(adder, prompts) -> None:
    samples = draw(adder, prompts, temperature=2.0, top_k=4, top_p=0.9)
    for p, rows in enumerate(score(adder.model, prompts, samples.answers())):
        for n, row in enumerate(rows):
            np.testing.assert_allclose(samples.logprobs[p, n, : len(row)], row, atol=1e-4)
    best = draw(adder, prompts, temperature=2.0, top_k=1)
    np.testing.assert_array_equal(best.tokens, draw(adder, prompts, temperature=0.0).tokens)


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


def test_longrope_settles_its_factors_by_the_room_for_an_answer(tmp_path) -> None:
    torch = pytest.importorskip("torch")
    theirs = reference(tmp_path, "phi3, long factors")  # original context: 24 tokens
    model = models.load(tmp_path).model
    options = {"key": jax.random.key(0), "n": 1, "max_new_tokens": 8, "stop": [2]}
    rng = np.random.default_rng(0)
    for length in (16, 30):  # all within the original context, or beyond it from the beginning
        prompt = rng.integers(3, 97, length).tolist()
        answer = sample(model, [prompt], temperature=0.0, **options).answer(0, 0)
        with torch.no_grad():
            expected = theirs.generate(
                torch.tensor([prompt]), max_new_tokens=8, do_sample=False, eos_token_id=2
            )
        assert answer == expected[0, length:].tolist()

    # An answer that may cross the edge: the factors of the whole text from its first token on,
    # where `generate` would begin with the short ones and compute everything again at the edge.
    prompt = rng.integers(3, 97, 20).tolist()
    samples = sample(model, [prompt], **options)
    assert samples.lengths[0, 0] > 4
    with torch.no_grad():
        logits = theirs(torch.tensor([prompt + samples.answer(0, 0)])).logits[0, 19:-1]
    whole = torch.log_softmax(logits, dim=-1).numpy()
    expected = whole[np.arange(len(whole)), samples.answer(0, 0)]
    np.testing.assert_allclose(samples.logprobs[0, 0, : len(whole)], expected, atol=1e-3)


def test_rescoring_under_longrope_needs_the_room_of_the_samples() -> None:
    model = random_model("phi3, long factors")
    prompts = [list(range(10, 30)), list(range(40, 58))]  # 4 and 6 tokens before the edge
    stop = list(range(3, 60))
    samples = sample(model, prompts, key=jax.random.key(1), n=2, max_new_tokens=10, stop=stop)
    assert samples.lengths.max() <= 4
    same = score(model, prompts, samples.answers(), room=10)
    other = score(model, prompts, samples.answers())
    for p in range(2):
        for n in range(2):
            got = samples.logprobs[p, n, : samples.lengths[p, n]]
            np.testing.assert_allclose(got, same[p][n], atol=1e-4)
            assert np.abs(got - other[p][n]).max() > 0.01


_THINGS = [
    "river",
    "winter",
    "copper",
    "music",
    "bread",
    "glass",
    "honey",
    "storm",
    "paper",
    "tiger",
]
_QUESTIONS = (
    "What is {0} + {1}?",
    "Name the capital of the country where {2} is made.",
    "Write one sentence about a {2}.",
    "{2}, {2}, {2}: what comes next, and why? Explain it to a child of {0} years.",
    "List {0} things.",
)


@pytest.mark.parametrize("count", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_greedy_equals_transformers(smollm2, count) -> None:
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    from gapjax.models.load import _smollm2

    path = _smollm2()
    theirs = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )
    texts = [
        question.format(3 + i, 2 * i + 1, thing)
        for i, thing in enumerate(_THINGS)
        for question in _QUESTIONS
    ]
    prompts = prompts_of(smollm2, *texts[:count])
    assert len(set(map(tuple, prompts))) == count
    ours = sample(
        smollm2.model,
        prompts,
        key=jax.random.key(0),
        n=1,
        max_new_tokens=16,
        stop=smollm2.ends.tokens,
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


def test_a_run_compiles_once_for_each_bucket_of_lengths(adder, monkeypatch) -> None:
    traced = chex.assert_max_traces(sampler._sample.__wrapped__, n=3)
    chex.clear_trace_counter()
    monkeypatch.setattr(sampler, "_sample", jax.jit(traced, static_argnums=(0, 1, 2, 3)))
    settings = {"max_new_tokens": 3, "temperature": 1.5}
    for seed, length in enumerate(range(1, 25)):  # buckets of 8, 16 and 24 tokens
        prompts = [[3] * length, [4], [5] * max(1, length - 5)]
        settings |= {"top_k": 1 + seed % 5, "top_p": 0.5 + seed / 100, "temperature": 1 + seed / 9}
        # Chunks of two prompts: the last one is filled up.
        draw(adder, prompts, key=jax.random.key(seed), sequences_at_once=10, **settings)


def test_new_weights_do_not_compile_again(adder, prompts, monkeypatch) -> None:
    traced = chex.assert_max_traces(sampler._sample.__wrapped__, n=1)
    chex.clear_trace_counter()
    monkeypatch.setattr(sampler, "_sample", jax.jit(traced, static_argnums=(0, 1, 2, 3)))
    for scale in (1.0, 1.1):
        model = nnx.clone(adder.model)
        model.embedding[...] = scale * model.embedding[...]
        draw(models.LoadedModel(model, adder.tokenizer), prompts)


def test_what_cannot_be_sampled_is_one_clear_line(adder, prompts) -> None:
    for bad, complaint in (
        ({"n": 0}, "n: 0 is not a positive number"),
        ({"max_new_tokens": 0}, "max_new_tokens: 0"),
        ({"max_new_tokens": 60}, "context of 64 tokens"),
        ({"temperature": -1.0}, "temperature: -1"),
        ({"temperature": float("nan")}, "temperature: nan"),
        ({"top_k": 0}, "top_k: 0"),
        ({"top_p": 0.0}, "top_p: 0"),
        ({"top_p": 1.5}, "top_p: 1.5"),
    ):
        with pytest.raises(UserError, match=complaint):
            draw(adder, prompts, **bad)
    for bad_prompts, complaint in (
        ([[]], "no tokens"),
        ([], "no prompts"),
        ([[1], [99]], "prompt 2 has a token outside the model's vocabulary"),
        ([[1], [2] * 59], "prompt 2 has 59 tokens, which with 6 new ones .* context of 64 tokens"),
    ):
        with pytest.raises(UserError, match=complaint):
            draw(adder, bad_prompts)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_model_whose_logits_are_no_numbers_is_named(adder, prompts, bad) -> None:
    """One weight is enough, and greedy answers and rescoring are no exception."""
    model = nnx.clone(adder.model)
    model.norm.scale[...] = model.norm.scale[...].at[3].set(bad)
    broken = models.LoadedModel(model, adder.tokenizer)
    for temperature in (1.0, 0.0):
        with pytest.raises(NotFinite, match=r"logits in float32 are NaN or infinite after 3 of 3"):
            draw(broken, prompts, temperature=temperature)
    with pytest.raises(NotFinite, match="after 1 of 1 prompts"):
        score(model, prompts[:1], [[[2, 3]]])


@pytest.mark.fast
def test_what_overflows_in_float16_is_told_so() -> None:
    logprobs = np.zeros((3, 2, 4), np.float32)
    check_finite(logprobs, np.dtype("float16"))
    logprobs[1, 0, 2] = np.nan
    with pytest.raises(NotFinite, match=r"after 1 of 3 prompts; many models overflow in float16"):
        check_finite(logprobs, np.dtype("float16"))
