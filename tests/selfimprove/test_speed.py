"""Tokens and operations a second, and what share of the peak they are."""

from __future__ import annotations

import jax
import pytest

from gapjax.models.config import DecoderConfig
from gapjax.selfimprove import speed
from gapjax.selfimprove.recipe import parse_recipe

# 2 layers of 576 parameters and a head of 80, as in tests/parallel/test_roofline.py.
TINY = DecoderConfig(
    vocab_size=10,
    hidden_size=8,
    intermediate_size=16,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    head_dim=4,
    max_position=64,
)
PARAMETERS = 2 * 576 + 80


@pytest.mark.parametrize(("rank", "passes"), [(4, 2), (0, 3)])
def test_a_step_by_hand(rank, passes) -> None:
    found = speed.Speed(TINY, parse_recipe({"adapter": {"rank": rank}}))
    row = found("train", {"tokens": 100, "seconds": 0.5})
    # Of a CPU nobody has told us the peak.
    expected = {"tokens_per_second": 200, "flops_per_second": 200 * 2 * PARAMETERS * passes}
    assert row == {"train": expected}


def test_only_a_verifier_that_is_the_model_needs_operations_we_know() -> None:
    row = {"tokens": 100, "seconds": {"sample": 2.0, "grade": 1.0, "verify": 4.0}}
    own = speed.Speed(TINY, parse_recipe({"verifier": {"method": "true_false"}}))
    assert own("measure", row)["verify"]["flops_per_second"] == 25 * 2 * PARAMETERS
    likelihood = speed.Speed(TINY, parse_recipe({}))
    assert set(likelihood("select", row)) == {"sample"}
    assert likelihood("judge", {"stop": None}) == {}
    assert likelihood("select", {"seconds": {}, "tokens": 0}) == {}


def test_utilisation_is_of_the_peak_of_all_devices(monkeypatch) -> None:
    monkeypatch.setattr(speed, "peak_flops", lambda kind: 1e6)
    found = speed.Speed(TINY, parse_recipe({}))("train", {"tokens": 10, "seconds": 1.0})["train"]
    peak = 1e6 * jax.device_count()
    assert found["utilisation"] == pytest.approx(10 * 4 * PARAMETERS / peak)
