"""Probabilities of continuations of several tokens, against every token's own plain softmax."""

from __future__ import annotations

import chex
import jax
import numpy as np
import pytest

from gapjax.errors import UserError
from gapjax.generation import choices, score_choices
from gapjax.generation.choices import ChoiceTree

PROMPTS = [[3, 4, 12, 5, 13], [6, 12, 7, 8, 9, 13]]
ANSWERS = [[[3, 4, 1], [5, 1]], [[9, 9, 9, 1], [2]]]


def plain(model, before: list[int], after: tuple[int, ...]) -> float:
    """Probability that `before` goes on with `after`."""
    tokens = np.zeros((1, 16), np.int32)  # what follows makes no difference, and compiles once
    tokens[0, : len(before) + len(after)] = [*before, *after]
    logits = np.asarray(model(tokens)[0], np.float64)
    logprobs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    at = range(len(before) - 1, len(before) + len(after) - 1)
    return float(np.exp(sum(logprobs[i, token] for i, token in zip(at, after, strict=True))))


@pytest.mark.parametrize(
    "given",
    [
        [(4,), (9,)],
        [(4, 5), (9,)],
        [(7, 4), (7, 5), (7, 6), (4,), (5,), (6,)],  # a space may come before each
        [(7, 4, 4), (7, 5), (8, 5, 6), (8, 5, 7)],
        [(4,), (4, 5), (4, 5, 6), (4, 7)],  # some go on as others do
    ],
)
def test_choices_equal_the_plain_chain(adder, given) -> None:
    got = score_choices(adder.model, PROMPTS, ANSWERS, given, sequences_at_once=4)
    assert got.shape == (2, 2, len(given))
    for p, prompt in enumerate(PROMPTS):
        for n, answer in enumerate(ANSWERS[p]):
            for c, choice in enumerate(given):
                expected = plain(adder.model, prompt + answer, choice)
                longer = [other for other in given if other[: len(choice)] == choice != other]
                nearest = [o for o in longer if not any(o[: len(s)] == s != o for s in longer)]
                expected -= sum(plain(adder.model, prompt + answer, other) for other in nearest)
                assert np.exp(got[p, n, c]) == pytest.approx(expected, rel=1e-4, abs=1e-12)


@pytest.mark.fast
def test_probabilities_of_everything_add_up_to_one() -> None:
    # Two tokens, all texts of up to two of them, at made-up probabilities.
    tree = ChoiceTree.of([(0,), (1,), (0, 0), (0, 1), (1, 0), (1, 1)])
    assert tree.tails == ((0,), (1,))
    steps = np.log([[[0.3, 0.7], [0.2, 0.8]], [[0.3, 0.7], [0.6, 0.4]]])
    found = np.exp(tree.exclusive(steps))
    np.testing.assert_allclose(found, [0, 0, 0.06, 0.24, 0.42, 0.28], atol=1e-12)
    alone = np.exp(ChoiceTree.of([(0,), (0, 1), (1,)]).exclusive(steps[:1]))
    np.testing.assert_allclose(alone, [0.06, 0.24, 0.7], atol=1e-12)


@pytest.mark.parametrize("given", [[(4,), (4,)], [()], [(3,), ()]])
def test_choices_that_are_none(adder, given) -> None:
    with pytest.raises(UserError, match="choices need a token each"):
        score_choices(adder.model, PROMPTS, ANSWERS, given)


def test_a_long_suffix_of_one_prefix_leaves_the_others_their_room(adder) -> None:
    prompts, suffixes = [[3] * 50, [3] * 5], [[[5] * 5], [[5] * 50]]
    assert score_choices(adder.model, prompts, suffixes, [(4,)]).shape == (2, 1, 1)
    with pytest.raises(UserError, match="prompt 2 has 5 tokens, which with 60 new ones"):
        score_choices(adder.model, prompts, [[[5] * 5], [[5] * 60]], [(4,)])


def test_a_run_compiles_once_for_each_bucket_of_lengths(adder, monkeypatch) -> None:
    traced = chex.assert_max_traces(choices._choice_logprobs.__wrapped__, n=4)
    chex.clear_trace_counter()
    monkeypatch.setattr(choices, "_choice_logprobs", jax.jit(traced, static_argnums=(0, 1)))
    for length in (1, 5, 8, 9, 16):  # prompts and suffixes of 8 or 16 tokens
        for suffix in (3, 12):
            arrays = [[3] * length, [4]], [[[5] * suffix, [6]], [[7], [8]]]
            for given in ([(4,), (9,), (3, 4), (3, 9)], [(5,), (6,), (8, 5), (8, 6)]):
                score_choices(adder.model, *arrays, given)
