"""`gapjax train` and `gapjax demo`: run the loop, write its files, fit the posterior."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gapjax.cli.output import add_common_arguments, refuse_existing, resolved
from gapjax.cli.processes import PREEMPTED, Termination, bound_to_others
from gapjax.errors import UserError
from gapjax.foreign import in_picture, shown
from gapjax.ours import refuse_links
from gapjax.paths import Mirror, Path, staged

if TYPE_CHECKING:
    from gapjax.selfimprove import Recipe
    from gapjax.selfimprove.run_folder import RunFolder
    from gapjax.selfimprove.sft import TrainState

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
    train.add_argument(
        "--profile", type=int, metavar="N", help="write DIR/profile, a trace of N steps"
    )
    _add_processes(train)
    demo = commands.add_parser(
        "demo",
        help="a run of a few minutes on the embedded model",
        description="Train the embedded 0.1M-parameter model on its own answers, fit the "
        "posterior of its capability limit, draw the pictures.",
    )
    demo.set_defaults(recipe="adder", print_recipe=False, profile=None)
    demo.set_defaults(**dict.fromkeys(_PROCESSES))
    for parser in (train, demo):
        add_common_arguments(parser, resume=True)
        parser.add_argument(
            "--tensorboard", action="store_true", help="write DIR/tensorboard as well"
        )
        parser.set_defaults(run=_train, takes_overrides=True, seed=None)
        # Printing a recipe needs no folder.
        next(a for a in parser._actions if a.dest == "out").required = parser is demo


_PROCESSES = ("coordinator", "processes", "process_id", "expect_processes", "expect_devices")


def _add_processes(train: argparse.ArgumentParser) -> None:
    group = train.add_argument_group(
        "several processes", "on TPU pods and under SLURM they find each other by themselves"
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="of the first process")
    group.add_argument("--processes", type=int, metavar="N", help="how many there are")
    group.add_argument("--process-id", type=int, metavar="I", help="which one this is, from 0")
    group.add_argument(
        "--expect-processes", type=int, metavar="N", help="refuse to start with another number"
    )
    group.add_argument(
        "--expect-devices", type=int, metavar="M", help="the same, of all their devices together"
    )


def bundled_recipes() -> list[str]:
    """Names of the recipes that come with gapjax."""
    return sorted(path.stem for path in _RECIPES.glob("*.yaml"))


def read_recipe_argument(arguments: argparse.Namespace) -> tuple[Recipe, str]:
    """The recipe that the command line means, overrides and seed applied, and its name."""
    from gapjax.selfimprove.recipe import read_recipe

    path = Path(arguments.recipe)
    if not path.exists() and arguments.recipe in bundled_recipes():
        path = _RECIPES / f"{arguments.recipe}.yaml"
    recipe = read_recipe(path, _overrides(arguments.overrides))
    if arguments.seed is not None:
        recipe = dataclasses.replace(recipe, seed=arguments.seed)
    return recipe, path.stem


def _train(arguments: argparse.Namespace) -> None:
    from gapjax.selfimprove.recipe import recipe_to_yaml

    recipe, name = read_recipe_argument(arguments)
    if arguments.print_recipe:
        print(recipe_to_yaml(recipe), end="")
        return
    if arguments.out is None:
        raise UserError("--out DIR is required", hint="see `gapjax train --help`")
    if arguments.profile is not None and arguments.profile < 1:
        raise UserError(f"{arguments.profile} steps cannot be traced", where="--profile")
    from gapjax.cli.tensorboard import check_installed
    from gapjax.parallel import from_first, is_first
    from gapjax.parallel.join import expect, join
    from gapjax.selfimprove import Preempted
    from gapjax.selfimprove.framing import dated

    out = resolved(arguments.out)

    def goes_on() -> tuple[bool, bool]:
        """Whether to resume, and whether to write for TensorBoard, as a run that goes on did."""
        # Nothing there yet is a run that was killed early: jobs may always pass --resume.
        resume = arguments.resume and out.is_dir() and any(out.iterdir())
        if resume:
            refuse_links(out)
        else:
            refuse_existing(out, overwrite=arguments.overwrite)
        board = arguments.tensorboard or (resume and (out / "tensorboard").is_dir())
        if board:
            check_installed()
        return resume, board

    termination = Termination()
    join(arguments.coordinator, arguments.processes, arguments.process_id)
    try:
        with termination.heeded(), bound_to_others():
            expect(arguments.expect_processes, arguments.expect_devices)
            resume, board = from_first(goes_on)
            # Where the first process is, since a day may end while others start.
            recipe = from_first(lambda: dated(recipe, out if resume else None))
            _run(
                recipe,
                name,
                out,
                resume=resume,
                quiet=arguments.quiet or not is_first(),
                tensorboard=board and is_first(),
                termination=termination,
                profile=arguments.profile,
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command with --resume goes on") from None
    except Preempted as end:
        print(f"gapjax: told to stop, saved {end}; --resume goes on", file=sys.stderr)
        sys.exit(PREEMPTED)
    except OSError as error:
        where = error.filename or out
        raise UserError(
            f"cannot be written ({error.strerror or error})",
            where=where,
            hint="--resume goes on from the last finished phase",
        ) from error


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


def _run(
    recipe: Recipe,
    name: str,
    out: Path,
    *,
    resume: bool,
    quiet: bool,
    tensorboard: bool,
    termination: Termination,
    profile: int | None,
) -> None:
    from rich.console import Console

    from gapjax import models
    from gapjax.cli.live import Live
    from gapjax.cli.profiling import traced
    from gapjax.cli.tensorboard import TensorBoard
    from gapjax.parallel import from_first, is_first, make_mesh
    from gapjax.selfimprove import (
        Finished,
        Overlong,
        Selected,
        Start,
        Trained,
        self_improve,
    )
    from gapjax.selfimprove.problems import make_source
    from gapjax.selfimprove.run_folder import RunFolder
    from gapjax.selfimprove.speed import Speed

    # No markup: a folder may be called [/x].
    console = Console(quiet=quiet, highlight=False, soft_wrap=True, markup=False, emoji=False)

    def warn(text: str) -> None:
        if is_first():
            print(f"gapjax: warning: {shown(text, 500)}", file=sys.stderr)

    mesh = make_mesh(recipe.parallel.mesh)
    folder: RunFolder | None = None
    replies = Mirror(out / RunFolder.EXTERNAL, fetch=resume and is_first())
    source = make_source(recipe, record=replies.path)
    how: dict[str, Any] = {
        "kept": lambda: folder,
        "source": source,
        "preempted": termination.asked,
    }
    if resume:
        folder = opened = RunFolder.open(out, recipe, warn=warn)
        console.print(f"resuming the run in {shown(out)}")
        step = 0

        def where(initial: TrainState) -> Start:
            nonlocal step
            start = opened.start(initial, warn=warn)
            step = 0 if start.state is None else int(start.state.step)
            return start

        loaded = models.load(recipe.model, dtype=recipe.dtype, mesh=mesh)
        events = self_improve(loaded, recipe, where, **how)
        opening = [next(events)]
    else:
        console.print(f"loading {shown(recipe.model)} and measuring it before training ...")
        step = 0
        loaded = models.load(recipe.model, dtype=recipe.dtype, mesh=mesh)
        # Whatever is wrong with the recipe shows here, before an old run is replaced.
        events = self_improve(loaded, recipe, **how)
        opening = [next(events)]
        if isinstance(opening[0], Overlong):
            opening.append(next(events))
        folder = RunFolder.create(out, recipe, name=name)
    folder.speed = Speed(loaded.config, recipe)
    events = itertools.chain(opening, events)
    with contextlib.ExitStack() as at_the_end:
        if profile is not None:
            traces = at_the_end.enter_context(staged(out / "profile"))
            events = traced(events, profile, traces)
        board = None
        if tensorboard:
            logs = at_the_end.enter_context(staged(out / "tensorboard"))
            board = at_the_end.enter_context(contextlib.closing(TensorBoard(logs, step=step)))
        live = at_the_end.enter_context(Live(console, recipe).shown())
        at_the_end.callback(folder.wait)  # whose checkpoint may be the last thing it does
        for event in events:
            folder.write(event)
            if is_first():
                replies.push()
            termination.training = isinstance(event, Trained | Selected)
            live.show(event)
            if isinstance(event, Finished) and event.epoch == 0:
                warn(f"nothing was trained: {event.reason}")
            if board is not None:
                board.write(event)
    from_first(lambda: _conclude(folder, recipe, out, name, console.print))


def _conclude(
    folder: RunFolder, recipe: Recipe, out: Path, name: str, say: Callable[[str], None]
) -> None:
    """Posterior, pictures and report."""
    from gapjax.posterior import fit
    from gapjax.report import write_report
    from gapjax.report.figures import progress_figure
    from gapjax.report.headline import gain_verdicts
    from gapjax.report.run_files import read_run
    from gapjax.trajectories import MIN_CHECKPOINTS

    trajectory = folder.trajectory
    with staged(out / "plots") as plots:
        progress_figure(trajectory, title=in_picture(name)).savefig(plots / "progress.png", dpi=150)
    if len(trajectory) < MIN_CHECKPOINTS:
        say(f"no posterior: {len(trajectory)} checkpoints, {MIN_CHECKPOINTS} are needed")
    else:
        say("fitting the posterior of the capability limit ...")
        result = fit(trajectory, seed=recipe.seed, group_by=["recipe", "seed"])
        with staged(out / "posterior") as saved:
            result.save(saved)
        limit = result[0].limit["solver"]
        say(
            f"solver limit {limit['q50']:.3g} nats [{limit['q05']:.3g}, {limit['q95']:.3g}]; "
            f"{result.reason}"
        )
    say("writing the report ...")
    write_report(out, seed=recipe.seed)
    say(f"wrote {out}; look at {out / 'report.html'}")
    say(gain_verdicts(read_run(out))[0].text)
