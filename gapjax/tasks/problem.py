"""What a task is made of."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Problem:
    """A question, and the answer by which it is graded."""

    prompt: str
    answer: str


@dataclasses.dataclass(frozen=True)
class Splits:
    """Problems to learn from, problems to measure on, and the rest; no two overlap."""

    train: tuple[Problem, ...]
    probe: tuple[Problem, ...]
    rest: tuple[Problem, ...]
