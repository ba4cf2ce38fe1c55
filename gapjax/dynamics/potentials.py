"""Gap potentials `E = f(G)`: what drives both uncertainties down.

A potential increases with the gap `G = U_s − U_v` (nats) and vanishes at the gap limit.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import TypeAlias

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

# A number, or a scalar array where one differentiates or maps over it.
Scalar: TypeAlias = "Array | float"


class AbstractPotential(eqx.Module):
    """An increasing function of the gap."""

    @abc.abstractmethod
    def __call__(self, gap: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        """The potential energy at `gap` (nats)."""


class LinearPotential(AbstractPotential):
    """`E = k·G − b`, the paper's first-order potential; it vanishes at `G∞ = b/k`.

    - `k`: slope per nat, positive.
    - `b`: offset.
    """

    k: Scalar
    b: Scalar = 0.0

    @property
    def gap_limit(self) -> Float[Array, ""]:
        """`G∞ = b/k` in nats."""
        return jnp.asarray(self.b / self.k)

    def __call__(self, gap: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        return self.k * gap - self.b


class PowerPotential(AbstractPotential):
    """`E = k·|G − b/k|^q·(G − b/k)`: slower than linear near the limit.

    It gives `G − G∞ ∝ (1 + q·γ·t)^(−1/q)`; at `q = 0` it is `LinearPotential`.

    - `k`, `b`: as for the linear potential.
    - `q`: exponent, at least 0.
    """

    k: Scalar
    b: Scalar = 0.0
    q: Scalar = 1.0

    @property
    def gap_limit(self) -> Float[Array, ""]:
        """`G∞ = b/k` in nats."""
        return jnp.asarray(self.b / self.k)

    def __call__(self, gap: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        distance = gap - self.gap_limit
        # |x|^q·x has the derivative (q+1)|x|^q; spelt so that it is 0, not nan, at x = 0.
        size = jnp.where(distance == 0, 1.0, jnp.abs(distance))
        return self.k * jnp.where(distance == 0, 0.0, size**self.q) * distance


class FunctionPotential(AbstractPotential):
    """Any increasing function of the gap, written with `jax.numpy`."""

    function: Callable[[Float[Array, "*batch"]], Float[Array, "*batch"]]

    def __call__(self, gap: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        return self.function(gap)
