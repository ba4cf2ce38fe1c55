"""How the prompts of a run are framed: system prompt, options of the chat template, and the day."""

from __future__ import annotations

import dataclasses
import datetime

from gapjax.errors import UserError
from gapjax.models import LoadedModel
from gapjax.models.templates import Framing, check_framing
from gapjax.paths import Path
from gapjax.selfimprove.recipe import Recipe, read_recipe


def framed(loaded: LoadedModel, recipe: Recipe) -> LoadedModel:
    """The model with the frame of a recipe's prompts.

    **Raises:** `UserError` if there is no tokenizer, or its chat template does not take the frame.
    """
    if loaded.tokenizer is None:
        raise UserError("the model has no tokenizer", where=recipe.model)
    task = recipe.task
    framing = Framing(task.system, task.template_options, task.date)
    check_framing(loaded.tokenizer, framing)
    return dataclasses.replace(loaded, framing=framing)


def dated(recipe: Recipe, folder: Path | None = None) -> Recipe:
    """The recipe with a day: its own, that of a run that goes on, or today.

    **Arguments:**

    - `folder`: of a run that goes on.
    """
    if recipe.task.date is not None:
        return recipe
    date: datetime.date | None = datetime.date.today()
    if folder is not None and (folder / "recipe.yaml").is_file():
        date = read_recipe(folder / "recipe.yaml").task.date  # None in those of gapjax 0.1
    return dataclasses.replace(recipe, task=dataclasses.replace(recipe.task, date=date))
