"""The laws that can be fitted, by name."""

from __future__ import annotations

from gapjax.errors import UserError
from gapjax.posterior.base import AbstractModel
from gapjax.posterior.families import FAMILIES
from gapjax.posterior.model import Model, Noise
from gapjax.posterior.stochastic import StochasticModel

STOCHASTIC = "stochastic"
LAWS = (*FAMILIES, STOCHASTIC)


def model_named(law: str, noise: Noise | None = None) -> AbstractModel:
    """The model of the law called `law`, with its own noise unless `noise` is given.

    **Raises:** `UserError` if there is no such law, or if it does not take this noise.
    """
    if law not in LAWS:
        raise UserError(f"unknown law {law!r}", hint=f"laws are: {', '.join(LAWS)}")
    if law == STOCHASTIC:
        if noise is not None:
            raise UserError(f"law {law!r} brings its own noise", hint="leave `noise` out")
        return StochasticModel()
    return Model(FAMILIES[law], Noise() if noise is None else noise)
