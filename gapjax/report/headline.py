"""The first thing to read: what ran, where it ended, and what to make of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gapjax.foreign import shown
from gapjax.paired import SURE
from gapjax.report.gain import gain_of, judge_gain
from gapjax.report.outcome import Outcome
from gapjax.report.page import Section, Table, Tone, Verdict
from gapjax.report.run_files import RunFiles
from gapjax.trajectories import EPOCH, SOLVER, VERIFIER

_TESTED = {
    "solver_accuracy": "accuracy of one sample",
    "verifier_accuracy": "accuracy of the best of N",
    "solver_uncertainty": "U_s (nats)",
    "verifier_uncertainty": "U_v (nats)",
    "gap": "gap (nats)",
    "answer_entropy": "entropy of the answers (nats)",
}
_TONES: dict[str, Tone] = {"learning": "good", "sharpening": "bad", "worse": "bad"}


@dataclass(frozen=True)
class Card:
    """A figure with its name and what qualifies it."""

    name: str
    value: str
    detail: str


def subtitle(run: RunFiles) -> str:
    """What ran, in one line, as far as the recipe is there."""
    recipe = run.recipe
    task, sampling, verifier, train = (
        recipe.get(name) or {} for name in ("task", "sampling", "verifier", "train")
    )
    parts = []
    if "model" in recipe:
        parts.append(f"{recipe['model']} on {task.get('name', 'its task')}")
    if "n" in sampling and "method" in verifier:
        parts.append(f"best of {sampling['n']} by {verifier['method']}")
    if "rounds" in train and "epochs_per_round" in train:
        parts.append(f"{train['rounds']} round(s) of {train['epochs_per_round']} epochs")
    if "train" in task and "probe" in task:
        parts.append(f"{task['train']} problems to learn from, {task['probe']} held out")
    if "seed" in recipe:
        parts.append(f"seed {recipe['seed']}")
    if "gapjax" in run.versions:
        parts.append(f"gapjax {run.versions['gapjax']}")
    return shown(" · ".join(parts))


def cards(run: RunFiles, outcome: Outcome | None) -> list[Card]:
    """The figures to remember: accuracy, gap, limit."""
    found = []
    if "solver_accuracy" in run.trajectory:
        found.append(_from_to(run, "solver_accuracy", "Solver accuracy", percent=True))
    found.append(_from_to(run, SOLVER, "Solver uncertainty U_s (nats)", error="solver_sem"))
    found.append(_from_to(run, "gap", "Gap U_s − U_v (nats)", error="gap_sem"))
    if outcome is not None:
        q = outcome.limit["solver"]
        known = "identified" if outcome.identified else "NOT identified"
        detail = f"90% interval {q['q05']:.3g} to {q['q95']:.3g}; {known}"
        found.append(Card("Capability limit of U_s", f"{q['q50']:.3g} nats", detail))
    return found


def headline_section(run: RunFiles, outcome: Outcome | None) -> Section:
    """Whether the run learned or sharpened; where it ended and why."""
    verdicts = [*gain_verdicts(run), _ending(run)]
    verdicts += [
        Verdict(f"{shown(row.get('summary', 'Problems did not fit the context'), 1000)}.", "unsure")
        for row in run.of("overlong")[:1]
    ]
    if outcome is not None:
        tone: Tone = "good" if outcome.identified else "unsure"
        verdicts.append(Verdict(f"Limit of U_s: {outcome.reason}.", tone))
    tables = [_tested(row["before"], row["after"]) for row in run.of("test")[-1:]]
    return Section("In short", "", tuple(verdicts), tables=tuple(tables))


def _ending(run: RunFiles) -> Verdict:
    last = float(run.trajectory[EPOCH].iloc[-1])
    finished = run.of("finish")
    if not finished:
        return Verdict(
            f"Unfinished: the run has been measured up to epoch {last:g}; gapjax train with "
            "--resume goes on with it.",
            "unsure",
        )
    reason = shown(finished[-1].get("reason", "no reason was recorded"))
    return Verdict(f"Ended at epoch {finished[-1].get('epoch', last):g}: {reason}.")


def gain_verdicts(run: RunFiles) -> list[Verdict]:
    """Whether the run learned, sharpened or got worse; the first is the one that counts."""
    probe = _gain(run)
    tested = _gain_between(run, "test-before", "test-after") if run.of("test") else None
    if tested is None:
        return [probe]
    aside = "The test problems say so, which nothing in the run has seen."
    return [
        Verdict(f"{tested.text} {aside}", tested.tone),
        Verdict(f"On the probe problems: {probe.text}", probe.tone),
    ]


def _gain(run: RunFiles) -> Verdict:
    if "solver_accuracy" not in run.trajectory:
        return Verdict(
            "Cannot tell learning from sharpening: no answers of this task are known.", "unsure"
        )
    if len(run.trajectory) < 2:
        return Verdict("Cannot tell learning from sharpening: measured only once.", "unsure")
    last = len(run.trajectory) - 1
    found = _gain_between(run, "probe-000", f"probe-{last:03d}")
    if found is None:
        return Verdict(
            "Cannot tell learning from sharpening: the probe samples of the first and last "
            "measurement are not here.",
            "unsure",
        )
    return found


def _gain_between(run: RunFiles, before: str, after: str) -> Verdict | None:
    changes = gain_of(run.problems(before), run.problems(after))
    if changes is None:
        return None
    gain = judge_gain(*changes)
    return Verdict(gain.sentence, _TONES.get(gain.kind, "unsure"))


def _from_to(
    run: RunFiles, column: str, name: str, *, error: str | None = None, percent: bool = False
) -> Card:
    table = run.trajectory
    values = table[SOLVER] - table[VERIFIER] if column == "gap" else table[column]
    first, last = float(values.iloc[0]), float(values.iloc[-1])
    shown = [f"{v:.1%}" if percent else f"{v:.3g}" for v in (first, last)]
    sem = error or f"{column}_sem"
    detail = "no standard errors were recorded"
    if sem in table:
        errors = [float(table[sem].iloc[i]) for i in (0, -1)]
        texts = [f"± {100 * e:.1f}" if percent else f"± {e:.2g}" for e in errors]
        detail = f"{texts[0]} → {texts[1]}{' points' if percent else ''} (standard error)"
        if abs(last - first) <= SURE * np.hypot(errors[0], errors[1]):
            detail += "; within noise if taken alone"
    return Card(name, f"{shown[0]} → {shown[1]}", detail)


def _tested(before: dict[str, float], after: dict[str, float]) -> Table:
    prefix = "pass_at_"
    passes = {name: f"pass@{name[len(prefix) :]}" for name in after if name.startswith(prefix)}
    passes.pop("pass_at_1", None)  # the solver's accuracy
    rows = []
    for name, words in {**_TESTED, **passes}.items():
        if name not in before or name not in after:
            continue
        rate = name.endswith("accuracy") or name in passes
        error = name.replace("_uncertainty", "") + "_sem"
        rows.append((words, *(_with_error(m, name, error, percent=rate) for m in (before, after))))
    return Table(("test problems, looked at only at the end", "before", "after"), tuple(rows))


def _with_error(metrics: dict[str, float], name: str, error: str, *, percent: bool) -> str:
    value = f"{metrics[name]:.1%}" if percent else f"{metrics[name]:.3g}"
    if error not in metrics:
        return value
    return f"{value} ± {100 * metrics[error]:.1f}" if percent else f"{value} ± {metrics[error]:.2g}"
