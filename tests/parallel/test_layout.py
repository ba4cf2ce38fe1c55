"""Parameters spread over several devices: where they lie, and that nothing changes."""

from __future__ import annotations

import os
import subprocess
import sys

import jax
import pytest
from jax.sharding import AbstractMesh

from gapjax import models
from gapjax.parallel.layout import Layout

FOUR_DEVICES = """
import jax, numpy as np
from gapjax import models
from gapjax.generation import score
from flax import nnx

mesh = jax.make_mesh((2, 2), ("fsdp", "tensor"))
spread, whole = models.load("adder", mesh=mesh).model, models.load("adder").model
kernel = spread.blocks[0].mlp.up.kernel[...]
assert kernel.sharding.shard_shape(kernel.shape) == (kernel.shape[0] // 2, kernel.shape[1] // 2)
assert len(spread.norm.scale[...].sharding.device_set) == 4
for mine, other in zip(jax.tree.leaves(nnx.state(spread)), jax.tree.leaves(nnx.state(whole))):
    np.testing.assert_array_equal(mine, other)
tokens = np.arange(24).reshape(2, 12) % 14
forward = nnx.jit(lambda model, tokens: model(tokens))
np.testing.assert_allclose(forward(spread, tokens), forward(whole, tokens), atol=1e-4)
np.testing.assert_allclose(spread(tokens), whole(tokens), atol=1e-4)
args = [[3, 4, 5]], [[[6, 7], [8, 1]]]
np.testing.assert_allclose(score(spread, *args)[0], score(whole, *args)[0], atol=1e-4)
print("same")
"""


def test_a_model_on_four_devices_computes_the_same() -> None:
    flags = "--xla_force_host_platform_device_count=4"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", FOUR_DEVICES]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "same", done.stderr


@pytest.mark.fast
def test_a_mesh_of_one_device(adder) -> None:
    mesh = jax.make_mesh((1,), ("fsdp",))
    model = models.load("adder", mesh=mesh).model
    assert model.embedding[...].sharding.mesh.axis_names == ("fsdp",)
    assert (model.embedding[...] == adder.model.embedding[...]).all()


@pytest.mark.fast
@pytest.mark.parametrize(
    ("path", "shape", "expected"),
    [
        (("blocks", 0, "attention", "q", "kernel"), (8, 12), ("fsdp", "tensor")),
        (("blocks", 0, "attention", "o", "kernel"), (12, 8), ("tensor", "fsdp")),
        (("blocks", 0, "mlp", "down", "kernel"), (7, 8), (None, "fsdp")),
        (("embedding",), (9, 8), ("tensor", "fsdp")),
        (("norm", "scale"), (8,), ()),
    ],
)
def test_axes_that_do_not_divide_stay_whole(path, shape, expected) -> None:
    mesh = AbstractMesh((4, 3), ("fsdp", "tensor"))
    assert tuple(Layout(mesh).parameter(path, shape)) == expected
