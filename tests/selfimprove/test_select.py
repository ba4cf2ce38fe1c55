"""Selection against a plain reference, over random candidates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapjax.selfimprove.select import best_of_n


def reference(scores, uncertainties, lengths, threshold, eligible):
    may = [n for n in range(len(scores)) if eligible[n]]
    passed = [n for n in may if scores[n] >= threshold]
    considered = passed or may or range(len(scores))
    return min(considered, key=lambda n: uncertainties[n] / lengths[n]), not passed


@pytest.mark.fast
@settings(max_examples=200, deadline=None)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 2**31), st.floats(0, 1))
def test_best_of_n(problems, n, seed, threshold) -> None:
    rng = np.random.default_rng(seed)
    # Few distinct values, so that ties and empty selections are common.
    scores = rng.integers(0, 5, (problems, n)) / 4
    uncertainties = rng.integers(1, 5, (problems, n)).astype(float)
    lengths = rng.integers(1, 4, (problems, n))
    eligible = rng.random((problems, n)) < 0.7
    got = best_of_n(scores, uncertainties, lengths, threshold=threshold, eligible=eligible)
    for p in range(problems):
        index, fell_back = reference(
            scores[p], uncertainties[p], lengths[p], threshold, eligible[p]
        )
        assert (got.index[p], got.fell_back[p]) == (index, fell_back)


def test_long_answers_are_not_at_a_disadvantage() -> None:
    both = np.array([[3.0, 4.0]]), np.array([[2, 8]])
    got = best_of_n(np.ones((1, 2)), *both, threshold=0.5, eligible=np.ones((1, 2), bool))
    assert got.index.tolist() == [1]
    assert not got.fell_back.any()


def test_a_loop_that_was_cut_off_is_not_chosen() -> None:
    loop_and_end = np.array([[12.0, 2.0]]), np.array([[32, 3]])
    ended = np.array([[False, True]])
    got = best_of_n(np.ones((1, 2)), *loop_and_end, threshold=0.5, eligible=ended)
    assert got.index.tolist() == [1]
    # Nor where only the loop passes.
    got = best_of_n(np.array([[1.0, 0.0]]), *loop_and_end, threshold=0.5, eligible=ended)
    assert (got.index.tolist(), got.fell_back.tolist()) == ([1], [True])
