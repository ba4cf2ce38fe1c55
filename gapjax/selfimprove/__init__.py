"""The self-improvement loop."""

from gapjax.selfimprove.recipe import Recipe, parse_recipe, read_recipe
from gapjax.selfimprove.rounds import Measured, Selected, Trained, self_improve

__all__ = [
    "Measured",
    "Recipe",
    "Selected",
    "Trained",
    "parse_recipe",
    "read_recipe",
    "self_improve",
]
