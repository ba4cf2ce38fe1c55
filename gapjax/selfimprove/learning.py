"""What a round learns from: the verifier's choice, a control's, or a stronger model's.

All of it works on the rows that `Candidates.records` makes and the run folder keeps, so that
a run that is resumed learns from what it would have learnt from.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from gapjax.dynamics.external import early, late, uniform
from gapjax.errors import UserError
from gapjax.generation.batching import bucketed
from gapjax.models import LoadedModel
from gapjax.selfimprove.recipe import Recipe
from gapjax.selfimprove.select import best_of_n
from gapjax.selfimprove.sft import Dataset
from gapjax.verifiers import External

Record = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class CutOff:
    """How many of a round's answers came to no end within `max_new_tokens`."""

    candidates: int = 0
    problems: int = 0  # of which no candidate ended
    learned: int = 0  # and yet are learnt, as the recipe accepts them


def choose(
    records: Sequence[Record], recipe: Recipe, key: Key[Array, ""], *, first: int = 0
) -> list[Record]:
    """Set the field `learned` of each row: what is learnt from it and why, or `None`.

    `learn_from: verified` takes the verifier's choice. The others are control arms that show
    what the verification is worth: `random` any candidate, `truth` one that is right. None takes
    a candidate that was cut off, unless `verifier.cut_off` accepts it.

    **Arguments:**

    - `first`: index of the first row, if these are a part of more.
    """
    config = recipe.verifier
    at_random = np.asarray(jax.random.uniform(key, (first + len(records),)))[first:]
    chosen = []
    for row, share in zip(records, at_random, strict=True):
        learned, eligible = None, _eligible(row, recipe)
        match config.learn_from:
            case "verified":
                skipped = row["fell_back"] and config.when_none_pass == "skip"
                if eligible[row["chosen"]] and not skipped:
                    learned = _candidate(row, row["chosen"], row["reason"])
            case "random":
                if eligible.any():
                    anyone = np.flatnonzero(eligible)[int(share * eligible.sum())]
                    learned = _candidate(row, int(anyone), "chosen at random")
            case "truth":
                right = np.array([each["grade"] == "correct" for each in row["candidates"]])
                if (right & eligible).any():
                    best = _best(row, right.astype(float), threshold=0.5, eligible=eligible)
                    learned = _candidate(row, best, "least uncertainty a token of the right ones")
        chosen.append({**row, "learned": learned})
    return chosen


def external_problems(
    recipe: Recipe, key: Key[Array, ""], *, problems: int
) -> list[Int[np.ndarray, " examples"]]:
    """For each round the training problems about which a stronger model is asked.

    No problem comes twice. The shares `η_t` are those of arXiv:2507.00075, section 5.

    **Arguments:**

    - `problems`: how many there are to train on.

    **Raises:** `UserError` if the shares do not fit the run.
    """
    config, rounds = recipe.external, recipe.train.rounds
    if config.examples > problems:
        raise UserError(
            f"{config.examples} is more than the {problems} training problems",
            where="external.examples",
        )
    match config.schedule:
        case "early":
            shares = early(rounds)
        case "uniform":
            shares = uniform(rounds)
        case "late":
            shares = late(rounds)
        case tuple():
            shares = dict(enumerate(config.schedule, start=1))
    if len(shares) != rounds or sum(shares.values()) > 1 + 1e-9:
        raise UserError(
            f"{list(shares.values())} are not {rounds} shares, one a round, of 1 at most in all",
            where="external.schedule",
        )
    order = np.asarray(jax.random.permutation(key, problems))
    used = np.cumsum([0.0, *(shares[number] for number in sorted(shares))])
    ends = np.rint(config.examples * used).astype(int)
    return [order[a:b] for a, b in itertools.pairwise(ends)]


def mix_external(
    records: Sequence[Record],
    loaded: LoadedModel,
    recipe: Recipe,
    external: External,
    problems: Int[np.ndarray, " examples"],
) -> list[Record]:
    """Let a stronger model say what is learnt from some of the problems.

    `external.learn: choice` learns the best of the candidates that it verifies, `answer` its
    own answer, and after it the end of a turn. Where no candidate passes, it has no answer, or
    one that is longer than the model's may be, the row stays as it was.

    **Arguments:**

    - `problems`: indices of rows.

    **Raises:** `UserError` for an answer to a model that has no end token.
    """
    mixed = list(records)
    asked = [records[p] for p in problems]
    prompts = [row["prompt"] for row in asked]
    if recipe.external.learn == "choice":
        texts = [[each["text"] for each in row["candidates"]] for row in asked]
        for p, row, scores in zip(problems, asked, external.judge(prompts, texts), strict=True):
            threshold, eligible = recipe.verifier.threshold, _eligible(row, recipe)
            if ((scores >= threshold) & eligible).any():
                best = _best(row, scores, threshold=threshold, eligible=eligible)
                learned = _candidate(row, best, "the stronger model's choice", external=True)
                mixed[p] = {**row, "learned": learned}
        return mixed
    tokenizer = loaded.tokenizer
    assert tokenizer is not None
    for p, row, text in zip(problems, asked, external.source.answers(prompts), strict=True):
        if text is None:
            continue
        tokens = [*tokenizer.encode(text, add_special_tokens=False), loaded.ends.terminator()]
        if len(tokens) <= recipe.sampling.max_new_tokens:
            why = "the stronger model's answer"
            learned = {"candidate": None, "tokens": tokens, "why": why, "external": True}
            mixed[p] = {**row, "learned": learned}
    return mixed


class Lessons:
    """What a round learns, gathered row by row: the tokens of prompts and of one answer each.

    The rows, with all their candidates, are not kept.
    """

    def __init__(self, loaded: LoadedModel, recipe: Recipe) -> None:
        self._loaded, self._recipe = loaded, recipe
        self._prompts: list[Int[np.ndarray, " tokens"]] = []
        self._answers: list[Int[np.ndarray, " tokens"]] = []
        self._longest = 0
        self._seen = 0
        self._ended = 0  # candidates
        self.cut_off = CutOff()
        self.external = 0  # problems of which a stronger model said what is learnt

    @property
    def learned(self) -> int:
        """Problems with an answer to learn."""
        return len(self._answers)

    def add(self, rows: Iterable[Record]) -> None:
        """Gather from more rows.

        **Raises:** `KeyError` or `TypeError` for rows that are not of this kind.
        """
        for row in rows:
            prompt = self._loaded.prompt(row["prompt"])
            self._longest = max(self._longest, len(prompt))
            self._seen += 1
            finished = [each["finished"] for each in row["candidates"]]
            self._ended += sum(finished)
            learned = row["learned"]
            candidate = None if learned is None else learned["candidate"]
            self.cut_off = CutOff(
                self.cut_off.candidates + finished.count(False),
                self.cut_off.problems + (not any(finished)),
                self.cut_off.learned + (candidate is not None and not finished[candidate]),
            )
            if learned is not None:
                self._prompts.append(np.array(prompt, np.int32))
                self._answers.append(np.array(learned["tokens"], np.int32))
                self.external += learned["external"]

    @property
    def nothing_ended(self) -> str | None:
        """Why there is nothing to learn, if it is that every answer was cut off."""
        if self._answers or self._ended:
            return None
        limit = self._recipe.sampling.max_new_tokens
        return (
            f"there is nothing to learn, as all {self.cut_off.candidates} answers were cut off "
            f"at {limit} tokens (sampling.max_new_tokens)"
        )

    def dataset(self) -> Dataset:
        """What the trainer takes.

        **Raises:** `UserError` if there is nothing to learn.
        """
        if not self._answers:
            config = self._recipe.verifier
            truth = config.learn_from == "truth"
            wanted = "is right" if truth else f"scored >= {config.threshold}"
            cut = self.cut_off.candidates if config.cut_off == "reject" else 0
            raise UserError(
                f"no candidate of any of {self._seen} problems {wanted}"
                + (f" ({cut} were cut off, and do not count)" if cut else "")
                + ": there is nothing to learn",
                where="verifier",
                hint="lower verifier.threshold or set when_none_pass: choose_among_all",
            )
        return Dataset(
            prompts=self._prompts,
            answers=self._answers,
            # Of all problems, so that nothing compiles anew when another choice is made.
            prompt_width=bucketed(self._longest),
            answer_width=bucketed(self._recipe.sampling.max_new_tokens),
        )


def dataset(loaded: LoadedModel, recipe: Recipe, records: Iterable[Record]) -> Dataset:
    """The answers of a round: `Lessons` of all its rows.

    **Raises:** `UserError` if there is nothing to learn.
    """
    lessons = Lessons(loaded, recipe)
    lessons.add(records)
    return lessons.dataset()


def _candidate(row: Record, index: int, why: str, *, external: bool = False) -> Record:
    tokens = row["candidates"][index]["tokens"]
    return {"candidate": index, "tokens": tokens, "why": why, "external": external}


def _eligible(row: Record, recipe: Recipe) -> Bool[np.ndarray, " N"]:
    """Which candidates may be learnt."""
    finished = np.array([each["finished"] for each in row["candidates"]])
    return finished | (recipe.verifier.cut_off == "accept")


def _best(
    row: Record,
    scores: Float[np.ndarray, " N"],
    *,
    threshold: float,
    eligible: Bool[np.ndarray, " N"],
) -> int:
    uncertainties = -np.array([[each["logprob"] for each in row["candidates"]]])
    lengths = np.array([[each["length"] for each in row["candidates"]]])
    best = best_of_n(
        scores[None], uncertainties, lengths, threshold=threshold, eligible=eligible[None]
    )
    return int(best.index[0])
