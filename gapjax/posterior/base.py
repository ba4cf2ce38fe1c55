"""What reports, forecasts and pictures need of a model, whatever it was sampled with."""

from __future__ import annotations

import abc
from typing import NamedTuple

from jaxtyping import Array, Float, Key

from gapjax.posterior.observations import Observations

# Measurements have finite precision: without a floor a noise-free curve has no posterior.
NOISE_FLOOR = 1e-5
FAR_PUSH = 0.25  # of the way that the law goes


class Replicate(NamedTuple):
    """A new measurement of the same checkpoints.

    - `law`: the noise-free law, from which residuals are taken.
    - `pair`: the measurements.
    """

    law: Float[Array, "time 2"]
    pair: Float[Array, "time 2"]


class AbstractModel(abc.ABC):
    """A law with its noise.  `x` is one draw; uncertainties are in units of the curve's scale."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """Name of the law."""

    @property
    @abc.abstractmethod
    def coordinates(self) -> tuple[str, ...]:
        """Names of the leading numbers of a draw, on which convergence is judged."""

    @property
    def bends(self) -> bool:
        """Whether the path in the phase plane may be curved."""
        return True

    @abc.abstractmethod
    def numbers(self, x: Float[Array, " x"], observed: Observations) -> dict[str, Float[Array, ""]]:
        """solver0, verifier0, rate, rho, the three limits, the noise, and the law's shape."""

    @abc.abstractmethod
    def path(
        self, x: Float[Array, " x"], observed: Observations, times: Float[Array, " time"]
    ) -> Float[Array, "time 2"]:
        """The pair without measurement noise, `times` in epochs since the first checkpoint.

        Beyond the last checkpoint: if nothing pushes the run any more.
        """

    @abc.abstractmethod
    def covered(self, x: Float[Array, " x"], observed: Observations) -> Float[Array, ""]:
        """Time constants covered, `−log D(T)`, which is `γT` under the exponential law."""

    @abc.abstractmethod
    def time_to_cover(
        self, x: Float[Array, " x"], observed: Observations, depth: float
    ) -> Float[Array, ""]:
        """Epochs after which `depth` time constants are covered."""

    @abc.abstractmethod
    def unrest(self, x: Float[Array, " x"], observed: Observations) -> Float[Array, ""]:
        """Probability that over another span pushes move the limit by `FAR_PUSH` of the way."""

    @abc.abstractmethod
    def log_likelihood(
        self, x: Float[Array, " x"], observed: Observations
    ) -> Float[Array, " time"]:
        """Log-density of each checkpoint's pair, given the earlier ones if that matters."""

    @abc.abstractmethod
    def replicate(
        self, x: Float[Array, " x"], observed: Observations, key: Key[Array, ""]
    ) -> Replicate:
        """Measure the same checkpoints of a run with the same numbers anew."""

    @abc.abstractmethod
    def from_prior(
        self, observed: Observations, key: Key[Array, ""]
    ) -> tuple[dict[str, Float[Array, ""]], Float[Array, "time 2"]]:
        """`numbers` drawn from the prior, and a measurement of the checkpoints under them."""

    @abc.abstractmethod
    def predict(
        self,
        x: Float[Array, " x"],
        observed: Observations,
        times: Float[Array, " time"],
        key: Key[Array, ""],
    ) -> Float[Array, "time 2"]:
        """A random future measurement at `times` beyond the last checkpoint."""
