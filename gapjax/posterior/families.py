"""Families of laws that can be fitted, by name.

A family turns the five numbers, and its own shape parameters if it has any, into a law.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from gapjax.dynamics.laws import AbstractLaw, Exponential
from gapjax.errors import UserError
from gapjax.posterior.coordinates import Numbers


@dataclass(frozen=True)
class Family(abc.ABC):
    """What the posterior needs to know about a law."""

    name: str

    @property
    @abc.abstractmethod
    def coordinates(self) -> tuple[str, ...]:
        """Names of the unconstrained shape coordinates."""

    @abc.abstractmethod
    def rate_of(
        self, log_r: Float[Array, ""], span: Float[Array, ""], shape: Float[Array, " shape"]
    ) -> Float[Array, ""]:
        """The rate at which the fraction `exp(log_r)` of the way remains after `span` epochs."""

    @abc.abstractmethod
    def build(self, numbers: Numbers, shape: Float[Array, " shape"]) -> AbstractLaw:
        """The law with these numbers."""

    @abc.abstractmethod
    def shape(self, shape: Float[Array, " shape"]) -> dict[str, Float[Array, ""]]:
        """The shape parameters by name."""

    @abc.abstractmethod
    def log_prior(self, shape: Float[Array, " shape"]) -> Float[Array, ""]:
        """Log-density of the prior on the shape coordinates."""


class ExponentialFamily(Family):
    """The paper's law; no shape parameter."""

    @property
    def coordinates(self) -> tuple[str, ...]:
        return ()

    def rate_of(
        self, log_r: Float[Array, ""], span: Float[Array, ""], shape: Float[Array, " shape"]
    ) -> Float[Array, ""]:
        return -log_r / span

    def build(self, numbers: Numbers, shape: Float[Array, " shape"]) -> AbstractLaw:
        return Exponential(
            numbers.solver0, numbers.verifier0, numbers.rate, numbers.rho, numbers.gap_limit
        )

    def shape(self, shape: Float[Array, " shape"]) -> dict[str, Float[Array, ""]]:
        return {}

    def log_prior(self, shape: Float[Array, " shape"]) -> Float[Array, ""]:
        return jnp.zeros(())


FAMILIES: dict[str, Family] = {"exponential": ExponentialFamily("exponential")}


def family_named(name: str) -> Family:
    """The family called `name`; `UserError` if there is none."""
    if name not in FAMILIES:
        raise UserError(f"unknown law {name!r}", hint=f"laws are: {', '.join(FAMILIES)}")
    return FAMILIES[name]
