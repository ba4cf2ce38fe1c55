"""Another model's judgement of the candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from gapjax.errors import UserError
from gapjax.generation import Samples
from gapjax.models import LoadedModel
from gapjax.parallel import in_shares
from gapjax.tasks import Grading, Problem
from gapjax.verifiers.base import decoded
from gapjax.verifiers.grading import Grade, grade_all
from gapjax.verifiers.sources import AnswerFile, Source


class External:
    """The score is the other model's, or whether the candidate agrees with its answer.

    **Arguments:**

    - `source`: the other model.
    - `judge`: it is asked for its own `"answer"` to each problem, with which the candidates have
        to agree, or for a `"score"` of each candidate. A file is not asked: the score that is
        in it holds, or else the answer.
    - `method`, `run_code`, `site_packages`: how candidates are compared with answers, see
        `gapjax.verifiers.grade`.

    A candidate on which an endpoint has nothing to say that can be used, or whose comparison with
    its answer fails, has the score NaN, which passes no threshold.
    """

    def __init__(
        self,
        source: Source,
        *,
        judge: Literal["answer", "score"] = "answer",
        method: Grading = "numeric",
        run_code: bool = False,
        site_packages: bool = False,
    ) -> None:
        self.source = source
        self._judge, self._method = judge, method
        self._options = {"run_code": run_code, "site_packages": site_packages, "free": True}

    def __call__(
        self, loaded: LoadedModel, problems: Sequence[Problem], samples: Samples
    ) -> Float[np.ndarray, "P N"]:
        """See `judge`."""
        return self.judge([problem.prompt for problem in problems], decoded(loaded, samples))

    def judge(
        self, prompts: Sequence[str], responses: Sequence[Sequence[str]]
    ) -> Float[np.ndarray, "P N"]:
        """Scores in [0, 1] of the N responses to each of P prompts; NaN: no score.

        **Raises:** `UserError` if a file says nothing about a candidate, if an endpoint fails,
        or if more than half of the scores are NaN.
        """
        pairs = [
            (prompt, text)
            for prompt, texts in zip(prompts, responses, strict=True)
            for text in texts
        ]
        if isinstance(self.source, AnswerFile):
            scores = self._by_file(self.source, pairs)
        elif self._judge == "score":
            scores = _numbers(self.source.scores(pairs))
        else:
            scores = self._by_answers(pairs)
        if (missing := int(np.isnan(scores).sum())) > scores.size / 2:
            raise UserError(
                f"the stronger model gave no usable {self._judge} for {missing} "
                f"of {scores.size} candidates",
                where="external",
                hint="is it the right model, and does it understand the question?",
            )
        return scores.reshape(len(prompts), len(responses[0]) if responses else 0)

    def _by_file(
        self, file: AnswerFile, pairs: Sequence[tuple[str, str]]
    ) -> Float[np.ndarray, " pairs"]:
        scores = _numbers(file.scores(pairs))
        unrated = [i for i, pair in enumerate(pairs) if not file.replies.rated(*pair)]
        scores[unrated] = self._by_answers([pairs[i] for i in unrated])
        # What an endpoint could not say is known; what is not in a file was forgotten.
        silent = (
            [not file.replies.mention(*pair) for pair in pairs]
            if file.recorded
            else np.isnan(scores)
        )
        if missing := int(np.sum(silent)):
            raise UserError(
                f"has no score and no comparable answer for {missing} of {scores.size} candidates",
                where=file.path,
                hint="an answer to every prompt is enough",
            )
        return scores

    def _by_answers(self, pairs: Sequence[tuple[str, str]]) -> Float[np.ndarray, " pairs"]:
        scores = np.full(len(pairs), np.nan)
        answers = self.source.answers([prompt for prompt, _ in pairs])
        known = [(i, answer) for i, answer in enumerate(answers) if answer is not None]

        def grade(texts: Sequence[tuple[str, str]]) -> list[Grade]:
            responses, answers = zip(*texts, strict=True)
            return grade_all(responses, answers, self._method, **self._options)

        verdicts = in_shares(grade, [(pairs[i][1], answer) for i, answer in known])
        for (i, _), verdict in zip(known, verdicts, strict=True):
            if verdict in ("correct", "incorrect"):
                scores[i] = verdict == "correct"
        return scores


def _numbers(scores: Sequence[float | None]) -> Float[np.ndarray, " pairs"]:
    return np.array([np.nan if score is None else score for score in scores])
