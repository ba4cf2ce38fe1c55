"""Log-probabilities of a few given continuations, each one token long or several.

All of them hang on one tree: what they have in common is computed once, and of the vocabulary only
the tokens that occur in them, beside the normaliser.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int
from scipy.special import logsumexp

from gapjax.errors import UserError
from gapjax.generation.scoring import batches, longest, token_logprobs
from gapjax.models.transformer import Transformer
from gapjax.parallel.distributed import to_host

_Path = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class ChoiceTree:
    """Continuations, laid out for one forward pass.

    - `paths`: the tokens of each.
    - `tails`: of the texts that some token of theirs follows, those that are no beginning of
        another: to compute these is to compute all of them.
    - `tokens`: all that occur.
    """

    paths: tuple[_Path, ...]
    tails: tuple[_Path, ...]
    tokens: tuple[int, ...]

    @classmethod
    def of(cls, choices: Sequence[Sequence[int]]) -> ChoiceTree:
        """**Raises:** `UserError` if two are the same, or one has no tokens."""
        paths = tuple(map(tuple, choices))
        if not all(paths) or len(set(paths)) < len(paths):
            raise UserError("choices need a token each, and no two may be the same")
        followed = {path[:depth] for path in paths for depth in range(len(path))}
        inner = {text[:depth] for text in followed for depth in range(len(text))}
        tails = tuple(sorted(followed - inner))
        return cls(paths, tails, tuple(sorted({token for path in paths for token in path})))

    @property
    def depth(self) -> int:
        """Tokens of the longest tail."""
        return max(map(len, self.tails))

    def exclusive(self, steps: Float[np.ndarray, "... K D C"]) -> Float[np.ndarray, "... paths"]:
        """Log-probabilities of the paths.

        Of one that goes on as another does, without the probability that it goes on so: no two
        then happen together, and their probabilities may be added.

        **Arguments:**

        - `steps`: log-probabilities of the tokens at each position of each tail.
        """
        where = {token: i for i, token in enumerate(self.tokens)}
        whole = []
        for path in self.paths:
            total = np.zeros(steps.shape[:-3])
            for depth, token in enumerate(path):
                before = path[:depth]
                k = next(k for k, tail in enumerate(self.tails) if tail[:depth] == before)
                total = total + steps[..., k, depth, where[token]]
            whole.append(total)
        own = []
        for path, total in zip(self.paths, whole, strict=True):
            if longer := self._next_longer(path):
                further = logsumexp([whole[i] for i in longer], axis=0) - total
                # Rounding may leave less than nothing of it.
                total = total + np.log(np.maximum(-np.expm1(further), np.finfo(float).tiny))
            own.append(total)
        return np.stack(own, axis=-1)

    def _next_longer(self, path: _Path) -> list[int]:
        """The paths that begin with this one, but for those that go on from such a one."""
        longer = [other for other in self.paths if other != path and other[: len(path)] == path]
        return [
            i
            for i, other in enumerate(self.paths)
            if other in longer
            and not any(other != first and other[: len(first)] == first for first in longer)
        ]


def choice_logprobs(
    model: Transformer,
    tails: Sequence[int],
    prefixes: Int[Array, "P S"],
    prefix_mask: Bool[Array, "P S"],
    suffixes: Int[Array, "P NK L"],
    suffix_mask: Bool[Array, "P NK L"],
    tokens: Int[Array, " C"],
) -> Float[Array, "P NK D C"]:
    """Log-probabilities (nats) of a few tokens after each suffix, and at each position of its tail.

    **Arguments:**

    - `tails`: lengths of the tails of K neighbouring suffixes, which are parts of them.
    - `prefixes`, `prefix_mask`: left-padded; what the suffixes share.
    - `suffixes`, `suffix_mask`: right-padded, each at least one token longer than its tail.
    - `tokens`: the token ids of interest.
    """
    _, prefix = model.prefill(prefixes, prefix_mask, room=longest(suffix_mask))
    hidden = model.extend(suffixes, suffix_mask, prefix)
    repeats = suffixes.shape[1] // len(tails)
    last = suffix_mask.sum(axis=-1) - 1 - jnp.tile(jnp.asarray(tails), repeats)
    at = last[..., None] + jnp.arange(max(tails) + 1)
    at = jnp.minimum(at, suffixes.shape[2] - 1)  # beyond a shorter tail, where nobody looks
    final = jnp.take_along_axis(hidden, at[..., None], axis=2)
    table = model.output_table()
    logits = jnp.einsum("pndm,cm->pndc", final, table[tokens], preferred_element_type=jnp.float32)
    first = token_logprobs(final, table, jnp.broadcast_to(tokens[0], at.shape), model.layout)
    return logits - logits[..., :1] + first[..., None]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _choice_logprobs(
    graph: nnx.GraphDef, tails: tuple[int, ...], state: nnx.State, *arrays: Array
) -> Array:
    return choice_logprobs(nnx.merge(graph, state), tails, *arrays)


def score_choices(
    model: Transformer,
    prefixes: Sequence[Sequence[int]],
    suffixes: Sequence[Sequence[Sequence[int]]],
    choices: Sequence[Sequence[int]],
    *,
    sequences_at_once: int = 256,
) -> Float[np.ndarray, "P N C"]:
    """Log-probabilities (nats) with which each of the N suffixes of each of P prefixes goes on.

    A verifier's question: the candidates of one prompt share its prefix, the verdicts are the
    choices. These exclude each other: where the tokens of one begin another ("1" and "10"), the
    shorter one stands for not going on as the longer one does. So probabilities of several
    choices can be added.

    **Arguments:**

    - `choices`: token ids of each, one or several.
    - `sequences_at_once`: bounds the memory.

    **Raises:** `UserError` if two choices are the same, or a prefix with a suffix and a choice does
    not fit the context.
    """
    tree = ChoiceTree.of(choices)
    spread = [[[*suffix, *tail] for suffix in group for tail in tree.tails] for group in suffixes]
    graph, state = nnx.split(model)
    tails, tokens = tuple(map(len, tree.tails)), np.asarray(tree.tokens, np.int32)
    steps = np.concatenate(
        [
            to_host(_choice_logprobs(graph, tails, state, *arrays, tokens))[:kept]
            for arrays, kept in batches(model, prefixes, spread, sequences_at_once)
        ]
    )
    shape = (len(prefixes), len(suffixes[0]), len(tails), *steps.shape[2:])
    return tree.exclusive(np.asarray(steps, np.float64).reshape(shape))
