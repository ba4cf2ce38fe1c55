"""Sampled, graded and verified answers of a set of problems: one phase of a round."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from gapjax.generation import Samples, sample, stops_of
from gapjax.models import LoadedModel
from gapjax.parallel import in_shares
from gapjax.selfimprove.problems import grading_of
from gapjax.selfimprove.recipe import Recipe
from gapjax.selfimprove.select import best_of_n
from gapjax.tasks import Problem
from gapjax.verifiers import Grade, Verifier, decoded, grade_all

# What of a phase is in memory at once, at most: of rows, up to a hundred bytes a token.
_MOST_PROBLEMS = 512
_MOST_TOKENS = 2**20


@dataclasses.dataclass(frozen=True)
class Effort:
    """What a phase cost."""

    seconds: Mapping[str, float]  # by kind of work: "sample", "grade", "verify"
    tokens: int = 0  # sampled

    def __add__(self, other: Effort) -> Effort:
        seconds = dict(self.seconds)
        for kind, more in other.seconds.items():
            seconds[kind] = seconds.get(kind, 0.0) + more
        return Effort(seconds, self.tokens + other.tokens)


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """N answers of each of P problems in a few numbers each, without the answers.

    What is kept of a phase until it is summarised, however many problems it has.
    """

    uncertainties: Float[np.ndarray, "P N"]  # total, nats
    lengths: Int[np.ndarray, "P N"]  # tokens
    finished: Bool[np.ndarray, "P N"]  # False: cut off
    eligible: Bool[np.ndarray, "P N"]  # may be chosen: finished, unless the recipe takes any
    # Ground truth, for measurement and never for selection: "correct", "incorrect", "timeout",
    # "error", or "" for a problem without a known answer.
    grades: Shaped[np.ndarray, "P N"]
    scores: Float[np.ndarray, "P N"]  # the verifier's; NaN where it had no answer
    chosen: Int[np.ndarray, " P"]  # the selected candidate …
    fell_back: Bool[np.ndarray, " P"]  # … of the others, as none passed
    entropies: Float[np.ndarray, " P"]  # of the distribution of a problem's answers, nats

    @property
    def correct(self) -> Bool[np.ndarray, "P N"]:
        """Whether a candidate was found to be right."""
        return self.grades == "correct"

    @property
    def graded(self) -> Bool[np.ndarray, " P"]:
        """Whether a problem has a known answer."""
        return self.grades[:, 0] != ""

    def of_chosen(self, values: np.ndarray) -> np.ndarray:
        """`values[p, n]` of the selected candidates."""
        return values[np.arange(len(self.chosen)), self.chosen]

    @classmethod
    def joined(cls, parts: Sequence[Outcomes]) -> Outcomes:
        """Of all problems, from those of some of them."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclasses.dataclass(frozen=True)
class Candidates:
    """N answers of each of P problems with everything that is known about them."""

    problems: tuple[Problem, ...]
    samples: Samples
    texts: tuple[tuple[str, ...], ...]
    outcomes: Outcomes

    def records(self) -> list[dict[str, Any]]:
        """One JSON-able row a problem: every candidate, and which was chosen and why."""
        return [self._record(p) for p in range(len(self.problems))]

    def _record(self, p: int) -> dict[str, Any]:
        problem, outcomes = self.problems[p], self.outcomes
        fell_back = bool(outcomes.fell_back[p])
        why = "no candidate passed" if outcomes.eligible[p].any() else "no candidate ended"
        candidates = [
            {
                "text": text,
                "tokens": self.samples.answer(p, n),
                "logprob": round(-float(outcomes.uncertainties[p, n]), 6),
                "length": int(self.samples.lengths[p, n]),
                "finished": bool(self.samples.finished[p, n]),
                "score": _rounded(outcomes.scores[p, n]),
                "grade": str(outcomes.grades[p, n]) or None,
            }
            for n, text in enumerate(self.texts[p])
        ]
        return {
            "prompt": problem.prompt,
            "answer": problem.answer,
            **({"shortened_by": problem.shortened_by} if problem.shortened_by else {}),
            "chosen": int(outcomes.chosen[p]),
            "reason": "least uncertainty a token"
            + (f", {why}" if fell_back else " of those that passed"),
            "fell_back": fell_back,
            "candidates": candidates,
        }


def _rounded(score: float) -> float | None:
    return None if np.isnan(score) else round(float(score), 6)


def part_size(recipe: Recipe) -> int:
    """Problems that go through a phase together, so that its memory does not grow with them all.

    At least what the devices are given at once.
    """
    config = recipe.sampling
    few = min(_MOST_PROBLEMS, _MOST_TOKENS // (config.n * config.max_new_tokens))
    return max(few, config.sequences_at_once // config.n, 1)


def sample_answers(
    loaded: LoadedModel,
    problems: Sequence[Problem],
    recipe: Recipe,
    key: Key[Array, ""],
    *,
    first: int = 0,
) -> tuple[Samples, Effort]:
    """Sample N answers of each problem.

    **Arguments:**

    - `first`: index of the first problem, if these are a part of more.

    **Raises:** `UserError` if the model has no tokenizer, or a prompt does not fit.
    """
    config = recipe.sampling
    began = time.perf_counter()
    samples = sample(
        loaded.model,
        [loaded.prompt(problem.prompt) for problem in problems],
        key=key,
        n=config.n,
        max_new_tokens=config.max_new_tokens,
        stop=stops_of(loaded, config.stop),
        temperature=config.temperature,
        sequences_at_once=config.sequences_at_once,
        first=first,
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
    config = recipe.verifier
    eligible = samples.finished | (config.cut_off == "accept")
    selection = best_of_n(
        scores,
        samples.uncertainties,
        samples.lengths,
        threshold=config.threshold,
        eligible=eligible,
    )
    times.append(time.perf_counter())
    seconds = dict(zip(("grade", "verify"), np.diff(times).tolist(), strict=True))
    outcomes = Outcomes(
        uncertainties=samples.uncertainties,
        lengths=samples.lengths,
        finished=samples.finished,
        eligible=eligible,
        grades=grades,
        scores=scores,
        chosen=selection.index,
        fell_back=selection.fell_back,
        entropies=np.array([answer_entropy(row) for row in texts]),
    )
    return Candidates(tuple(problems), samples, texts, outcomes), Effort(seconds)


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


def answer_entropy(texts: Sequence[str]) -> float:
    """Entropy (nats) of the distribution of a problem's answers.

    Plug-in estimate from N samples, so at most log N. It falls when sampling sharpens,
    whether or not the answers get better.
    """
    counts = np.fromiter(Counter(text.strip() for text in texts).values(), float)
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum())


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
        task = recipe.task
        options = {"run_code": task.run_code, "site_packages": task.site_packages}
        return grade_all(texts, answers, method, **options)

    outcomes = in_shares(grade, list(places))
    for same, outcome in zip(places.values(), outcomes, strict=True):
        for place in same:
            grades[place] = outcome
    return grades
