"""Sampling answers from a language model, and scoring given ones."""

from gapjax.generation.choices import score_choices
from gapjax.generation.sampler import sample
from gapjax.generation.samples import Samples
from gapjax.generation.scoring import score
from gapjax.generation.stops import Stops, stops_of

__all__ = ["Samples", "Stops", "sample", "score", "score_choices", "stops_of"]
