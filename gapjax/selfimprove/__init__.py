"""The self-improvement loop."""

from gapjax.selfimprove.recipe import Recipe, parse_recipe, read_recipe
from gapjax.selfimprove.rounds import (
    Finished,
    Judged,
    Measured,
    Selected,
    Snapshot,
    Start,
    Trained,
    self_improve,
)

__all__ = [
    "Finished",
    "Judged",
    "Measured",
    "Recipe",
    "Selected",
    "Snapshot",
    "Start",
    "Trained",
    "parse_recipe",
    "read_recipe",
    "self_improve",
]
