from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapjax.errors import UserError
from gapjax.tasks import arithmetic


def make(**changes):
    options = {"digits": 1, "train": 30, "probe": 20, "seed": 0, "template": "{a}+{b}="}
    return arithmetic(**(options | changes))


@pytest.mark.fast
@settings(max_examples=30, deadline=None)
@given(st.integers(1, 2), st.integers(1, 60), st.integers(1, 40), st.integers(0, 2**31))
def test_splits_never_overlap_and_answers_are_right(digits, train, probe, seed) -> None:
    splits = make(digits=digits, train=train, probe=probe, seed=seed)
    parts = [{p.prompt for p in part} for part in (splits.train, splits.probe, splits.rest)]
    assert [len(part) for part in parts[:2]] == [train, probe]
    assert len(set().union(*parts)) == sum(map(len, parts)) == (100 if digits == 1 else 8100)
    for problem in (*splits.train, *splits.probe):
        a, b = problem.prompt.rstrip("=").split("+")
        assert int(a) + int(b) == int(problem.answer)


def test_the_probe_set_does_not_depend_on_how_many_one_trains_on() -> None:
    assert make(train=10).probe == make(train=70).probe
    assert make(seed=1).probe != make(seed=2).probe


def test_what_cannot_be_made() -> None:
    with pytest.raises(UserError, match="100 additions"):
        make(train=90)
    with pytest.raises(UserError, match="lacks"):
        make(template="{a} plus")
