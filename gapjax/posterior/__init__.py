"""What a trajectory says about where its run is heading."""

from gapjax.posterior.catalogue import LAWS
from gapjax.posterior.fit import fit
from gapjax.posterior.model import Noise
from gapjax.posterior.result import CurveFit, Fit, Quantiles
from gapjax.posterior.verdict import Diagnostics, Verdict

__all__ = ["LAWS", "CurveFit", "Diagnostics", "Fit", "Noise", "Quantiles", "Verdict", "fit"]
