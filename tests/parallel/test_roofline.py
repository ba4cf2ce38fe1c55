"""Estimates against numbers computed by hand, and against published parameter counts."""

from __future__ import annotations

import json

import pytest

from benchmarks.scale import CASES, RESULTS
from gapjax.errors import UserError
from gapjax.models.config import DecoderConfig
from gapjax.models.published import find_config
from gapjax.parallel import roofline
from gapjax.parallel.footprint import Parameters
from gapjax.parallel.hardware import GENERATIONS, find_hardware
from gapjax.parallel.load import Load, Mesh, make_mesh
from gapjax.parallel.roofline import best_mesh, estimate, times
from gapjax.parallel.steps import Step, decode_step, train_step, verify_step

# 2 layers of 8 x (2 x 8 + 2 x 4 + 3 x 16) = 576 parameters and a head of 10 x 8.
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


@pytest.mark.parametrize(
    ("name", "count"),  # as their pages on the Hugging Face hub have it
    [
        ("1b", 1_235_814_400),
        ("8b", 8_030_261_248),
        ("70b", 70_553_706_496),
        ("phi-4-mini", 3_836_021_760),
    ],
)
def test_published_models_have_the_published_number_of_parameters(name, count) -> None:
    assert Parameters.of(find_config(name)).total == count


def test_a_decode_step_by_hand() -> None:
    load = Load(prompts=4, samples=2, prompt_tokens=3, new_tokens=5)
    step = decode_step(TINY, load, Mesh(fsdp=2))
    total = 2 * (576 + 16) + 2 * 80 + 8
    # 8 answers; 4 x 2 layers x 2 heads x 4 x 8 slots = 512 operations of attention each.
    assert step.flops == (2 * (2 * 576 + 80) * 8 + 512 * 8) / 2
    cache = (4 * 3 + 8 * 5) / 2 * 2 * 2 * 1 * 4 * 2  # slots x layers x pair x heads x size x bytes
    assert step.memory == 2 * total + cache + 4 * 10 * 4
    assert step.network == {"data": 0, "fsdp": 2 * total / 2, "tensor": 0}
    assert step.tokens == 8


def test_sums_over_heads_by_hand() -> None:
    load = Load(prompts=4, samples=2, prompt_tokens=3, new_tokens=5)
    step = decode_step(TINY, load, Mesh(tensor=2))
    # 2 layers x 2 sums of 8 answers x 8 x 2 bytes, twice around, half of it; and the logits.
    assert step.network["tensor"] == 2 * 2 * 8 * 8 * 2 * 2 / 2 + 8 * 10 * 4 / 2


def test_training_costs_three_or_two_times_the_forward_pass() -> None:
    config = find_config("8b")
    # So short that attention hardly counts, and one answer a prompt: the same tokens.
    load = Load(prompts=64, samples=1, prompt_tokens=8, new_tokens=120, batch=64, remat="none")
    forward = verify_step(config, load, Mesh()).flops
    count, tokens = Parameters.of(config), 64 * 128
    assert forward == pytest.approx(2 * (count.total - count.head) * tokens, rel=0.02)
    again = 2 * count.head * 64 * 120  # logits are computed twice
    full = train_step(config, Load(**{**vars(load), "rank": 0}), Mesh()).flops
    adapters = train_step(config, load, Mesh()).flops
    assert full - again == pytest.approx(3 * forward, rel=1e-6)
    assert adapters - again == pytest.approx(2 * forward, rel=0.01)


def test_a_step_takes_as_long_as_what_bounds_it() -> None:
    v5e = GENERATIONS["v5e"]
    step = Step(
        name="x",
        flops=197e12,
        memory=2 * 819e9,
        network={"fsdp": 270e9, "tensor": 45e9},
        resident={},
        tokens=1,
    )
    ring = times(step, v5e, Mesh(fsdp=16, tensor=4))
    assert (ring.compute, ring.memory, ring.network) == (1, 2, 3 + 1)  # 4 chips are no ring
    assert (ring.seconds, ring.bound, ring.utilisation) == (4, "network", 0.25)
    assert times(step, v5e, Mesh(fsdp=16, tensor=16)).network == 3 + 0.5


def test_memory_of_full_training_is_18_bytes_a_parameter_beside_activations() -> None:
    config = find_config("8b")
    step = train_step(config, Load(rank=0, batch=16), Mesh(fsdp=16))
    state = sum(size for name, size in step.resident.items() if name != "activations")
    assert state == pytest.approx(18 * Parameters.of(config).total / 16)


def test_the_mesh_that_is_chosen_is_the_fastest_that_fits() -> None:
    config, load = find_config("8b"), Load()
    hardware = find_hardware("v5e-16")
    best = best_mesh(config, load, hardware)
    chosen = estimate(config, load, hardware, best)
    assert chosen.fits
    # One chip has no room for the weights.
    alone = estimate(config, load, hardware, Mesh(data=16))
    assert not alone.fits
    # To gather 8 billion weights for every token takes longer than to sum over heads.
    gathered = estimate(config, load, hardware, Mesh(fsdp=16))
    assert gathered.phases[1].times.bound == "network"
    assert chosen.seconds < gathered.seconds


def test_small_models_sample_on_every_device_by_itself() -> None:
    config, hardware = find_config("1b"), find_hardware("v5e-16")
    whole = estimate(config, Load(), hardware, Mesh(fsdp=16), replicate_below=2**32)
    assert whole.phases[1].mesh == Mesh(data=16)
    assert sum(whole.phases[1].step.network.values()) == 0
    assert whole.phases[3].mesh == Mesh(fsdp=16)


def test_a_model_is_small_where_the_loop_says_so() -> None:
    from gapjax.selfimprove import rounds

    assert roofline.SMALL == rounds._SMALL


@pytest.mark.parametrize("sizes", [{"model": 2}, {"fsdp": 3}, {"data": 4, "fsdp": 2}, {"fsdp": 0}])
def test_impossible_meshes_are_one_line(sizes) -> None:
    with pytest.raises(UserError, match="mesh: "):
        make_mesh(sizes, find_hardware("v5e-16"))


def test_what_is_left_of_a_mesh_goes_to_data() -> None:
    assert make_mesh({"tensor": 4}, find_hardware("v5e-64")) == Mesh(data=16, tensor=4)


def test_the_closed_form_of_decoding_is_what_the_tpu_compiler_says() -> None:
    done = json.loads(RESULTS.with_suffix(".json").read_text(encoding="utf-8"))
    whole = {name: row for name, row in done.items() if row["whole"]}
    assert len(whole) >= 2
    for case in CASES:
        row = whole.get(f"{case.name}: decode")
        # Where weights are gathered the compiler may hold many layers' at once.
        if row is None or case.mesh.fsdp > 1:
            continue
        step = decode_step(find_config(case.model), case.load, case.mesh)
        assert row["flops"] == pytest.approx(step.flops, rel=0.02)
        received = sum(found["bytes"] for found in row["collectives"])
        assert received == pytest.approx(sum(step.network.values()), rel=0.05)
        assert step.held < row["peak"] < 1.3 * step.held
