"""From a recipe to its problems, and how their answers are graded and verified."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TypeVar

from gapjax.errors import UserError
from gapjax.selfimprove.recipe import Recipe
from gapjax.tasks import GRADING, Grading, Splits, arithmetic, deal, read_problems
from gapjax.verifiers import (
    AnswerFile,
    External,
    Likelihood,
    Quality,
    SelfConsistency,
    TrueFalse,
    Verifier,
)

_Asking = TypeVar("_Asking", TrueFalse, Quality)


def make_splits(recipe: Recipe) -> Splits:
    """The problems of a recipe.

    **Raises:** `UserError` if there are not that many, or a file cannot be read.
    """
    task = recipe.task
    if task.name == "arithmetic":
        return arithmetic(
            digits=task.digits,
            train=task.train,
            probe=task.probe,
            seed=task.seed,
            template=task.template or "What is {a} + {b}?",
        )
    if task.file is None:
        raise UserError(f"the task {task.name} needs a JSONL file", where="task.file")
    train, held_out = (
        None
        if file is None
        else read_problems(
            Path(file),
            task.name,
            prompt_field=task.prompt_field,
            answer_field=task.answer_field,
            template=task.template or "{prompt}",
        )
        for file in (task.file, task.held_out_file)
    )
    assert train is not None
    return deal(
        train, train=task.train, probe=task.probe, test=0, seed=task.seed, held_out=held_out
    )


def grading_of(recipe: Recipe) -> Grading | None:
    """How answers are graded; None where they are not."""
    task = recipe.task
    if task.grading == "none":
        return None
    method = task.grading
    if method is None:
        method = "numeric" if task.name == "arithmetic" else GRADING[task.name]
    if method == "python" and not task.run_code:
        return None
    return method


def make_verifier(recipe: Recipe) -> Verifier:
    """The verifier of a recipe. **Raises:** `UserError` if its file is missing or faulty."""
    config = recipe.verifier
    if config.question is not None and config.method not in ("true_false", "quality"):
        raise UserError(f"{config.method} asks no question", where="verifier.question")
    match config.method:
        case "likelihood":
            return Likelihood()
        case "true_false":
            return _asking(TrueFalse(), recipe)
        case "quality":
            return _asking(Quality(), recipe)
        case "self_consistency":
            return SelfConsistency(method=grading_of(recipe) or "exact")
        case "external":
            if config.file is None:
                raise UserError("the external verifier needs a JSONL file", where="verifier.file")
            return External(
                AnswerFile.read(Path(config.file)),
                method=grading_of(recipe) or "exact",
                run_code=recipe.task.run_code,
            )


def _asking(verifier: _Asking, recipe: Recipe) -> _Asking:
    config = recipe.verifier
    return dataclasses.replace(
        verifier,
        question=verifier.question if config.question is None else config.question,
        temperature=config.temperature,
        sequences_at_once=recipe.sampling.sequences_at_once,
    )
