"""Numbers from outside: taken within their bounds, otherwise one line that says which."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gapjax.errors import UserError
from gapjax.numbers import checked_seed, real_number, whole_number

pytestmark = pytest.mark.fast


def test_numbers_within_bounds_are_taken_whatever_their_type():
    assert real_number("price", 1e6, 0, 1e6) == 1e6
    assert real_number("price", np.float32(0.5), 0, 1) == 0.5
    assert whole_number("rounds", np.int64(3), 1, 5) == 3
    assert checked_seed(2**32 - 1) == 2**32 - 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -1, 1e9, 10**400, True, "1", None, 1j])
def test_other_real_numbers_are_one_line(value):
    with pytest.raises(UserError, match="price is"):
        real_number("price", value, 0, 1e6)


def test_a_lower_bound_may_be_left_out():
    with pytest.raises(UserError, match="above 0"):
        real_number("epochs", 0.0, 0, 1e6, above=True)


@pytest.mark.parametrize("value", [1.5, 2.0, -1, 2**32, 10**400, True, "1", None])
def test_other_seeds_are_one_line(value):
    with pytest.raises(UserError, match="seed is"):
        checked_seed(value)
