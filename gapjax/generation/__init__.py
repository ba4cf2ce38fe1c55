"""Sampling answers from a language model, and scoring given ones."""

from gapjax.generation.sampler import Samples, sample
from gapjax.generation.scoring import score, score_choices

__all__ = ["Samples", "sample", "score", "score_choices"]
