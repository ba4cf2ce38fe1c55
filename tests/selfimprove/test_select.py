"""Selection against a plain reference, over random candidates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapjax.selfimprove.select import best_of_n


def reference(scores, uncertainties, lengths, threshold):
    passed = [n for n, score in enumerate(scores) if score >= threshold]
    fell_back = not passed
    return min(passed or range(len(scores)), key=lambda n: uncertainties[n] / lengths[n]), fell_back


@pytest.mark.fast
@settings(max_examples=200, deadline=None)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 2**31), st.floats(0, 1))
def test_best_of_n(problems, n, seed, threshold) -> None:
    rng = np.random.default_rng(seed)
    # Few distinct values, so that ties and empty selections are common.
    scores = rng.integers(0, 5, (problems, n)) / 4
    uncertainties = rng.integers(1, 5, (problems, n)).astype(float)
    lengths = rng.integers(1, 4, (problems, n))
    got = best_of_n(scores, uncertainties, lengths, threshold=threshold)
    for p in range(problems):
        index, fell_back = reference(scores[p], uncertainties[p], lengths[p], threshold)
        assert (got.index[p], got.fell_back[p]) == (index, fell_back)


def test_long_answers_are_not_at_a_disadvantage() -> None:
    got = best_of_n(np.ones((1, 2)), np.array([[3.0, 4.0]]), np.array([[2, 8]]), threshold=0.5)
    assert got.index.tolist() == [1]
    assert not got.fell_back.any()
