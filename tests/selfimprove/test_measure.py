from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from gapjax.selfimprove.measure import answer_entropy, pass_at_k


@pytest.mark.fast
@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_pass_at_k_is_the_mean_over_all_subsets(k: int) -> None:
    correct = np.array([[0, 0, 0, 0, 0], [1, 0, 0, 0, 0], [1, 1, 0, 1, 0], [1] * 5], bool)
    expected = np.mean(
        [
            [any(row[i] for i in chosen) for chosen in itertools.combinations(range(5), k)]
            for row in correct
        ]
    )
    assert pass_at_k(correct, k) == pytest.approx(expected)


def test_entropy_of_answers() -> None:
    assert answer_entropy((("7", "7 ", "7", "7"),)) == 0
    assert answer_entropy((("1", "2", "3", "4"),)) == pytest.approx(math.log(4))
    assert answer_entropy((("1", "1"), ("1", "2"))) == pytest.approx(math.log(2) / 2)
