"""Another, stronger model: its answers to prompts, and its scores of responses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from gapjax.errors import UserError
from gapjax.parallel import from_first
from gapjax.paths import Path
from gapjax.tasks.jsonl import read_rows


class Source(Protocol):
    """What a stronger model says, wherever it is kept or asked."""

    def answers(self, prompts: Sequence[str]) -> list[str | None]:
        """Its answer to each prompt; None where it gave none that can be used."""
        ...

    def scores(self, pairs: Sequence[tuple[str, str]]) -> list[float | None]:
        """Its scores, in [0, 1], of pairs of a prompt and a response; None where it gave none."""
        ...


class Replies:
    """The known replies of a model; white space at the ends of texts does not count.

    - `answers`: by prompt; `scores`: by prompt and response. None: asked in vain.
    """

    def __init__(self) -> None:
        self.answers: dict[str, str | None] = {}
        self.scores: dict[tuple[str, str], float | None] = {}

    def add(self, row: Mapping[str, Any], *, where: object = None) -> None:
        """Take in a line: `prompt` and `answer`, or `prompt`, `response` and `score`.

        An answer whose `finish_reason` is `length` was cut off, and is none. The later of two
        lines about the same holds.

        **Raises:** `UserError` if it is neither.
        """
        prompt, answer, response = (row.get(name) for name in ("prompt", "answer", "response"))
        if isinstance(prompt, str):
            if response is None and "answer" in row and isinstance(answer, str | None):
                # As the chat protocol says it. Half an answer is none.
                cut_off = row.get("finish_reason") == "length"
                self.answers[prompt.strip()] = None if cut_off else answer
                return
            if answer is None and isinstance(response, str):
                self.scores[prompt.strip(), response.strip()] = _score(row, where)
                return
        raise UserError(
            "needs texts `prompt` and `answer`, or `prompt`, `response` and a score", where=where
        )

    def mention(self, prompt: str, response: str) -> bool:
        """Whether there is a line about a candidate or its problem."""
        return self.rated(prompt, response) or prompt.strip() in self.answers

    def rated(self, prompt: str, response: str) -> bool:
        """Whether there is a line with a score of a response, be it null."""
        return (prompt.strip(), response.strip()) in self.scores


@dataclasses.dataclass(frozen=True)
class AnswerFile:
    """A source that was written down: one JSON object a line, see `Replies.add`.

    - `path`: what complaints name.
    - `recorded`: every line says which `model` it is from, as in an endpoint's record. Such a
        file answers like the endpoint did; any other is expected to be complete.
    """

    path: Path
    replies: Replies = dataclasses.field(repr=False)
    recorded: bool = False

    @classmethod
    def read(cls, path: Path) -> AnswerFile:
        """Read a file. **Raises:** `UserError` that names the line."""
        replies = Replies()
        rows = read_rows(path)
        for number, row in rows:
            replies.add(row, where=f"{path}, line {number}")
        return cls(path, replies, recorded=all("model" in row for _, row in rows))

    def answers(self, prompts: Sequence[str]) -> list[str | None]:
        return [self.replies.answers.get(prompt.strip()) for prompt in prompts]

    def scores(self, pairs: Sequence[tuple[str, str]]) -> list[float | None]:
        return [
            self.replies.scores.get((prompt.strip(), response.strip()))
            for prompt, response in pairs
        ]


@dataclasses.dataclass(frozen=True)
class AskedByOne:
    """A source that the first of a run's processes asks for all of them.

    Many would not be faster: the server and `concurrency` set the pace, and there is one record.
    """

    source: Source

    def answers(self, prompts: Sequence[str]) -> list[str | None]:
        return from_first(lambda: self.source.answers(prompts))

    def scores(self, pairs: Sequence[tuple[str, str]]) -> list[float | None]:
        return from_first(lambda: self.source.scores(pairs))


def _score(row: Mapping[str, Any], where: object) -> float | None:
    if "score" not in row:
        raise UserError("the response has no score", where=where)
    score = row["score"]
    if score is None:
        return None
    if isinstance(score, bool) or not isinstance(score, int | float):
        raise UserError(f"score {score!r} is not a number", where=where)
    if not 0 <= score <= 1:
        raise UserError(f"score {score} is not in [0, 1]", where=where)
    return float(score)
