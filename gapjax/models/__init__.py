"""Language models in Flax NNX, from and to the checkpoints people have."""

from gapjax.models.config import DecoderConfig
from gapjax.models.load import LoadedModel, load, save
from gapjax.models.transformer import Transformer

__all__ = ["DecoderConfig", "LoadedModel", "Transformer", "load", "save"]
