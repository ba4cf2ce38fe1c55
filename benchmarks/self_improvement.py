"""Is it the verification that improves the embedded model, and does it matter when help comes?

    python -m benchmarks.self_improvement      # about half an hour; goes on where it was cut off

Three seeds of every arm, on the same problems. *Selection*: the model learns from what its own
verifier chose, from random candidates, or from right ones. *Cross-improvement*: a verifier that
knows the answers chooses for an eighth of the training problems, early, evenly or late, while
the model learns from the base model's answers throughout or from new ones in each round.
Test problems are never trained on or looked at before the end, nor were they seen in pre-training.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from gapjax import models
from gapjax.selfimprove import Recipe, Start, read_recipe, self_improve
from gapjax.selfimprove.problems import make_splits
from gapjax.selfimprove.run_folder import RunFolder

SEEDS = (0, 1, 2)
EXAMPLES = 224
_HERE = Path(__file__).parent
_RECIPE = _HERE.parent / "gapjax/recipes/adder.yaml"
_RESULT = _HERE / "results/self_improvement.md"
_PICTURE = _HERE.parent / "docs/images/self-improvement.png"

Arms = dict[str, dict[str, str]]  # name to fields of the recipe that differ
SELECTION: Arms = {
    "its own verifier": {},
    "random": {"verifier.learn_from": "random"},
    "the truth": {"verifier.learn_from": "truth"},
}
_ROUNDS = {"train.rounds": "10", "train.epochs_per_round": "1", "train.measure_every": "1"}
CROSS: Arms = {"none": _ROUNDS} | {
    name: _ROUNDS | {"external.schedule": name, "external.examples": str(EXAMPLES)}
    for name in ("early", "uniform", "late")
}
# The same with the base model's answers throughout.
ONCE: Arms = {name: fields | {"train.refresh_every": "0"} for name, fields in CROSS.items()}
_COLOURS = dict(
    zip([*SELECTION, *CROSS], ["C0", "0.6", "C2", "0.6", "C0", "C1", "C3"], strict=True)
)


def write_answers(path: Path) -> None:
    """The answers to all training problems, as a stronger model would give them."""
    splits = make_splits(read_recipe(_RECIPE))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as stream:
        for problem in splits.train:
            stream.write(json.dumps({"prompt": problem.prompt, "answer": problem.answer}) + "\n")


def improve(out: Path, recipe: Recipe) -> None:
    """One run, or the rest of one that was cut off."""
    begun = (out / "recipe.yaml").exists()
    files = (
        RunFolder.open(out, recipe, warn=print)
        if begun
        else RunFolder.create(out, recipe, name="adder")
    )
    start = (lambda initial: files.start(initial, warn=print)) if begun else Start()
    for event in self_improve(models.load(recipe.model), recipe, start):
        files.write(event)


def run_all(folder: Path, arms: Arms, answers: Path) -> pd.DataFrame:
    """Every arm and seed; a row a checkpoint, with the test split's outcome in every row."""
    tables = []
    for seed in SEEDS:
        for arm, fields in arms.items():
            out = folder / f"{arm.replace(' ', '-')}-{seed}"
            if not (out / "summary.json").exists():
                print(f"{out.name} ...", flush=True)
                file = {"external.file": str(answers)} if "external.examples" in fields else {}
                improve(out, read_recipe(_RECIPE, {"seed": str(seed)} | fields | file))
            summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
            table = pd.read_csv(out / "trajectory.csv").assign(arm=arm, seed=seed)
            for when in ("before", "after"):
                for name in ("solver_accuracy", "verifier_accuracy", "pass_at_16"):
                    table[f"test_{when}_{name}"] = summary["test"][when][name]
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def outcomes(table: pd.DataFrame) -> pd.DataFrame:
    """A row a run: what the test problems and the last checkpoint say."""
    first, last = (
        getattr(table.groupby(["arm", "seed"], sort=False), w)() for w in ("first", "last")
    )
    gain = 100 * (last["test_after_solver_accuracy"] - last["test_before_solver_accuracy"])
    return pd.DataFrame(
        {
            "solver before, %": 100 * last["test_before_solver_accuracy"],
            "solver after, %": 100 * last["test_after_solver_accuracy"],
            "gain, points": gain,
            "pass@16 after, %": 100 * last["test_after_pass_at_16"],
            "gap, of its start": last["gap"] / first["gap"],
            "U_s": last["solver_uncertainty"],
        }
    )


def markdown(table: pd.DataFrame) -> list[str]:
    """Mean over seeds, and the smallest and largest in brackets."""
    runs = outcomes(table).groupby(level="arm", sort=False)
    low, mean, high = runs.min(), runs.mean(), runs.max()
    lines = [f"| arm | {' | '.join(mean.columns)} |", "| --- |" + " ---: |" * len(mean.columns)]
    for arm in mean.index:
        cells = [
            f"{mean.loc[arm, c]:.3g} [{low.loc[arm, c]:.3g}, {high.loc[arm, c]:.3g}]"
            for c in mean.columns
        ]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return lines


def picture(selection: pd.DataFrame, once: pd.DataFrame, anew: pd.DataFrame) -> Figure:
    """Accuracy of one sample along the runs, on the probe problems; a line a seed."""
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    titles = (
        "learning from what was chosen by …",
        f"help on {EXAMPLES} problems, answers sampled once",
        "the same, answers sampled anew each round",
    )
    for axes, table, title in zip(panels, (selection, once, anew), titles, strict=True):
        for (arm, seed), curve in table.groupby(["arm", "seed"], sort=False):
            label = arm if seed == SEEDS[0] else None
            axes.plot(
                curve["epoch"], 100 * curve["solver_accuracy"], color=_COLOURS[arm], label=label
            )
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_xlabel("epoch")
        axes.legend(frameon=False)
        axes.grid(axis="y", color="0.93")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("one sample right, % of the probe problems")
    return figure


def main() -> None:
    """Run what has not been run, then write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/self-improvement"))
    folder = parser.parse_args().runs
    answers = folder / "answers.jsonl"
    write_answers(answers)
    selection = run_all(folder / "selection", SELECTION, answers)
    once = run_all(folder / "once", ONCE, answers)
    anew = run_all(folder / "cross", CROSS, answers)
    picture(selection, once, anew).savefig(_PICTURE, dpi=150)
    text = "\n".join(
        [
            "# What the embedded model learns from",
            "",
            f"Mean [least, greatest] of {len(SEEDS)} seeds, on 256 test problems that were neither "
            "trained on nor looked at before the end. Written by "
            "`python -m benchmarks.self_improvement`, the remarks by hand.",
            "",
            "## Selection: one round, ten epochs",
            "",
            *markdown(selection),
            "",
            f"## Cross-improvement: ten rounds of one epoch, {EXAMPLES} external examples",
            "",
            "All rounds learn from the base model's answers:",
            "",
            *markdown(once),
            "",
            "Answers are sampled and selected anew in each round:",
            "",
            *markdown(anew),
            "",
        ]
    )
    kept = _RESULT.read_text(encoding="utf-8") if _RESULT.exists() else ""
    _, marker, remarks = kept.partition("## Remarks")
    _RESULT.write_text(f"{text}\n{marker}{remarks}" if marker else text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
