"""Problems that a model's context does not hold, found before anything is sampled.

A prompt needs room for the longest answer that may be sampled, and what a verifier asks the model
about an answer needs room for that answer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from gapjax.errors import UserError
from gapjax.foreign import shown
from gapjax.generation.limits import check_tokens
from gapjax.models import LoadedModel
from gapjax.selfimprove.events import Overlong
from gapjax.selfimprove.recipe import Recipe
from gapjax.tasks import Problem, Splits
from gapjax.verifiers import Quality, TrueFalse, Verifier

_FEWEST = {"train": 1, "probe": 2, "test": 1}
_WORDS = {"train": "training", "probe": "probe", "test": "test"}
_DONE = {"skip": "left out", "truncate": "shortened, at the beginning of their text"}
_MOST_NAMED = 3


@dataclasses.dataclass(frozen=True)
class _Need:
    """What of a problem has to fit: the prompt, or the question about an answer."""

    what: str
    tokens: int
    limit: int

    @property
    def fits(self) -> bool:
        return self.tokens <= self.limit


@dataclasses.dataclass(frozen=True)
class _TooLong:
    problem: Problem
    name: str  # where it is, for people
    split: str
    index: int
    need: _Need


def fit_context(
    splits: Splits, loaded: LoadedModel, recipe: Recipe, verifier: Verifier
) -> tuple[Splits, Overlong | None]:
    """What of a recipe's problems fits the model, by `task.overlong`.

    Problems that are left out are not replaced, so that all others stay where they are.

    **Returns:** the problems to go on with; what became of others, if there are any.

    **Raises:** `UserError` that names a problem if it is too long and this is to be refused, cannot
    be mended, or leaves too few; if it has no tokens, or some that the model does not know; if
    the model has no tokenizer.
    """
    room = recipe.sampling.max_new_tokens
    limit = loaded.config.context - room

    def need(problem: Problem) -> _Need:
        """The first that does not fit, or else one that does."""
        tokens = loaded.prompt(problem.prompt)
        check_tokens(loaded.config, tokens, f"the prompt of {problem.where or 'a problem'}")
        prompt = _Need("the prompt", len(tokens), limit)
        if prompt.fits and isinstance(verifier, TrueFalse | Quality):
            return _Need("the verifier's question", verifier.asking(loaded, problem), limit)
        return prompt

    parts: dict[str, Sequence[Problem]] = {name: getattr(splits, name) for name in _FEWEST}
    found = []
    for split, problems in parts.items():
        for index, problem in enumerate(problems):
            name = problem.where or f"{_WORDS[split]} problem {index + 1}"
            if not (needs := need(problem)).fits:
                found.append(_TooLong(problem, name, split, index, needs))
    how = recipe.task.overlong
    if found and how == "refuse":
        raise _refusal(found, parts, room, loaded.config.context)
    if how == "truncate":
        mended = _truncated(found, parts, recipe, lambda problem: need(problem).fits)
    else:
        mended = _without(found, parts)
    if not found:
        return splits, None
    rows = [
        {
            "split": each.split,
            "where": each.name,
            "tokens": each.need.tokens,
            "limit": each.need.limit,
            "shortened_by": mended[each.split][each.index].shortened_by
            if how == "truncate"
            else None,
        }
        for each in found
    ]
    whole = dataclasses.replace(splits, **{name: tuple(each) for name, each in mended.items()})
    context = f"do not fit the context of {loaded.config.context} tokens"
    summary = f"{_counted(found, parts)} {context} and are {_DONE[how]}: {_named(found)}"
    return whole, Overlong(how, summary, rows)


def _without(
    found: Sequence[_TooLong], parts: dict[str, Sequence[Problem]]
) -> dict[str, Sequence[Problem]]:
    left_out = {(each.split, each.index) for each in found}
    kept: dict[str, Sequence[Problem]] = {
        split: [p for i, p in enumerate(problems) if (split, i) not in left_out]
        for split, problems in parts.items()
    }
    for split, fewest in _FEWEST.items():
        if parts[split] and len(kept[split]) < fewest:
            raise UserError(
                f"only {len(kept[split])} of {len(parts[split])} {_WORDS[split]} problems fit the "
                f"model's context, without {_named(found)}",
                where="task.overlong",
                hint="lower sampling.max_new_tokens, or take a model with a longer context",
            )
    return kept


def _truncated(
    found: Sequence[_TooLong],
    parts: dict[str, Sequence[Problem]],
    recipe: Recipe,
    fits: Callable[[Problem], bool],
) -> dict[str, Sequence[Problem]]:
    mended = {split: list(problems) for split, problems in parts.items()}
    if found and recipe.task.name == "arithmetic":
        raise UserError("an addition cannot be shortened", where="task.overlong")
    template = recipe.task.template or "{prompt}"
    for each in found:
        shorter = _shortened(each.problem, template, fits)
        if shorter is None:
            raise UserError(
                f"{each.need.what} does not fit however short its text is "
                f"({each.need.tokens} tokens, {each.need.limit} fit)",
                where=each.name,
                hint="shorten what stands around it, or lower sampling.max_new_tokens",
            )
        mended[each.split][each.index] = shorter
    # Of texts that end alike the same may remain.
    first: dict[str, Problem] = {}
    for problem in (problem for problems in mended.values() for problem in problems):
        other = first.setdefault(problem.prompt.strip(), problem)
        if other is not problem:
            raise UserError(
                f"is the same as {other.where} once they are shortened",
                where=problem.where,
                hint="set task.overlong: skip",
            )
    return dict(mended)


def _shortened(problem: Problem, template: str, fits: Callable[[Problem], bool]) -> Problem | None:
    """The problem with as much of the end of its text as fits."""
    length = len(problem.text(template))

    def fits_with(kept: int) -> bool:
        return fits(problem.shortened(length - kept, template))

    works = 1
    if length < 2 or not fits_with(works):
        return None
    # From the short end, since a text may be as long as a file.
    while 2 * works < length and fits_with(2 * works):
        works *= 2
    fails = min(2 * works, length)
    while fails - works > 1:
        middle = (fails + works) // 2
        if fits_with(middle):
            works = middle
        else:
            fails = middle
    return problem.shortened(length - works, template)


def _refusal(
    found: Sequence[_TooLong], parts: dict[str, Sequence[Problem]], room: int, context: int
) -> UserError:
    need = found[0].need
    more = f"; {_counted(found, parts)} are too long" if len(found) > 1 else ""
    return UserError(
        f"{need.what} has {need.tokens} tokens, which with {room} of an answer exceed the model's "
        f"context of {context} tokens{more}",
        where=found[0].name,
        hint="set task.overlong to skip or truncate, or lower sampling.max_new_tokens",
    )


def _counted(found: Sequence[_TooLong], parts: dict[str, Sequence[Problem]]) -> str:
    """How many of how many of which problems."""
    counts = [
        f"{count} of {len(problems)} {_WORDS[split]}"
        for split, problems in parts.items()
        if (count := sum(each.split == split for each in found))
    ]
    return f"{' and '.join(counts)} problems"


def _named(found: Sequence[_TooLong]) -> str:
    names = [f"{shown(each.name)} ({each.need.tokens} tokens)" for each in found[:_MOST_NAMED]]
    more = len(found) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
