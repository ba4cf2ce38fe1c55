"""NUTS over a batch of curves, every curve and chain with its own adaptation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from numpyro.infer.hmc import hmc
from numpyro.infer.util import potential_energy

from gapjax.posterior.compiling import quick_jit
from gapjax.posterior.mode import Mode
from gapjax.posterior.model import Model
from gapjax.posterior.observations import Observations

_TARGET_ACCEPT = 0.9
_TARGET_ACCEPT_SHAPED = 0.98  # a shape parameter bends the posterior: smaller steps
_MAX_TREE_DEPTH = 10
_BLOCK = 100  # iterations between two reports of progress

# Called with the number of iterations done and their total.
Progress = Callable[[int, int], None]


class Chains(NamedTuple):
    """Draws of each curve, and what the sampler says about them (ArviZ's names)."""

    x: Float[np.ndarray, "curves chains draws coordinates"]
    lp: Float[np.ndarray, "curves chains draws"]
    energy: Float[np.ndarray, "curves chains draws"]
    diverging: np.ndarray
    n_steps: np.ndarray
    acceptance_rate: Float[np.ndarray, "curves chains draws"]
    step_size: Float[np.ndarray, "curves chains draws"]


def run_nuts(
    model: Model,
    observed: Observations,
    mode: Mode,
    keys: Key[Array, " curves"],
    *,
    chains: int,
    warmup: int,
    draws: int,
    progress: Progress | None = None,
) -> Chains:
    """Sample the posterior of every curve in the batch, all curves and chains in step.

    **Arguments:**

    - `mode`: where chains start (one covariance root away from the centre, at random).
    - `keys`: one PRNG key a curve; a curve's draws do not depend on its neighbours.
    """
    initialise, advance = _kernel(model, chains, warmup)
    data = (observed, mode.centre, mode.root)
    total = warmup + draws
    if progress is not None:
        progress(0, total)
    state = initialise(data, keys)
    kept = []
    for start, stop in _blocks(warmup, draws):
        state, record = advance(state, data, stop - start)
        if start >= warmup:
            kept.append(jax.tree.map(np.asarray, record))
        if progress is not None:
            jax.block_until_ready(state)
            progress(stop, total)
    return jax.tree.map(lambda *blocks: np.concatenate(blocks, axis=2), *kept)


def _blocks(warmup: int, draws: int) -> Iterator[tuple[int, int]]:
    """Iterations in blocks that do not cross the end of the warm-up."""
    for first, last in ((0, warmup), (warmup, warmup + draws)):
        for start in range(first, last, _BLOCK):
            yield start, min(start + _BLOCK, last)


@lru_cache(maxsize=32)
def _kernel(model: Model, chains: int, warmup: int) -> tuple[Callable, Callable]:
    """The compiled `initialise` and `advance` of a model."""

    def potential_of(observed: Observations, centre: Array, root: Array) -> Callable:
        return partial(potential_energy, model, (observed, centre, root), {})

    init_kernel, sample_kernel = hmc(potential_fn_gen=potential_of, algo="NUTS")

    def initialise_chain(data: Any, key: Key[Array, ""]) -> Any:
        key, start_key = jax.random.split(key)
        size = len(model.coordinates)
        target = _TARGET_ACCEPT_SHAPED if model.family.coordinates else _TARGET_ACCEPT
        start = {"position": jax.random.truncated_normal(start_key, -1.5, 1.5, (size,))}
        return init_kernel(
            start,
            warmup,
            step_size=0.5,
            dense_mass=True,
            target_accept_prob=target,
            max_tree_depth=_MAX_TREE_DEPTH,
            model_args=data,
            rng_key=key,
        )

    @quick_jit
    def initialise(data: Any, keys: Key[Array, " curves"]) -> Any:
        split = jax.vmap(lambda key: jax.random.split(key, chains))(keys)
        return jax.vmap(jax.vmap(initialise_chain, in_axes=(None, 0)))(data, split)

    def step(data: Any, state: Any) -> Any:
        return sample_kernel(state, model_args=data)

    @partial(quick_jit, static_argnums=2)
    def advance(state: Any, data: Any, iterations: int) -> tuple[Any, Chains]:
        _, centre, root = data

        def body(state: Any, _: None) -> tuple[Any, Chains]:
            state = jax.vmap(jax.vmap(step, in_axes=(None, 0)))(data, state)
            record = Chains(
                x=centre[:, None] + jnp.einsum("cij,ckj->cki", root, state.z["position"]),
                lp=-state.potential_energy,
                energy=state.energy,
                diverging=state.diverging,
                n_steps=state.num_steps,
                acceptance_rate=state.accept_prob,
                step_size=state.adapt_state.step_size,
            )
            return state, record

        state, record = jax.lax.scan(body, state, None, length=iterations)
        return state, jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 2), record)

    return initialise, advance
