"""The tables of the vocabulary stay where they are, as compiled for 16 devices."""

from __future__ import annotations

import json
import os
import subprocess
import sys

LOOKUPS = """
import json
import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec
from gapjax.models import Transformer
from gapjax.models.config import DecoderConfig
from gapjax.parallel.collectives import collectives
from gapjax.parallel.layout import MESH_AXES, Layout

config = DecoderConfig(
    vocab_size=4096, hidden_size=64, intermediate_size=64, num_layers=1, num_heads=4,
    num_kv_heads=4, head_dim=16, max_position=64,
)
mesh = jax.make_mesh((2, 4, 2), MESH_AXES, axis_types=(jax.sharding.AxisType.Auto,) * 3)
layout = Layout(mesh, head_dim=16)
graph, state = nnx.split(nnx.eval_shape(lambda: Transformer(config, rngs=nnx.Rngs(0))))
state = jax.tree.map(
    lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
    state,
    layout.shardings(state),
)

def merged(state):
    model = nnx.merge(graph, state)
    model.layout = layout
    return model

def looked_up(state, token_ids):
    return merged(state)._embedded(token_ids)

def all_logits(state, hidden):
    return layout.constrain(merged(state).logits(hidden), "batch")

def traffic(function, shape, dtype):
    where = NamedSharding(mesh, PartitionSpec(layout.batch_axes))
    array = jax.ShapeDtypeStruct(shape, dtype, sharding=where)
    found = collectives(jax.jit(function).lower(state, array).compile().as_text())
    return [(kind.name, kind.group, moved.bytes) for kind, moved in found.items()]

print(json.dumps([
    traffic(looked_up, (16, 2, 3), jnp.int32),
    traffic(all_logits, (16, 64), jnp.float32),
]))
"""


def test_activations_and_logits_travel_and_the_tables_do_not() -> None:
    flags = "--xla_force_host_platform_device_count=16"
    done = subprocess.run(
        [sys.executable, "-c", LOOKUPS],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # What XLA says when it gathers an array everywhere, having found nothing better.
    assert "rematerialization" not in done.stderr
    lookup, logits = json.loads(done.stdout)
    # An answer's rows go around within `fsdp`; a shard of the table has 64 KiB.
    assert "all-to-all" in {kind for kind, *_ in lookup}
    assert sum(size for *_, size in lookup) < 8192
    # Over `tensor` the other half of 2 rows' logits; over `fsdp` the weights' width.
    half = {tuple(found[:2]): found[2] for found in logits}
    assert half["all-gather", 2] == 2 * 4096 / 2 * 4
    assert half["all-gather", 4] == 4096 / 2 * 64 * 4 * 3 / 4
    assert len(half) == 2
