"""From a recipe to its problems, and how their answers are graded and verified."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

from gapjax.errors import UserError
from gapjax.generation import stops_of
from gapjax.models import LoadedModel
from gapjax.paths import Path
from gapjax.selfimprove.recipe import Recipe
from gapjax.tasks import GRADING, Grading, Problem, Splits, arithmetic, deal, read_problems
from gapjax.verifiers import (
    AnswerFile,
    Endpoint,
    External,
    Likelihood,
    Quality,
    SelfConsistency,
    Source,
    TrueFalse,
    Verifier,
)
from gapjax.verifiers.grading import check_method

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
            test=task.test,
            seed=task.seed,
            template=task.template or "What is {a} + {b}?",
        )
    if task.file is None:
        raise UserError(f"the task {task.name} needs a JSONL file", where="task.file")
    grading = grading_of(recipe)
    train, held_out = (
        None
        if file is None
        else read_problems(
            Path(file),
            task.name,
            prompt_field=task.prompt_field,
            answer_field=task.answer_field,
            template=task.template or "{prompt}",
            grading=grading,
        )
        for file in (task.file, task.held_out_file)
    )
    assert train is not None
    if task.grading is not None and grading is not None:
        _need_answers(train, task.file, grading)
        _need_answers(held_out, task.held_out_file, grading)
    return deal(
        train, train=task.train, probe=task.probe, test=task.test, seed=task.seed, held_out=held_out
    )


def _need_answers(problems: Sequence[Problem] | None, file: str | None, grading: Grading) -> None:
    if problems is not None and all(problem.answer is None for problem in problems):
        raise UserError(
            f"none of its {len(problems)} problems has an answer, so that none can be graded by "
            f"task.grading {grading}",
            where=file,
            hint="name the field in task.answer_field, or set task.grading: none",
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


def make_external(recipe: Recipe, source: Source | None = None) -> External | None:
    """The stronger model of a recipe as a verifier; None if there is none.

    **Arguments:**

    - `source`: in place of the recipe's file or endpoint.

    **Raises:** `UserError` if it is needed and not there, or its file is faulty.
    """
    config = recipe.external
    source = source or make_source(recipe)
    if source is None:
        if config.examples or recipe.verifier.method == "external":
            raise UserError("a stronger model is needed: a file or an endpoint", where="external")
        return None
    method = grading_of(recipe) or "exact"
    task = recipe.task
    options = {"run_code": task.run_code, "site_packages": task.site_packages}
    return External(source, judge=config.judge, method=method, **options)


def make_source(recipe: Recipe, record: Path | None = None) -> Source | None:
    """The file or endpoint of a recipe's stronger model, if it has one.

    **Arguments:**

    - `record`: a file in which the endpoint's replies are kept, and looked up.

    **Raises:** `UserError` if the file cannot be read, or an endpoint lacks its model's name.
    """
    config = recipe.external
    if config.file is not None and config.endpoint is not None:
        raise UserError("has both a file and an endpoint", where="external")
    if config.file is not None:
        return AnswerFile.read(Path(config.file))
    if config.endpoint is None:
        return None
    if config.model is None:
        raise UserError("an endpoint needs the name of its model", where="external.model")
    return Endpoint(
        config.endpoint,
        config.model,
        key_variable=config.key_variable,
        concurrency=config.concurrency,
        timeout=config.timeout,
        options=config.options,
        record=record,
    )


def make_verifier(recipe: Recipe, external: External | None = None) -> Verifier:
    """The verifier of a recipe.

    **Arguments:**

    - `external`: what `make_external` made.
    """
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
            assert external is not None
            return external


def check(recipe: Recipe, loaded: LoadedModel) -> None:
    """Find now what would otherwise stop a run after its first answers were sampled.

    **Raises:** `UserError` if the model cannot be asked for verdicts, stopped by the recipe's
    texts, or taught where an answer ends, or a package is missing.
    """
    check_method(grading_of(recipe))
    stops = stops_of(loaded, recipe.sampling.stop)
    if recipe.verifier.cut_off == "reject" and not stops.tokens and stops.texts is None:
        raise UserError(
            "the model has no token that ends an answer, so that every answer is cut off",
            where=recipe.model,
            hint="set sampling.stop, or eos_token_id in its generation_config.json",
        )
    if recipe.external.examples and recipe.external.learn == "answer":
        loaded.ends.terminator()
    if recipe.verifier.method in ("true_false", "quality"):
        verifier = make_verifier(recipe)
        assert isinstance(verifier, TrueFalse | Quality)
        verifier.check(loaded)


def _asking(verifier: _Asking, recipe: Recipe) -> _Asking:
    config = recipe.verifier
    return dataclasses.replace(
        verifier,
        question=verifier.question if config.question is None else config.question,
        temperature=config.temperature,
        least_mass=config.least_mass,
        sequences_at_once=recipe.sampling.sequences_at_once,
    )
