"""Verifiers: the model's own judgement, and the ground truth to measure it against."""

from gapjax.verifiers.base import Verifier
from gapjax.verifiers.grading import Grade, grade, grade_all
from gapjax.verifiers.self_score import Likelihood, TrueFalse

__all__ = ["Grade", "Likelihood", "TrueFalse", "Verifier", "grade", "grade_all"]
