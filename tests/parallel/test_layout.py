"""Parameters spread over several devices: where they lie, and that nothing changes."""

from __future__ import annotations

import os
import subprocess
import sys

import jax
import pytest
from jax.sharding import AbstractMesh

from gapjax import models
from gapjax.errors import UserError
from gapjax.parallel import Layout, make_mesh
from tests.parallel.sharding_tables import GOLDEN, MODELS, table

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
FINGERPRINTS = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from gapjax.parallel.fingerprint import fingerprint

mesh = jax.make_mesh((2, 2), ("a", "b"))
rng = np.random.default_rng(0)
arrays = {
    "matrix": rng.normal(size=(6, 8)).astype(np.float32),
    "half": jnp.asarray(rng.normal(size=(4, 2, 3)), jnp.bfloat16),
    "count": np.int32(7),
}
whole = {name: jnp.asarray(x) for name, x in arrays.items()}
for specs in [(P("a", "b"), P("b"), P()), (P(None, ("a", "b")), P("a", "b"), P()), (P(),) * 3]:
    spread = {
        name: jax.device_put(x, NamedSharding(mesh, spec))
        for (name, x), spec in zip(arrays.items(), specs)
    }
    assert fingerprint(spread) == fingerprint(whole)
seen = {fingerprint(whole), fingerprint({**whole, "count": whole["count"] + 1})}
seen.add(fingerprint({**whole, "matrix": whole["matrix"].T.reshape(6, 8)}))
seen.add(fingerprint({**whole, "matrix": whole["matrix"][::-1]}))
seen.add(fingerprint({**whole, "matrix": whole["matrix"].at[3, 3].multiply(-1)}))
seen.add(fingerprint({**whole, "half": whole["half"].reshape(2, 4, 3)}))
seen.add(fingerprint({**whole, "half": whole["half"].at[0, 0, 0].set(0)}))
seen.add(fingerprint({"Matrix" if k == "matrix" else k: x for k, x in whole.items()}))
assert len(seen) == 8
print("same")
"""


@pytest.mark.parametrize("script", [FOUR_DEVICES, FINGERPRINTS], ids=["model", "fingerprints"])
def test_four_devices_give_the_same(script) -> None:
    flags = "--xla_force_host_platform_device_count=4"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", script]
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


@pytest.mark.fast
@pytest.mark.parametrize("name", MODELS)
def test_where_the_parameters_of_a_family_lie(name) -> None:
    """A change of the table is to be seen in review: `make sharding-tables`."""
    assert table(MODELS[name]) == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.fast
def test_a_head_is_never_split() -> None:
    mesh = AbstractMesh((4,), ("tensor",))
    path = ("blocks", 0, "attention", "k", "kernel")
    assert tuple(Layout(mesh, head_dim=8).parameter(path, (64, 32))) == (None, "tensor")
    assert tuple(Layout(mesh, head_dim=16).parameter(path, (64, 32))) == (None, None)


@pytest.mark.fast
def test_a_batch_is_split_over_what_there_is() -> None:
    mesh = AbstractMesh((2, 4, 8), ("data", "fsdp", "tensor"))
    assert Layout(mesh).rows(9) == 16
    assert tuple(Layout(mesh).spec((16, 5), ("batch",))) == (("data", "fsdp"),)
    everywhere = Layout(mesh, replicated=True)
    assert everywhere.batch_shards == 64
    assert tuple(everywhere.parameter(("embedding",), (64, 64))) == (None, None)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("sizes", "complaint"),
    [
        ({"fsdp": 3}, "1 devices cannot be arranged as fsdp 3"),
        ({"data": 2, "tensor": 2}, "1 devices cannot be arranged as data 2 x tensor 2"),
        ({"model": 1}, "unknown axes model; known: data, fsdp, tensor"),
    ],
)
def test_a_mesh_that_cannot_be(sizes, complaint) -> None:
    with pytest.raises(UserError, match=complaint):
        make_mesh(sizes)


def test_one_device_needs_no_mesh() -> None:
    assert make_mesh({}) is None
    assert make_mesh({"fsdp": 1}) is None
