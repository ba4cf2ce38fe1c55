"""What a task is made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np

from gapjax.errors import UserError

# How an answer is graded, see `gapjax.verifiers.grade`.
Grading = Literal["numeric", "exact", "math", "python"]

_HOLE = "{prompt}"


@dataclasses.dataclass(frozen=True)
class Problem:
    """A question, and the answer by which it is graded; without one it cannot be graded.

    For the grading `"python"` the answer is the code of the tests.
    """

    prompt: str
    answer: str | None = None
    # Which one it is, for people, as a file with a line; no part of what it is.
    where: str | None = dataclasses.field(default=None, compare=False)
    shortened_by: int = 0  # characters of its text that were left out, at the beginning

    def shortened(self, characters: int, template: str = "{prompt}") -> Problem:
        """The same without the first characters of its own text; the template stays whole.

        **Arguments:**

        - `template`: of which the prompt was made, with `{prompt}` for the problem's text.
        """
        text = self.text(template)[characters:]
        return dataclasses.replace(
            self,
            prompt=template.replace(_HOLE, text),
            shortened_by=self.shortened_by + characters,
        )

    def text(self, template: str = "{prompt}") -> str:
        """The prompt without the template, see `shortened`."""
        holes = template.count(_HOLE)
        own = (len(self.prompt) - len(template.replace(_HOLE, ""))) // holes
        begin = template.index(_HOLE)
        return self.prompt[begin : begin + own]


@dataclasses.dataclass(frozen=True)
class Splits:
    """Problems to learn from, to measure on, to keep for the end, and the rest.

    No two overlap, and no prompt occurs twice: both are checked whenever one is made.
    """

    train: tuple[Problem, ...]
    probe: tuple[Problem, ...]
    rest: tuple[Problem, ...] = ()
    test: tuple[Problem, ...] = ()

    def __post_init__(self) -> None:
        parts = (self.train, self.probe, self.test, self.rest)
        prompts = {problem.prompt.strip() for part in parts for problem in part}
        if len(prompts) != sum(map(len, parts)):
            raise ValueError("a prompt occurs twice in the splits of a task")


def deal(
    problems: Sequence[Problem],
    *,
    train: int,
    probe: int,
    test: int,
    seed: int,
    held_out: Sequence[Problem] | None = None,
) -> Splits:
    """Shuffle problems and deal them out, probe set and test set first.

    So these stay the same when one trains on more. Problems with the same prompt (but for
    white space at its ends) count once; the first one is kept.

    **Arguments:**

    - `train`, `probe`, `test`: number of problems.
    - `seed`: of the shuffling.
    - `held_out`: where to take probe and test set from instead; what is in there is never
        trained on.

    **Raises:** `UserError` if there are not that many distinct problems.
    """
    pool = _distinct(problems)
    if held_out is None:
        _enough(pool, train + probe + test, f"{train} + {probe} + {test} (train, probe, test)")
        shuffled = _shuffled(pool, seed)
        aside, pool = shuffled[: probe + test], shuffled[probe + test :]
    else:
        reserved = _distinct(held_out)
        _enough(reserved, probe + test, f"{probe} + {test} (probe, test) of the held-out file")
        aside = _shuffled(reserved, seed)[: probe + test]
        prompts = {problem.prompt.strip() for problem in reserved}
        pool = [problem for problem in pool if problem.prompt.strip() not in prompts]
        _enough(pool, train, f"{train} (train)")
        pool = _shuffled(pool, seed)
    return Splits(
        train=tuple(pool[:train]),
        probe=tuple(aside[:probe]),
        test=tuple(aside[probe:]),
        rest=tuple(pool[train:]),
    )


def _distinct(problems: Sequence[Problem]) -> list[Problem]:
    first: dict[str, Problem] = {}
    for problem in problems:
        first.setdefault(problem.prompt.strip(), problem)
    return list(first.values())


def _shuffled(problems: list[Problem], seed: int) -> list[Problem]:
    return [problems[i] for i in np.random.default_rng(seed).permutation(len(problems))]


def _enough(problems: list[Problem], wanted: int, what: str) -> None:
    if len(problems) < wanted:
        raise UserError(
            f"there are {len(problems)} distinct problems, fewer than the {what} asked for",
            where="task",
        )
