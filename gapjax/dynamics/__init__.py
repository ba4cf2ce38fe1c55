"""How solver and verifier uncertainty move: potentials, laws, and their equations."""

from gapjax.dynamics.alternatives import CurvedCoupling, Persistence, TwoRate
from gapjax.dynamics.external import External, early, exponential_decay, external, late, uniform
from gapjax.dynamics.laws import AbstractLaw, Exponential, Limit, Power, check_coefficients
from gapjax.dynamics.ode import GapSystem, Path, integrate
from gapjax.dynamics.potentials import (
    AbstractPotential,
    FunctionPotential,
    LinearPotential,
    PowerPotential,
)
from gapjax.dynamics.precision import float64_on_cpu
from gapjax.dynamics.simulate import Simulation, simulate

__all__ = [
    "AbstractLaw",
    "AbstractPotential",
    "CurvedCoupling",
    "Exponential",
    "External",
    "FunctionPotential",
    "GapSystem",
    "Limit",
    "LinearPotential",
    "Path",
    "Persistence",
    "Power",
    "PowerPotential",
    "Simulation",
    "TwoRate",
    "check_coefficients",
    "early",
    "exponential_decay",
    "external",
    "float64_on_cpu",
    "integrate",
    "late",
    "simulate",
    "uniform",
]
