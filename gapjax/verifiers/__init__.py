"""Verifiers: the model's own judgement, another's, and the ground truth to measure against."""

from gapjax.verifiers.base import Verifier, decoded
from gapjax.verifiers.consistency import SelfConsistency
from gapjax.verifiers.endpoint import Endpoint
from gapjax.verifiers.external import External
from gapjax.verifiers.grading import Grade, grade, grade_all
from gapjax.verifiers.self_score import Likelihood, Quality, TrueFalse
from gapjax.verifiers.sources import AnswerFile, AskedByOne, Source

__all__ = [
    "AnswerFile",
    "AskedByOne",
    "Endpoint",
    "External",
    "Grade",
    "Likelihood",
    "Quality",
    "SelfConsistency",
    "Source",
    "TrueFalse",
    "Verifier",
    "decoded",
    "grade",
    "grade_all",
]
