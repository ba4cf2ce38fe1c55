"""How solver and verifier uncertainty move: potentials, laws, and their equations."""

from gapjax.dynamics.laws import AbstractLaw, Exponential, Limit, Power, check_coefficients
from gapjax.dynamics.ode import GapSystem, Path, integrate
from gapjax.dynamics.potentials import (
    AbstractPotential,
    FunctionPotential,
    LinearPotential,
    PowerPotential,
)
from gapjax.dynamics.precision import float64_on_cpu

__all__ = [
    "AbstractLaw",
    "AbstractPotential",
    "Exponential",
    "FunctionPotential",
    "GapSystem",
    "Limit",
    "LinearPotential",
    "Path",
    "Power",
    "PowerPotential",
    "check_coefficients",
    "float64_on_cpu",
    "integrate",
]
