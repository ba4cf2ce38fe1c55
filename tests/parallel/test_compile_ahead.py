"""Compiling for many devices that are not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from gapjax.models.config import DecoderConfig
from gapjax.parallel.collectives import Kind, Traffic
from gapjax.parallel.compile_ahead import Compiled, environment, extrapolate, topology
from gapjax.parallel.hardware import find_hardware
from gapjax.parallel.load import Load, Mesh
from gapjax.parallel.steps import decode_step, train_step
from gapjax.selfimprove.ahead import compile_programs

TINY = DecoderConfig(
    vocab_size=512,
    hidden_size=64,
    intermediate_size=128,
    num_layers=1,
    num_heads=4,
    num_kv_heads=4,
    head_dim=16,
    max_position=256,
)
LOAD = Load(prompts=16, samples=2, prompt_tokens=16, new_tokens=8, batch=16, rank=0)

MATRIX_PRODUCTS = """
import json
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P
from gapjax.parallel.collectives import collectives

mesh = jax.make_mesh((2, 4), ("x", "y"), axis_types=(jax.sharding.AxisType.Auto,) * 2)

def traffic(left, right, out):
    def shape(spec):
        return jax.ShapeDtypeStruct((64, 64), jnp.float32, sharding=NamedSharding(mesh, spec))
    product = jax.jit(jnp.matmul, out_shardings=NamedSharding(mesh, out))
    found = collectives(product.lower(shape(left), shape(right)).compile().as_text())
    return [(k.name, k.group, v.count, v.bytes) for k, v in found.items()]

print(json.dumps([
    traffic(P(None, "y"), P("y", None), P()),      # a sum over 4 devices
    traffic(P("y", None), P(), P()),               # the result gathered from 4
    traffic(P("x", None), P(), P()),               # the result gathered from 2
]))
"""


def test_traffic_of_matrix_products_is_what_it_must_be() -> None:
    flags = "--xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-c", MATRIX_PRODUCTS],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    whole = 64 * 64 * 4
    assert json.loads(done.stdout) == [
        [["all-reduce", 4, 1, 2 * whole * 3 / 4]],
        [["all-gather", 4, 1, whole * 3 / 4]],
        [["all-gather", 2, 1, whole / 2]],
    ]


def test_a_training_step_and_a_decode_step_for_16_devices() -> None:
    hardware, mesh = find_hardware("v5e-16"), Mesh(data=2, fsdp=4, tensor=2)
    found = compile_programs(
        TINY,
        LOAD,
        hardware,
        mesh,
        programs=("decode", "train"),
        dtype="float32",
        say=lambda text: None,
    )
    decode, train = found["decode"], found["train"]
    assert isinstance(decode, Compiled)
    assert isinstance(train, Compiled)
    # Per device. More than the closed form, which has no norms, softmax and drawing.
    expected = decode_step(TINY, LOAD, mesh).flops
    assert expected < decode.flops < 2 * expected
    # Weights and two moments in float32, a third each of what is split over 8 devices.
    state = 3 * 4 * (4 * 64 * 64 + 3 * 64 * 128 + 2 * 512 * 64) / 8
    assert state < train.arguments < 1.1 * state
    assert train.outputs < 0.1 * state  # the new state takes the place of the old one
    expected = train_step(TINY, LOAD, mesh).flops
    assert train.flops > 0.5 * expected  # of the loop over slices of the vocabulary one turn
    assert {kind.name for kind in train.traffic} >= {"all-gather", "all-reduce"}
    groups = {kind.group for kind in train.traffic if kind.name != "collective-permute"}
    assert groups <= {2, 4, 8, 16}


def test_layers_are_added_in_a_line() -> None:
    def program(layers: int) -> Compiled:
        return Compiled(
            arguments=10.0 + 3 * layers,
            outputs=1.0,
            temporaries=5.0 * layers,
            peak=20.0 + 6 * layers,
            flops=100.0 + 7 * layers,
            accessed=2.0 * layers,
            traffic={Kind("all-gather", 4): Traffic(2.0 * layers + 1, 64.0 * layers + 8)},
        )

    assert extrapolate(program(1), program(2), 32) == program(32)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("v5e-16", "4x4"),
        ("v5e-32", "4x8"),
        ("v6e-256", "16x16"),
        ("v5p-8", "2x2x1"),
        ("v5p-64", "2x4x4"),
        ("v5p-128", "4x4x4"),
    ],
)
def test_topologies_are_those_that_google_makes(name, expected) -> None:
    assert topology(find_hardware(name)) == expected


def test_the_other_process_sees_as_many_devices_as_there_are_chips() -> None:
    found = environment(find_hardware("v5e-64"))
    assert found["JAX_PLATFORMS"] == "cpu"
    assert "XLA_FLAGS" in found
