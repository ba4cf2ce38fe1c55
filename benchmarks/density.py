"""The default posterior's density, written out a second time and for several libraries."""

from __future__ import annotations

from typing import Any

import numpy as np

# What `log_density` asks of the module it is given.
OPERATIONS = ("exp", "expm1", "log", "log1p", "logaddexp", "maximum", "minimum", "sum")


def log_density(x: Any, times: Any, solver: Any, verifier: Any, span: Any, xp: Any) -> Any:
    """The posterior's log-density at coordinates `x`, with the operations of `xp`.

    Priors, coordinates and Jacobian are those that `gapjax.posterior.model` and
    `gapjax.posterior.coordinates` describe; no code is shared with them.
    """

    def softplus(value: Any) -> Any:
        return xp.logaddexp(0.0, value)

    def log_normal(value: Any, mean: float, sd: float) -> Any:
        return normal(xp.log(value), mean, sd) - xp.log(value)

    def normal(value: Any, mean: Any, sd: Any) -> Any:
        return -0.5 * ((value - mean) / sd) ** 2 - xp.log(sd) - 0.5 * np.log(2 * np.pi)

    log_first, log_last, excess, log_verifier, logit_w, log_noise = (x[i] for i in range(6))
    first, last, start = xp.exp(log_first), xp.exp(log_last), xp.exp(log_verifier)

    def log_largest_rho(way: Any) -> Any:
        return xp.minimum(0.0, log_verifier - xp.log(xp.maximum(way, 1e-12)))

    log_rho = -softplus(-logit_w) + log_largest_rho(first - last)
    rho = xp.exp(log_rho)
    verifier_ratio = xp.log1p(-rho * (first - last) / start)
    bound = xp.minimum(0.0, xp.minimum(log_last - log_first, verifier_ratio))
    log_1p = 0.1 * softplus(excess / 0.1)
    log_r = bound - xp.expm1(log_1p)
    rate = -log_r / span
    lost = -xp.expm1(log_r)
    limit = (last - xp.exp(log_r) * first) / lost
    way = first - limit
    log_jacobian = (
        (log_first + log_verifier)
        + (log_last - xp.log(lost))
        + (log_1p - softplus(-excess / 0.1) - xp.log(span))
        + (log_rho - softplus(logit_w))
    )
    prior = (
        log_normal(first, 0.0, 0.5)
        + log_normal(start, np.log(0.5), 1.0)
        + (np.log(2.0) + normal(limit, 0.0, 1.0))
        + log_normal(rate, np.log(0.5), 1.0)
        - log_largest_rho(way)
        + normal(log_noise, np.log(0.02), 1.5)
    )
    done = 1 - xp.exp(-rate * times)
    sd = xp.exp(log_noise) + 1e-5
    likelihood = normal(solver, first - way * done, sd) + normal(
        verifier, start - rho * way * done, sd
    )
    return prior + log_jacobian + xp.sum(likelihood)
