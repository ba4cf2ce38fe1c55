"""The NumPyro model: priors, law and noise.

All uncertainties are in units of the curve's scale (a robust `U_s(0)`), and times in units of
two checkpoints, so one set of priors serves per-token and total uncertainties, epochs and
steps alike:

    U_s0 ~ LogNormal(0, 0.5)      U_v0 ~ LogNormal(log 0.5, 1)     U_s∞ ~ HalfNormal(1)
    γ ~ LogNormal(log 0.5, 1) per unit      ρ ~ Uniform(0, ρ_max)
    σ ~ LogNormal(log 0.02, 1.5)

where `ρ_max ≤ 1` is the largest value that leaves `U_v∞` positive.  None of them mentions
how long the curve is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Float, Key

from gapjax.dynamics.laws import AbstractApproach
from gapjax.posterior.base import NOISE_FLOOR, AbstractModel, Replicate
from gapjax.posterior.coordinates import BASE_COORDINATES, Numbers, to_numbers
from gapjax.posterior.families import Family
from gapjax.posterior.observations import Observations

# Of U_s0, U_v0, U_s∞ and γ; see above.
_PRIORS = (
    dist.LogNormal(0.0, 0.5),
    dist.LogNormal(np.log(0.5), 1.0),
    dist.HalfNormal(1.0),
    dist.LogNormal(np.log(0.5), 1.0),
)
_LOG_NOISE = dist.Normal(np.log(0.02), 1.5)


@dataclass(frozen=True)
class Noise:
    """How the measured pair `(U_s, U_v)` scatters around the law.

    - `correlated`: one scale for each series and a correlation between them.  The default
      is one scale for both and no correlation: its maximum likelihood is the least-squares
      fit of the paper.  (Where the law is only roughly right, free scales let the better
      series explain away the other, and on the published curves the fit then sits on one
      series alone.)
    - `degrees_of_freedom`: of a Student-t, for curves with outliers; `None` is Gaussian.
    """

    correlated: bool = False
    degrees_of_freedom: float | None = None

    @property
    def coordinates(self) -> tuple[str, ...]:
        pair = ("log_verifier_noise", "atanh_correlation") if self.correlated else ()
        return ("log_noise", *pair)


@dataclass(frozen=True)
class Model(AbstractModel):
    """A family of laws together with independent noise at each checkpoint."""

    family: Family
    noise: Noise = Noise()

    @property
    def name(self) -> str:
        return self.family.name

    @property
    def bends(self) -> bool:
        return self.family.bends

    @property
    def coordinates(self) -> tuple[str, ...]:
        """Names of the coordinates in which the posterior is sampled."""
        return (*BASE_COORDINATES, *self.family.coordinates, *self.noise.coordinates)

    def split(
        self, x: Float[Array, " coordinates"]
    ) -> tuple[Float[Array, " numbers"], Float[Array, " shape"], Float[Array, " noise"]]:
        """The coordinates of the numbers, of the law's shape, and of the noise."""
        n = len(BASE_COORDINATES)
        m = n + len(self.family.coordinates)
        return x[:n], x[n:m], x[m:]

    def law(
        self, x: Float[Array, " coordinates"], span: Float[Array, ""]
    ) -> tuple[AbstractApproach, Numbers, Float[Array, ""]]:
        """The law at coordinates `x`, its numbers, and the log-Jacobian of the latter."""
        base, shape, _ = self.split(x)
        numbers, log_det = to_numbers(
            base, lambda log_r, rho: self.family.rate_of(log_r, rho, span, shape)
        )
        return self.family.build(numbers, shape), numbers, log_det

    def noise_scale(self, x: Float[Array, " coordinates"]) -> Float[Array, "pair pair"]:
        """The lower Cholesky factor of the noise of the pair."""
        _, _, noise = self.split(x)
        if not self.noise.correlated:
            return (jnp.exp(noise[0]) + NOISE_FLOOR) * jnp.eye(2)
        first, second = jnp.exp(noise[:2]) + NOISE_FLOOR
        c = jnp.tanh(noise[2])
        return jnp.array([[first, 0.0], [second * c, second * jnp.sqrt(1 - c**2)]])

    def prior(self, x: Float[Array, " coordinates"], numbers: Numbers) -> Float[Array, ""]:
        """Log-density of the priors on the numbers, the law's shape and the noise."""
        _, shape, noise = self.split(x)
        solver0, verifier0, solver_limit, rate = _PRIORS
        log_prior = (
            solver0.log_prob(numbers.solver0)
            + verifier0.log_prob(numbers.verifier0)
            + solver_limit.log_prob(numbers.solver_limit)
            + rate.log_prob(numbers.rate)
            - numbers.log_largest_rho
            + self.family.log_prior(shape)
            + _LOG_NOISE.log_prob(noise[0])
        )
        if self.noise.correlated:
            # The two scales are alike within a factor of e; the correlation is near uniform.
            log_prior += dist.Normal(noise[0], 1.0).log_prob(noise[1])
            log_prior += dist.Normal(0.0, 1.0).log_prob(noise[2])
        return log_prior

    def __call__(self, observed: Observations, centre: Any, root: Any) -> None:
        """The model as NumPyro runs it, in coordinates `x = centre + root @ position`.

        `centre` and `root` are the least-squares fit and its covariance root: they only
        give the sampler a round target, the posterior does not depend on them.
        """
        size = len(self.coordinates)
        position = numpyro.sample(
            "position", dist.ImproperUniform(dist.constraints.real_vector, (), (size,))
        )
        x = numpyro.deterministic("x", centre + root @ position)
        law, numbers, log_det = self.law(x, observed.span)
        numpyro.factor("prior", self.prior(x, numbers) + log_det)
        log_likelihood = self._log_likelihood(law, x, observed)
        numpyro.factor("pair", jnp.sum(jnp.where(observed.mask, log_likelihood, 0.0)))

    def likelihood(
        self, mean: Float[Array, "*batch 2"], scale: Float[Array, "pair pair"]
    ) -> dist.Distribution:
        """The distribution of the measured pair around `mean`."""
        df = self.noise.degrees_of_freedom
        if df is not None:
            return dist.MultivariateStudentT(df, mean, scale)
        return dist.MultivariateNormal(mean, scale_tril=scale)

    def _log_likelihood(
        self, law: AbstractApproach, x: Float[Array, " coordinates"], observed: Observations
    ) -> Float[Array, " time"]:
        mean = _pair(law, observed.times)
        return self.likelihood(mean, self.noise_scale(x)).log_prob(observed.pair)

    def log_likelihood(
        self, x: Float[Array, " coordinates"], observed: Observations
    ) -> Float[Array, " time"]:
        return self._log_likelihood(self.law(x, observed.span)[0], x, observed)

    def numbers(
        self, x: Float[Array, " coordinates"], observed: Observations
    ) -> dict[str, Float[Array, ""]]:
        law, numbers, _ = self.law(x, observed.span)
        return self._named(law, numbers, x)

    def _named(
        self, law: AbstractApproach, numbers: Numbers, x: Float[Array, " coordinates"]
    ) -> dict[str, Float[Array, ""]]:
        scale, limit = self.noise_scale(x), law.limit
        return {
            "solver0": numbers.solver0,
            "verifier0": numbers.verifier0,
            "rate": numbers.rate,
            "rho": numbers.rho,
            "solver_limit": limit.solver,
            "verifier_limit": limit.verifier,
            "gap_limit": limit.gap,
            "solver_noise": scale[0, 0],
            "verifier_noise": jnp.hypot(scale[1, 0], scale[1, 1]),
            **self.family.shape(self.split(x)[1]),
        }

    def path(
        self,
        x: Float[Array, " coordinates"],
        observed: Observations,
        times: Float[Array, " time"],
    ) -> Float[Array, "time 2"]:
        return _pair(self.law(x, observed.span)[0], times)

    def covered(self, x: Float[Array, " coordinates"], observed: Observations) -> Float[Array, ""]:
        law, _, _ = self.law(x, observed.span)
        return -jnp.log(law.remaining(observed.span))

    def time_to_cover(
        self, x: Float[Array, " coordinates"], observed: Observations, depth: float
    ) -> Float[Array, ""]:
        law, _, _ = self.law(x, observed.span)
        return law.time_to_remaining(jnp.exp(-depth))

    def unrest(self, x: Float[Array, " coordinates"], observed: Observations) -> Float[Array, ""]:
        return jnp.zeros(())  # nothing pushes a law

    def replicate(
        self, x: Float[Array, " coordinates"], observed: Observations, key: Key[Array, ""]
    ) -> Replicate:
        law = self.path(x, observed, observed.times)
        return Replicate(law, self.likelihood(law, self.noise_scale(x)).sample(key))

    def from_prior(
        self, observed: Observations, key: Key[Array, ""]
    ) -> tuple[dict[str, Float[Array, ""]], Float[Array, "time 2"]]:
        keys = jax.random.split(key, 8)
        solver0, verifier0, limit, rate = (
            prior.sample(k) for prior, k in zip(_PRIORS, keys[:4], strict=True)
        )
        start = Numbers(solver0, verifier0, limit, rate, jnp.ones(()))
        rho = jax.random.uniform(keys[4]) * jnp.exp(start.log_largest_rho)
        numbers = start._replace(rho=rho)
        shape = self.family.from_prior(keys[5])
        noise = self._noise_prior(keys[6])
        x = jnp.concatenate([jnp.zeros(len(BASE_COORDINATES)), shape, noise])
        law = self.family.build(numbers, shape)
        pair = self.likelihood(_pair(law, observed.times), self.noise_scale(x)).sample(keys[7])
        return self._named(law, numbers, x), pair

    def _noise_prior(self, key: Key[Array, ""]) -> Float[Array, " noise"]:
        first, second, correlation = jax.random.normal(key, (3,))
        log_noise = _LOG_NOISE.loc + _LOG_NOISE.scale * first
        if not self.noise.correlated:
            return log_noise[None]
        return jnp.stack([log_noise, log_noise + second, correlation])

    def predict(
        self,
        x: Float[Array, " coordinates"],
        observed: Observations,
        times: Float[Array, " time"],
        key: Key[Array, ""],
    ) -> Float[Array, "time 2"]:
        mean = self.path(x, observed, times)
        return self.likelihood(mean, self.noise_scale(x)).sample(key)


def _pair(law: AbstractApproach, times: Float[Array, " time"]) -> Float[Array, "time 2"]:
    return jnp.stack([law.solver(times), law.verifier(times)], axis=-1)
