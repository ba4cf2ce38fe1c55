"""The self-improvement loop."""

from gapjax.selfimprove.events import (
    Event,
    FinalTest,
    Finished,
    Judged,
    Measured,
    Overlong,
    Sampled,
    Selected,
    Snapshot,
    Trained,
    Verified,
)
from gapjax.selfimprove.recipe import Recipe, parse_recipe, read_recipe
from gapjax.selfimprove.rounds import Preempted, self_improve
from gapjax.selfimprove.start import Kept, Start

__all__ = [
    "Event",
    "FinalTest",
    "Finished",
    "Judged",
    "Kept",
    "Measured",
    "Overlong",
    "Preempted",
    "Recipe",
    "Sampled",
    "Selected",
    "Snapshot",
    "Start",
    "Trained",
    "Verified",
    "parse_recipe",
    "read_recipe",
    "self_improve",
]
