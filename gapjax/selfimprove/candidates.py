"""Sampled, graded and verified answers of a set of problems: one phase of a round."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Float, Key, Shaped

from gapjax.errors import UserError
from gapjax.generation import Samples, sample
from gapjax.models import LoadedModel
from gapjax.models.prompts import encode_prompt, stop_tokens
from gapjax.parallel import in_shares
from gapjax.selfimprove.problems import grading_of
from gapjax.selfimprove.recipe import Recipe
from gapjax.selfimprove.select import Selection, best_of_n
from gapjax.tasks import Problem
from gapjax.verifiers import Grade, Verifier, decoded, grade_all


@dataclasses.dataclass(frozen=True)
class Effort:
    """What a phase cost."""

    seconds: Mapping[str, float]  # by kind of work: "sample", "grade", "verify"
    tokens: int = 0  # sampled

    def __add__(self, other: Effort) -> Effort:
        return Effort({**self.seconds, **other.seconds}, self.tokens + other.tokens)


@dataclasses.dataclass(frozen=True)
class Candidates:
    """N answers of each of P problems with everything that is known about them."""

    problems: tuple[Problem, ...]
    samples: Samples
    texts: tuple[tuple[str, ...], ...]
    # Ground truth, for measurement and never for selection: "correct", "incorrect", "timeout",
    # "error", or "" for a problem without a known answer.
    grades: Shaped[np.ndarray, "P N"]
    scores: Float[np.ndarray, "P N"]  # the verifier's; NaN where it had no answer
    selection: Selection

    @property
    def correct(self) -> Bool[np.ndarray, "P N"]:
        """Whether a candidate was found to be right."""
        return self.grades == "correct"

    @property
    def graded(self) -> Bool[np.ndarray, " P"]:
        """Whether a problem has a known answer."""
        return self.grades[:, 0] != ""

    def chosen(self, values: np.ndarray) -> np.ndarray:
        """`values[p, n]` of the selected candidates."""
        return values[np.arange(len(self.problems)), self.selection.index]

    def records(self) -> list[dict[str, Any]]:
        """One JSON-able row a problem: every candidate, and which was chosen and why."""
        return [self._record(p) for p in range(len(self.problems))]

    def _record(self, p: int) -> dict[str, Any]:
        problem = self.problems[p]
        fell_back = bool(self.selection.fell_back[p])
        uncertainties = self.samples.uncertainties[p]
        candidates = [
            {
                "text": text,
                "tokens": self.samples.answer(p, n),
                "logprob": round(-float(uncertainties[n]), 6),
                "length": int(self.samples.lengths[p, n]),
                "finished": bool(self.samples.finished[p, n]),
                "score": _rounded(self.scores[p, n]),
                "grade": str(self.grades[p, n]) or None,
            }
            for n, text in enumerate(self.texts[p])
        ]
        return {
            "prompt": problem.prompt,
            "answer": problem.answer,
            "chosen": int(self.selection.index[p]),
            "reason": "least uncertainty a token"
            + (", no candidate passed" if fell_back else " of those that passed"),
            "fell_back": fell_back,
            "candidates": candidates,
        }


def _rounded(score: float) -> float | None:
    return None if np.isnan(score) else round(float(score), 6)


def sample_answers(
    loaded: LoadedModel, problems: Sequence[Problem], recipe: Recipe, key: Key[Array, ""]
) -> tuple[Samples, Effort]:
    """Sample N answers of each problem.

    **Raises:** `UserError` if the model has no tokenizer, or a prompt does not fit.
    """
    tokenizer = loaded.tokenizer
    if tokenizer is None:
        raise UserError("the model has no tokenizer", where=recipe.model)
    config = recipe.sampling
    began = time.perf_counter()
    samples = sample(
        loaded.model,
        [encode_prompt(tokenizer, problem.prompt) for problem in problems],
        key=key,
        n=config.n,
        max_new_tokens=config.max_new_tokens,
        stop=stop_tokens(tokenizer, config.stop, loaded.generation_config),
        temperature=config.temperature,
        sequences_at_once=config.sequences_at_once,
    )
    seconds = {"sample": time.perf_counter() - began}
    return samples, Effort(seconds, int(samples.lengths.sum()))


def verify_answers(
    loaded: LoadedModel,
    problems: Sequence[Problem],
    samples: Samples,
    recipe: Recipe,
    verifier: Verifier,
) -> tuple[Candidates, Effort]:
    """Grade sampled answers, verify them and choose the best of each problem.

    **Raises:** `UserError` if the verifier left more than half of them without a score.
    """
    times = [time.perf_counter()]
    texts = decoded(loaded, samples)
    grades = _grades(texts, problems, recipe)
    times.append(time.perf_counter())
    scores = verifier(loaded, problems, samples)
    selection = best_of_n(
        scores, samples.uncertainties, samples.lengths, threshold=recipe.verifier.threshold
    )
    times.append(time.perf_counter())
    seconds = dict(zip(("grade", "verify"), np.diff(times).tolist(), strict=True))
    return Candidates(tuple(problems), samples, texts, grades, scores, selection), Effort(seconds)


def make_candidates(
    loaded: LoadedModel,
    problems: Sequence[Problem],
    recipe: Recipe,
    verifier: Verifier,
    key: Key[Array, ""],
) -> Candidates:
    """`sample_answers`, then `verify_answers`."""
    samples, _ = sample_answers(loaded, problems, recipe, key)
    return verify_answers(loaded, problems, samples, recipe, verifier)[0]


def _grades(
    texts: Sequence[Sequence[str]], problems: Sequence[Problem], recipe: Recipe
) -> Shaped[np.ndarray, "P N"]:
    grades = np.full((len(problems), len(texts[0])), "", dtype="<U9")
    method = grading_of(recipe)
    if method is None:
        return grades
    # Equal answers to one problem are graded once: after some training most of them are equal.
    places: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for p, problem in enumerate(problems):
        for n, text in enumerate(texts[p]):
            if problem.answer is not None:
                places.setdefault((text, problem.answer), []).append((p, n))

    def grade(pairs: Sequence[tuple[str, str]]) -> list[Grade]:
        texts, answers = zip(*pairs, strict=True)
        return grade_all(texts, answers, method, run_code=recipe.task.run_code)

    outcomes = in_shares(grade, list(places))
    for same, outcome in zip(places.values(), outcomes, strict=True):
        for place in same:
            grades[place] = outcome
    return grades
