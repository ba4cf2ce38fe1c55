"""`gapjax train` and `gapjax demo`: run the loop, write its files, fit the posterior."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from gapjax.cli.output import add_common_arguments, refuse_existing
from gapjax.errors import UserError

if TYPE_CHECKING:
    from gapjax.selfimprove import Judged, Measured, Recipe
    from gapjax.selfimprove.run_folder import RunFolder

_RECIPES = Path(__file__).parent.parent / "recipes"


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Register the commands of this module."""
    train = commands.add_parser(
        "train",
        help="the self-improvement loop",
        description="Improve a model on its own verified answers. Every field of the recipe can "
        "be overridden, as in `--train.learning_rate 1e-5`.",
    )
    train.add_argument(
        "recipe", metavar="RECIPE.yaml", help=f"or one of {', '.join(bundled_recipes())}"
    )
    train.add_argument(
        "--print-recipe", action="store_true", help="print the resolved recipe and stop"
    )
    demo = commands.add_parser(
        "demo",
        help="a run of a few minutes on the embedded model",
        description="Train the embedded 0.1M-parameter model on its own answers, fit the "
        "posterior of its capability limit, draw the pictures.",
    )
    demo.set_defaults(recipe="adder", print_recipe=False)
    for parser in (train, demo):
        add_common_arguments(parser, resume=True)
        parser.set_defaults(run=_train, takes_overrides=True, seed=None)
        # Printing a recipe needs no folder.
        next(a for a in parser._actions if a.dest == "out").required = parser is demo


def bundled_recipes() -> list[str]:
    """Names of the recipes that come with gapjax."""
    return sorted(path.stem for path in _RECIPES.glob("*.yaml"))


def _train(arguments: argparse.Namespace) -> None:
    from gapjax.selfimprove.recipe import read_recipe, recipe_to_yaml

    path = Path(arguments.recipe)
    if not path.exists() and arguments.recipe in bundled_recipes():
        path = _RECIPES / f"{arguments.recipe}.yaml"
    recipe = read_recipe(path, _overrides(arguments.overrides))
    if arguments.seed is not None:
        recipe = dataclasses.replace(recipe, seed=arguments.seed)
    if arguments.print_recipe:
        print(recipe_to_yaml(recipe), end="")
        return
    if arguments.out is None:
        raise UserError("--out DIR is required", hint="see `gapjax train --help`")
    out = arguments.out
    # Nothing there yet is a run that was killed early: jobs may always pass --resume.
    resume = arguments.resume and out.is_dir() and any(out.iterdir())
    if not resume:
        refuse_existing(out, overwrite=arguments.overwrite)
    try:
        with _termination_unwinds():
            _run(recipe, path.stem, out, resume=resume, quiet=arguments.quiet)
    except OSError as error:
        where = error.filename or out
        raise UserError(
            f"cannot be written ({error.strerror or error})",
            where=where,
            hint="--resume goes on from the last finished phase",
        ) from error


@contextlib.contextmanager
def _termination_unwinds() -> Iterator[None]:
    """Let SIGTERM end the run as Ctrl-C does, closing files and ending worker processes."""

    def end(number: int, _: object) -> NoReturn:
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _overrides(extra: Sequence[str]) -> dict[str, str]:
    """`["--train.epochs", "3", "--model=adder"]` as a table of dotted names."""
    overrides = {}
    remaining = list(extra)
    while remaining:
        name, equals, value = remaining.pop(0).partition("=")
        if not name.startswith("--"):
            raise UserError(f"unrecognized argument {name!r}", hint="see `gapjax train --help`")
        if not equals:
            if not remaining:
                raise UserError(f"{name} needs a value")
            value = remaining.pop(0)
        overrides[name[2:]] = value
    return overrides


def _run(recipe: Recipe, name: str, out: Path, *, resume: bool, quiet: bool) -> None:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from gapjax import models
    from gapjax.selfimprove import Finished, Judged, Measured, Selected, Trained, self_improve
    from gapjax.selfimprove.run_folder import RunFolder

    console = Console(quiet=quiet, highlight=False, soft_wrap=True)

    def warn(text: str) -> None:
        print(f"gapjax: warning: {text}", file=sys.stderr)

    if resume:
        folder = RunFolder.open(out, recipe, warn=warn)
        loaded = models.load(recipe.model, dtype=recipe.dtype)
        events = self_improve(
            loaded, recipe, lambda initial: folder.start(loaded, initial, warn=warn)
        )
        first = next(events)
        console.print(f"resuming the run in {out}")
    else:
        console.print(f"loading {recipe.model} and measuring it before training ...")
        events = self_improve(models.load(recipe.model, dtype=recipe.dtype), recipe)
        # Whatever is wrong with the recipe shows here, before an old run is replaced.
        first = next(events)
        folder = RunFolder.create(out, recipe, name=name)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=quiet or not console.is_terminal,
    )
    with progress:
        task = progress.add_task(
            "epoch 0", total=recipe.train.rounds * recipe.train.epochs_per_round
        )
        for event in itertools.chain([first], events):
            folder.write(event)
            match event:
                case Measured():
                    console.print(_line(event))
                case Judged():
                    for line in _judgement(event):
                        console.print(line)
                case Finished():
                    console.print(f"stopped at epoch {event.epoch:g}: {event.reason}")
                case Selected():
                    console.print(
                        f"round {event.round}: learns from {event.learned} answers"
                        f"{_accuracy(event.metrics)}  ({event.seconds:.0f} s)"
                    )
                case Trained():
                    progress.update(
                        task, completed=event.epoch, description=f"loss {event.loss:.3f}"
                    )
    _conclude(folder, recipe, out, name, console.print)


def _line(event: Measured) -> str:
    m = event.metrics
    return (
        f"epoch {event.epoch:5.2f}: U_s {m['solver_uncertainty']:.3f}  "
        f"U_v {m['verifier_uncertainty']:.3f}  gap {m['gap']:.3f} nats"
        f"{_accuracy(m)}   cut off {m['solver_cut_off']:.0%}  ({event.seconds:.0f} s)"
    )


def _judgement(event: Judged) -> list[str]:
    lines = [f"  caution: {text}" for text in event.cautions]
    if (outlook := event.outlook) is None:
        return lines
    q = outlook.limit
    known = "" if outlook.identified else ", not identified"
    return [
        f"  limit of U_s {q['q50']:.3g} [{q['q05']:.3g}, {q['q95']:.3g}]{known}; expected gain "
        f"of the remaining epochs {outlook.expected_gain:.3g} nats",
        *lines,
    ]


def _accuracy(metrics: dict[str, float]) -> str:
    """Nothing where no answers are known; failures of the grading wherever there are any."""
    if "solver_accuracy" not in metrics:
        return ""
    failed = "".join(
        f", {metrics[name]:.1%} {what}"
        for name, what in (("grading_timeouts", "timed out"), ("grading_errors", "not gradable"))
        if metrics[name]
    )
    return (
        f"   right: solver {metrics['solver_accuracy']:.1%}, "
        f"best-of-N {metrics['verifier_accuracy']:.1%}{failed}"
    )


def _conclude(
    folder: RunFolder, recipe: Recipe, out: Path, name: str, say: Callable[[str], None]
) -> None:
    """Posterior and pictures."""
    from gapjax.posterior import fit
    from gapjax.report.figures import progress_figure
    from gapjax.trajectories import MIN_CHECKPOINTS

    trajectory = folder.trajectory
    plots = out / "plots"
    plots.mkdir(exist_ok=True)
    progress_figure(trajectory, title=name).savefig(plots / "progress.png", dpi=150)
    if len(trajectory) < MIN_CHECKPOINTS:
        say(f"no posterior: {len(trajectory)} checkpoints, {MIN_CHECKPOINTS} are needed")
    else:
        say("fitting the posterior of the capability limit ...")
        result = fit(trajectory, seed=recipe.seed, group_by=["recipe", "seed"])
        result.save(out / "posterior")
        limit = result[0].limit["solver"]
        say(
            f"solver limit {limit['q50']:.3g} nats [{limit['q05']:.3g}, {limit['q95']:.3g}]; "
            f"{result.reason}"
        )
    say(f"wrote {out}")
