"""The programs of a run, lowered from shapes alone: no weights, no devices.

Run as a module it compiles them in a process of its own, whose number of devices is its own too.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array

from gapjax.generation.draw import Truncation, draw
from gapjax.generation.scoring import answer_logprobs
from gapjax.models.config import DecoderConfig
from gapjax.models.lora import attach
from gapjax.models.transformer import LayerKV, Prefix, Transformer
from gapjax.parallel.collectives import Kind, Traffic
from gapjax.parallel.compile_ahead import (
    Compiled,
    compile_ahead,
    device_mesh,
    environment,
    extrapolate,
)
from gapjax.parallel.hardware import Hardware
from gapjax.parallel.layout import Layout
from gapjax.parallel.load import Load, Mesh
from gapjax.selfimprove import sft
from gapjax.selfimprove.recipe import TrainConfig

PROGRAMS = ("prefill", "decode", "verify", "train")


def lower(
    program: str, config: DecoderConfig, load: Load, layout: Layout, *, dtype: str = "bfloat16"
) -> jax.stages.Lowered:
    """One of `PROGRAMS`, ready to be compiled for the devices of a layout.

    **Arguments:**

    - `dtype`: of weights and arithmetic; what is trained is float32.
    """
    rows = load.batch if program == "train" else load.prompts
    prompts = _batch(layout, (rows, load.prompt_tokens), jnp.int32)
    mask = _batch(layout, (rows, load.prompt_tokens), jnp.bool)
    if program == "train":
        return _lower_training(config, load, layout, jnp.dtype(dtype), prompts, mask)
    make = functools.partial(_model, config, layout, jnp.dtype(dtype))
    graph, state = nnx.split(nnx.eval_shape(make))
    state = _with_shardings(state, layout.shardings(state))
    answers = (rows, load.samples, load.new_tokens)
    if program == "verify":
        given = _batch(layout, answers, jnp.int32), _batch(layout, answers, jnp.bool)
        return _verify.lower(graph, state, prompts, mask, *given)
    if program == "prefill":
        return _prefill.lower(graph, state, prompts, mask)
    heads = config.num_kv_heads, config.head_dim

    def pairs(*shape: int) -> tuple[LayerKV, ...]:
        axes = ("batch", *(None,) * (len(shape) - 1), "heads")
        sharding = NamedSharding(layout.mesh, layout.spec((*shape, *heads), axes))
        one = jax.ShapeDtypeStruct((*shape, *heads), jnp.dtype(dtype), sharding=sharding)
        return tuple(LayerKV(one, one) for _ in range(config.num_layers))  # type: ignore[arg-type]

    prefix: Any = (pairs(rows, load.prompt_tokens), mask, _batch(layout, (rows,), jnp.bool))
    return _decode.lower(
        graph,
        state,
        pairs(*answers),
        Prefix(*prefix),
        _batch(layout, (rows, load.samples), jnp.int32),
        jax.ShapeDtypeStruct((), jnp.int32),
        _batch(layout, (rows, load.samples), jnp.float32),
    )


def compile_programs(
    config: DecoderConfig,
    load: Load,
    hardware: Hardware,
    mesh: Mesh,
    *,
    programs: Iterable[str] = PROGRAMS,
    dtype: str = "bfloat16",
    whole: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, Compiled | str]:
    """What the compiler says about the programs, in another process.

    **Arguments:**

    - `whole`: compile all layers. By default one and two of them, from which follows the rest.
    - `say`: is told when one is done.

    **Returns:** for each program its figures, or why the compiler has refused it: memory.
    """
    found: dict[str, Compiled | str] = {}
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(
            [sys.executable, "-m", __spec__.name],
            env=environment(hardware),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            wanted = (config, load, hardware, mesh, tuple(programs), dtype, whole)
            process.stdin.write(pickle.dumps(wanted))
            process.stdin.close()
            for line in process.stdout:
                if not line.startswith(b"{"):  # what the TPU's library has to say
                    continue
                row = json.loads(line)
                say(f"compiled {row['program']} in {row['seconds']:.0f} s")
                found[row["program"]] = row["refused"] or _from_json(row["compiled"])
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(errors.read().decode(errors="replace")[-4000:])
    return found


def _model(config: DecoderConfig, layout: Layout, dtype: jnp.dtype, rank: int = 0) -> Transformer:
    """To be evaluated for its shapes only."""
    model = Transformer(config, dtype=dtype, rngs=nnx.Rngs(0))
    if rank:
        key = jax.random.key(0)
        model = attach(model, rank=rank, alpha=rank, targets="attention|mlp", key=key)
    model.layout = layout  # only now, since there is nothing to be placed
    return model


def _with_shardings(tree: Any, shardings: Any) -> Any:
    def shape(x: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    return jax.tree.map(shape, tree, shardings)


def _batch(layout: Layout, shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    sharding = NamedSharding(layout.mesh, PartitionSpec(layout.batch_axes))
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def _lower_training(
    config: DecoderConfig,
    load: Load,
    layout: Layout,
    dtype: jnp.dtype,
    prompts: jax.ShapeDtypeStruct,
    mask: jax.ShapeDtypeStruct,
) -> jax.stages.Lowered:
    settings = TrainConfig(batch_size=load.batch)
    how: tuple[Any, ...] = ()

    def arrays() -> tuple[nnx.State, nnx.State]:
        nonlocal how
        model = _model(config, layout, dtype, load.rank)
        trainer = sft.Trainer(model, settings, remat=load.remat)
        how = trainer._training_graph, trainer._optimizer, trainer._parts, trainer._compute
        return trainer._trainable, trainer._frozen

    trained, frozen = jax.eval_shape(arrays)
    exact = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float32), trained)
    state = jax.eval_shape(functools.partial(sft._initial, how[1]), exact)
    answers = (load.batch, 1, load.new_tokens)
    batch: Any = sft.Batch(
        prompts,  # type: ignore[arg-type]
        mask,  # type: ignore[arg-type]
        _batch(layout, answers, jnp.int32),  # type: ignore[arg-type]
        _batch(layout, answers, jnp.bool),  # type: ignore[arg-type]
    )
    return sft._step.lower(
        *how,
        _with_shardings(state, layout.shardings(state)),
        _with_shardings(frozen, layout.shardings(frozen)),
        batch,
    )


@functools.partial(jax.jit, static_argnums=0)
def _prefill(graph: nnx.GraphDef, state: nnx.State, prompts: Array, mask: Array) -> Any:
    model = nnx.merge(graph, state)
    hidden, prefix = model.prefill(prompts, mask)
    return model.logits(hidden[:, -1]), prefix


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _decode(
    graph: nnx.GraphDef,
    state: nnx.State,
    cache: Any,
    prefix: Prefix,
    last: Array,
    step: Array,
    uniforms: Array,
) -> Any:
    """One turn of the sampler's loop."""
    model = nnx.merge(graph, state)
    hidden, cache = model.decode(last, step, cache, prefix)
    logits = model.layout.constrain(model.logits(hidden), "batch")
    token = draw(logits, uniforms, 1.0, Truncation(None, None))
    chosen = jnp.take_along_axis(logits, token[..., None], axis=-1)[..., 0]
    return token, chosen - jax.nn.logsumexp(logits, axis=-1), cache


@functools.partial(jax.jit, static_argnums=0)
def _verify(graph: nnx.GraphDef, state: nnx.State, *arrays: Array) -> Array:
    return answer_logprobs(nnx.merge(graph, state), *arrays)


def _to_json(compiled: Compiled) -> dict[str, Any]:
    traffic = [
        (kind.name, kind.group, moved.count, moved.bytes)
        for kind, moved in compiled.traffic.items()
    ]
    return {**vars(compiled), "traffic": traffic}


def _from_json(row: dict[str, Any]) -> Compiled:
    traffic = {Kind(name, group): Traffic(*moved) for name, group, *moved in row["traffic"]}
    return Compiled(**{**row, "traffic": traffic})


def _main() -> None:
    """Compile what standard input asks for; a line of JSON a program."""
    config, load, hardware, mesh, programs, dtype, whole = pickle.load(sys.stdin.buffer)
    layout = Layout(device_mesh(hardware, mesh), head_dim=config.head_dim)
    counts = (config.num_layers,) if whole or config.num_layers < 3 else (1, 2)
    for program in programs:
        began, compiled, refused = time.perf_counter(), None, None
        try:
            parts = [
                compile_ahead(lower(program, _shallow(config, count), load, layout, dtype=dtype))
                for count in counts
            ]
            result = parts[0]
            if len(parts) == 2:
                result = extrapolate(parts[0], parts[1], config.num_layers)
            compiled = _to_json(result)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            refused = str(error).splitlines()[0]
        seconds = time.perf_counter() - began
        row = {"program": program, "seconds": seconds, "compiled": compiled, "refused": refused}
        print(json.dumps(row), flush=True)


def _shallow(config: DecoderConfig, layers: int) -> DecoderConfig:
    windowed = tuple(i for i in config.sliding_layers if i < layers)
    return dataclasses.replace(config, num_layers=layers, sliding_layers=windowed)


if __name__ == "__main__":
    _main()
