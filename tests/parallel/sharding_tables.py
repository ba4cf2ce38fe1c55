"""Where every parameter of each family lies on a pod, as text to review: `make sharding-tables`."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import AbstractMesh

from gapjax.models import Transformer
from gapjax.models.config import DecoderConfig
from gapjax.models.families import FAMILIES
from gapjax.models.lora import attach
from gapjax.parallel import Layout

GOLDEN = Path(__file__).parent / "golden"
MESH = AbstractMesh((2, 4, 4), ("data", "fsdp", "tensor"))

# One layer each of Llama-3.1-8B, Mistral-7B-v0.3, Qwen2.5-7B, Qwen3-8B and Phi-4-mini; and a small
# model whose two key-value heads are fewer than the mesh's four parts, and whose vocabulary is odd.
_LAYER = {"num_layers": 1, "max_position": 4096, "head_dim": 128}
MODELS: dict[str, DecoderConfig] = {
    name: DecoderConfig(
        **_LAYER
        | dict(zip(("vocab_size", "hidden_size", "intermediate_size"), sizes, strict=True)),
        num_heads=heads[0],
        num_kv_heads=heads[1],
        family=name.partition("-")[0],
        **more,
    )
    for name, sizes, heads, more in (
        ("llama", (128_256, 4096, 14_336), (32, 8), {}),
        ("mistral", (32_768, 4096, 14_336), (32, 8), {}),
        ("qwen2", (152_064, 3584, 18_944), (28, 4), {"qkv_bias": True}),
        ("qwen3", (151_936, 4096, 12_288), (32, 8), {"qk_norm": True}),
        ("phi3", (200_064, 3072, 8192), (24, 8), {"tie_embeddings": True}),
        ("llama-small", (49_155, 512, 1536), (8, 2), {"tie_embeddings": True}),
    )
}
assert {config.family for config in MODELS.values()} == set(FAMILIES)


def table(config: DecoderConfig) -> str:
    """A line a parameter: its path, its shape, and the axis of the mesh that splits each axis."""
    layout = Layout(MESH, head_dim=config.head_dim)
    lines = [f"mesh: {', '.join(f'{axis} {size}' for axis, size in MESH.shape.items())}", ""]
    model = nnx.eval_shape(lambda: Transformer(config, dtype=jnp.bfloat16, rngs=nnx.Rngs(0)))
    lines += _lines(layout, "", nnx.state(model))
    adapted = nnx.eval_shape(
        lambda: attach(
            Transformer(config, dtype=jnp.bfloat16, rngs=nnx.Rngs(0)),
            rank=16,
            alpha=16.0,
            targets="attention|mlp",
            key=jax.random.key(0),
        )
    )
    adapters = nnx.state(adapted, nnx.LoRAParam)
    lines += ["", "adapters of rank 16", *_lines(layout, "", adapters)]
    moments = jax.eval_shape(optax.adam(1e-3).init, adapters)
    lines += ["", "their optimizer", *_lines(layout, "", moments)]
    return "\n".join(lines) + "\n"


def _lines(layout: Layout, prefix: str, tree: object) -> list[str]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    shardings = jax.tree_util.tree_leaves(layout.shardings(tree))
    lines = []
    for (path, leaf), sharding in zip(leaves, shardings, strict=True):
        name = ".".join(
            str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", "")))) for k in path
        )
        axes = [str(axis or "-") for axis in sharding.spec]
        axes += ["-"] * (len(leaf.shape) - len(axes))
        shape = " x ".join(map(str, leaf.shape)) or "scalar"
        lines.append(f"{name.removesuffix('.value'):42}{shape:18}{', '.join(axes)}".rstrip())
    return sorted(lines)


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for name, config in MODELS.items():
        (GOLDEN / f"{name}.txt").write_text(table(config), encoding="utf-8")


if __name__ == "__main__":
    main()
