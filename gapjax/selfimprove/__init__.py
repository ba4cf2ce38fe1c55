"""The self-improvement loop."""

from gapjax.selfimprove.events import (
    Event,
    FinalTest,
    Finished,
    Judged,
    Measured,
    Sampled,
    Selected,
    Snapshot,
    Trained,
)
from gapjax.selfimprove.recipe import Recipe, parse_recipe, read_recipe
from gapjax.selfimprove.rounds import Preempted, Start, self_improve

__all__ = [
    "Event",
    "FinalTest",
    "Finished",
    "Judged",
    "Measured",
    "Preempted",
    "Recipe",
    "Sampled",
    "Selected",
    "Snapshot",
    "Start",
    "Trained",
    "parse_recipe",
    "read_recipe",
    "self_improve",
]
