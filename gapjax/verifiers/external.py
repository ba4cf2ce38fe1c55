"""Another model's judgement, from a JSONL file.

A line holds the `prompt` and either an `answer` that a stronger model gave to it, with which
candidates have to agree, or a `response` and its `score` in [0, 1].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from gapjax.errors import UserError
from gapjax.generation import Samples
from gapjax.models import LoadedModel
from gapjax.tasks import Grading, Problem
from gapjax.tasks.jsonl import read_rows
from gapjax.verifiers.base import decoded
from gapjax.verifiers.grading import grade_all


@dataclasses.dataclass(frozen=True, kw_only=True)
class External:
    """The score is the file's, or else whether the candidate agrees with the file's answer.

    - `answers`: by prompt; `scores`: by prompt and response.
    - `method`: how candidates are compared with answers, see `gapjax.verifiers.grade`.
    - `file`: what complaints name.

    White space at the ends of prompts and responses does not count. Calling it raises
    `UserError` if the file says nothing about a candidate, or a comparison with its answer
    fails: neither is a score of 0.
    """

    answers: Mapping[str, str]
    scores: Mapping[tuple[str, str], float]
    method: Grading = "numeric"
    run_code: bool = False
    file: object = None

    @classmethod
    def read(cls, path: Path, *, method: Grading = "numeric", run_code: bool = False) -> External:
        """Read a file. **Raises:** `UserError` that names the line."""
        answers: dict[str, str] = {}
        scores: dict[tuple[str, str], float] = {}
        for number, row in read_rows(path):
            where = f"{path}, line {number}"
            texts = {name: row.get(name) for name in ("prompt", "answer", "response")}
            given = {name for name, text in texts.items() if text is not None}
            if not all(isinstance(texts[name], str) for name in given) or given not in (
                {"prompt", "answer"},
                {"prompt", "response"},
            ):
                raise UserError(
                    "needs texts `prompt` and `answer`, or `prompt`, `response` and a score",
                    where=where,
                )
            prompt = str(texts["prompt"]).strip()
            if "answer" in given:
                answers[prompt] = str(texts["answer"])
                continue
            score = row.get("score")
            if isinstance(score, bool) or not isinstance(score, int | float):
                raise UserError(f"score {score!r} is not a number", where=where)
            if not 0 <= score <= 1:
                raise UserError(f"score {score} is not in [0, 1]", where=where)
            scores[prompt, str(texts["response"]).strip()] = float(score)
        return cls(answers=answers, scores=scores, method=method, run_code=run_code, file=path)

    def __call__(
        self, loaded: LoadedModel, problems: Sequence[Problem], samples: Samples
    ) -> Float[np.ndarray, "P N"]:
        texts = decoded(loaded, samples)
        scores = np.full(samples.lengths.shape, np.nan)
        open_places, responses, answers = [], [], []
        for p, problem in enumerate(problems):
            prompt = problem.prompt.strip()
            for n, text in enumerate(texts[p]):
                if (key := (prompt, text.strip())) in self.scores:
                    scores[p, n] = self.scores[key]
                elif prompt in self.answers:
                    open_places.append((p, n))
                    responses.append(text)
                    answers.append(self.answers[prompt])
        for place, verdict in zip(
            open_places,
            grade_all(responses, answers, self.method, run_code=self.run_code),
            strict=True,
        ):
            if verdict in ("correct", "incorrect"):
                scores[place] = verdict == "correct"
        if missing := int(np.isnan(scores).sum()):
            raise UserError(
                f"has no score and no comparable answer for {missing} of {scores.size} candidates",
                where=self.file,
                hint="an answer to every prompt is enough",
            )
        return scores
