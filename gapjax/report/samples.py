"""A few problems before and after, with what was chosen and what was passed over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gapjax.foreign import shown
from gapjax.report.page import Section
from gapjax.report.run_files import RunFiles

_OF_PROBE, _OF_ROUND = 6, 3  # problems shown
_REJECTED = 4  # different answers shown beside the chosen one
_LONGEST = 700  # characters of a text


@dataclass(frozen=True)
class Answer:
    """A candidate as the page shows it; equal texts are shown once."""

    text: str
    count: int  # candidates with this text
    score: str
    logprob: str  # of the whole answer, nats
    per_token: str
    grade: str
    chosen: bool


@dataclass(frozen=True)
class Shown:
    """One problem at one moment.

    - `reason`: why the chosen one was chosen; `learned`: what was learnt, if that differs.
    - `hidden`: candidates that are not shown.
    """

    when: str
    answers: tuple[Answer, ...]
    hidden: int
    reason: str
    learned: str = ""


@dataclass(frozen=True)
class ShownProblem:
    """A problem, its reference answer, and its candidates at some moments."""

    prompt: str
    answer: str | None
    headline: str
    moments: tuple[Shown, ...]


def samples_section(run: RunFiles) -> Section | None:
    """Problems of the first and last probe and of the first and last round."""
    first, last = run.probe(0), run.probe(-1)
    epochs = run.trajectory["epoch"]
    shown: list[ShownProblem] = []
    if first and len(first) == len(last):
        moments = {f"epoch {epochs.iloc[0]:g}": first, f"epoch {epochs.iloc[-1]:g}": last}
        shown += [
            _problem({when: rows[p] for when, rows in moments.items()}, "probe")
            for p in telling(first, last, _OF_PROBE)
        ]
    rounds = sorted({int(row["round"]) for row in run.of("select") if "round" in row})
    for number in dict.fromkeys([*rounds[:1], *rounds[-1:]]):
        rows = run.problems(f"round-{number:03d}")
        name = f"round {number}"
        shown += [_problem({name: rows[p]}, f"training, {name}") for p in _spread(rows, _OF_ROUND)]
    if not shown:
        return None
    return Section(
        "Samples",
        f"Up to {_OF_PROBE} probe problems before and after, and up to {_OF_ROUND} training "
        "problems of the first and last round. Those whose chosen answer became right, became "
        "wrong, stayed wrong and stayed right take turns; everything is in samples/*.jsonl.",
        problems=tuple(shown),
    )


def telling(
    first: Sequence[Mapping[str, Any]], last: Sequence[Mapping[str, Any]], most: int
) -> list[int]:
    """Indices of problems to show: each kind of change takes turns, in the file's order."""
    kinds: dict[tuple[bool, bool], list[int]] = {}
    for p, (before, after) in enumerate(zip(first, last, strict=True)):
        kinds.setdefault((_chosen_right(before), _chosen_right(after)), []).append(p)
    turns = [kinds.get(kind, []) for kind in ((False, True), (True, False), (False, False))]
    turns.append(kinds.get((True, True), []))
    found: list[int] = []
    for turn in range(most):
        found += [kind[turn] for kind in turns if turn < len(kind)]
    return sorted(found[:most])


def _chosen_right(row: Mapping[str, Any]) -> bool:
    return row["candidates"][row["chosen"]].get("grade") == "correct"


def _spread(rows: Sequence[Any], most: int) -> list[int]:
    """Indices of at most so many rows, evenly spaced."""
    if not rows:
        return []
    return sorted(set(np.linspace(0, len(rows) - 1, most).round().astype(int).tolist()))


def _problem(moments: Mapping[str, Mapping[str, Any]], kind: str) -> ShownProblem:
    row = next(iter(moments.values()))
    grades = [each["candidates"][each["chosen"]].get("grade") for each in moments.values()]
    words = " → ".join("right" if g == "correct" else "wrong" for g in grades if g)
    prompt = shown(" ".join(str(row["prompt"]).split()), 60)
    answer = row.get("answer")
    return ShownProblem(
        prompt=_text(row["prompt"]),
        answer=None if answer is None else _text(answer),
        headline=f"{prompt} ({kind}{f': {words}' if words else ''})",
        moments=tuple(_shown(when, each) for when, each in moments.items()),
    )


def _shown(when: str, row: Mapping[str, Any]) -> Shown:
    candidates, chosen = row["candidates"], row["candidates"][row["chosen"]]
    counts = Counter(each["text"] for each in candidates)
    # The likeliest of those that were passed over: what the choice was between.
    others = sorted(
        {each["text"]: each for each in candidates if each["text"] != chosen["text"]}.values(),
        key=lambda each: (-each["logprob"] / max(each["length"], 1), each["text"]),
    )
    listed = [chosen, *others[:_REJECTED]]
    learned = row.get("learned")
    why = learned["why"] if isinstance(learned, dict) else ""
    if "learned" in row and learned is None:
        why = "nothing"
    return Shown(
        when=when,
        answers=tuple(
            _answer(each, counts[each["text"]], chosen=each is chosen) for each in listed
        ),
        hidden=len(candidates) - sum(counts[each["text"]] for each in listed),
        reason=_text(row.get("reason", "")),
        learned="" if why == row.get("reason") else _text(why),
    )


def _answer(each: Mapping[str, Any], count: int, *, chosen: bool) -> Answer:
    score, length = each.get("score"), max(each["length"], 1)
    cut = "" if each.get("finished", True) else ", cut off"
    return Answer(
        text=_text(each["text"]),
        count=count,
        score="–" if score is None else f"{score:.3g}",
        logprob=f"{each['logprob']:.2f}",
        per_token=f"{-each['logprob'] / length:.3g} × {length}",
        grade=_text(each.get("grade") or "–") + cut,
        chosen=chosen,
    )


def _text(text: object) -> str:
    return shown(text, _LONGEST, lines=True)
