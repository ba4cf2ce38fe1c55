"""`gapjax simulate`, `fit` and `forecast`: commands about trajectory tables."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

from gapjax.cli.output import add_common_arguments, output_folder, refuse_existing


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Register the commands of this module."""
    _add_simulate(commands)
    _add_fit(commands)
    _add_forecast(commands)


def _add_simulate(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "simulate",
        help="solve the gap equations",
        description="Simulate a run: dU_s/dt = -alpha f(G), dU_v/dt = -beta f(G), G = U_s - U_v.",
    )
    for name, default, text in (
        ("solver0", 12.0, "solver uncertainty at epoch 0, nats"),
        ("verifier0", 8.0, "verifier uncertainty at epoch 0, nats"),
        ("alpha", 1.0, "how strongly the potential moves the solver"),
        ("beta", 0.4, "how strongly it moves the verifier, less than alpha"),
        ("k", 0.5, "slope of the potential"),
        ("b", 0.0, "offset of the potential; the gap tends to b/k"),
        ("exponent", 1.0, "q of the power potential"),
        ("epochs", 10.0, "length of the run"),
        ("every", 0.5, "epochs between checkpoints"),
        ("gamma-x", 0.2, "strength of external data"),
        ("noise", 0.0, "measurement noise, as a share of solver0"),
        ("process-noise", 0.0, "Brownian motion, nats per square root of an epoch"),
    ):
        text += f" (default {default})"
        parser.add_argument(f"--{name}", type=float, default=default, metavar="X", help=text)
    parser.add_argument("--potential", choices=("linear", "power"), default="linear")
    parser.add_argument(
        "--external-shares",
        type=_shares,
        default={},
        metavar="ROUND:SHARE,...",
        help="when external data is used; a jump at round t shows in the checkpoint at t",
    )
    add_common_arguments(parser)
    parser.set_defaults(run=_simulate)


def _add_fit(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "fit",
        help="posterior of the capability limit",
        description="Fit a law to measured trajectories: where are solver and verifier heading?",
    )
    _add_table_arguments(parser)
    parser.add_argument("--law", default="exponential", help="law to fit (default exponential)")
    parser.add_argument("--method", choices=("nuts", "map"), default="nuts", help="default nuts")
    parser.add_argument("--chains", type=int, default=4, metavar="N", help="default 4")
    parser.add_argument("--draws", type=int, default=1000, metavar="N", help="default 1000 a chain")
    add_common_arguments(parser)
    parser.set_defaults(run=_fit)


def _add_forecast(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "forecast",
        help="predict later checkpoints",
        description="Predict the checkpoints after epoch E, up to epoch H, from those up to E.",
    )
    _add_table_arguments(parser)
    parser.add_argument("--until", type=float, required=True, metavar="E", help="last known epoch")
    parser.add_argument("--horizon", type=float, required=True, metavar="H", help="last to predict")
    parser.add_argument("--law", default="stochastic", help="law to use (default stochastic)")
    add_common_arguments(parser)
    parser.set_defaults(run=_forecast)


def _add_table_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="trajectory table")
    parser.add_argument(
        "--solver-column", default="solver_uncertainty", metavar="NAME", help="column of U_s"
    )
    parser.add_argument(
        "--verifier-column", default="verifier_uncertainty", metavar="NAME", help="column of U_v"
    )
    parser.add_argument(
        "--group-by",
        type=lambda text: [name.strip() for name in text.split(",") if name.strip()],
        metavar="NAME[,NAME]",
        help="label columns (default: every text column, and seed)",
    )


def _shares(text: str) -> dict[int, float]:
    shares: dict[int, float] = {}
    for item in text.split(","):
        number, colon, share = item.partition(":")
        if not colon or int(number) in shares:
            raise ValueError(text)
        shares[int(number)] = float(share)
    return shares


_shares.__name__ = "list of ROUND:SHARE"  # argparse names it in its complaint


def _simulate(arguments: argparse.Namespace) -> None:
    refuse_existing(arguments.out, overwrite=arguments.overwrite)
    from gapjax import trajectories
    from gapjax.dynamics.plots import simulation_figure
    from gapjax.dynamics.runs import RunSettings, simulate_run

    options = vars(arguments)
    settings = RunSettings(**{f.name: options[f.name] for f in fields(RunSettings)})
    run = simulate_run(settings)
    with output_folder(arguments.out, overwrite=arguments.overwrite) as folder:
        trajectories.write(run.frame, folder / "trajectory.csv")
        (curve,) = trajectories.read(run.frame)
        title = f"Simulated run, {settings.potential} potential ({run.method})"
        figure = simulation_figure(curve, run.limit, settings.external_shares, title)
        figure.savefig(folder / "plot.png", dpi=150)
    if not arguments.quiet:
        print(
            f"solver {settings.solver0:g} -> {curve.solver[-1]:.4g} nats after "
            f"{settings.epochs:g} epochs, limit {float(run.limit.solver):.4g} ({run.method})"
        )
        print(f"wrote {arguments.out}")


def _fit(arguments: argparse.Namespace) -> None:
    refuse_existing(arguments.out, overwrite=arguments.overwrite)
    from gapjax import trajectories
    from gapjax.posterior import fit
    from gapjax.posterior.families import family_named

    family_named(arguments.law)  # complain before the compiler starts
    curves = trajectories.read(
        arguments.files,
        solver_column=arguments.solver_column,
        verifier_column=arguments.verifier_column,
        group_by=arguments.group_by,
    )
    with output_folder(arguments.out, overwrite=arguments.overwrite) as folder:
        with _progress(f"fitting {len(curves)} curve(s)", quiet=arguments.quiet) as progress:
            result = fit(
                curves,
                arguments.law,
                method=arguments.method,
                seed=arguments.seed,
                chains=arguments.chains,
                draws=arguments.draws,
                progress=progress,
            )
        result.save(folder)
    if not arguments.quiet:
        for curve in result:
            limit = curve.limit["solver"]
            print(
                f"{curve.curve.name}: solver limit {limit['q50']:.4g} nats "
                f"[{limit['q05']:.4g}, {limit['q95']:.4g}]; {curve.reason}"
            )
        print(f"wrote {arguments.out}")


def _forecast(arguments: argparse.Namespace) -> None:
    refuse_existing(arguments.out, overwrite=arguments.overwrite)
    import pandas as pd

    from gapjax import trajectories
    from gapjax.posterior import fit
    from gapjax.posterior.families import family_named
    from gapjax.posterior.forecast import forecast_table, horizon_epochs
    from gapjax.posterior.plots import forecast_figure

    family_named(arguments.law)
    curves = trajectories.read(
        arguments.files,
        solver_column=arguments.solver_column,
        verifier_column=arguments.verifier_column,
        group_by=arguments.group_by,
    )
    ahead = [horizon_epochs(curve, arguments.until, arguments.horizon) for curve in curves]
    known = trajectories.Trajectories(tuple(curve.until(arguments.until) for curve in curves))
    with output_folder(arguments.out, overwrite=arguments.overwrite) as folder:
        with _progress(f"fitting {len(curves)} curve(s)", quiet=arguments.quiet) as progress:
            result = fit(known, arguments.law, seed=arguments.seed, progress=progress)
        tables = [
            forecast_table(curve, epochs, seed=arguments.seed)
            for curve, epochs in zip(result, ahead, strict=True)
        ]
        trajectories.write(pd.concat(tables), folder / "forecast.csv")
        (folder / "plots").mkdir()
        for number, (curve, table, whole) in enumerate(
            zip(result, tables, curves, strict=True), start=1
        ):
            suffix = f"-{number}" if len(curves) > 1 else ""
            figure = forecast_figure(curve, table, whole)
            figure.savefig(folder / "plots" / f"forecast{suffix}.png", dpi=150)
    if not arguments.quiet:
        for curve in result:
            if not curve.converged:
                print(f"{curve.curve.name}: not converged: {'; '.join(curve.failures)}")
        print(f"wrote {arguments.out}")


@contextmanager
def _progress(title: str, *, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on a terminal, a few plain lines elsewhere, nothing when quiet."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True)) as bar:
            task = bar.add_task(title, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
    else:

        def report(done: int, total: int) -> None:
            # A line at the start and for each quarter that was completed.
            if done * 4 // total > (done - 1) * 4 // total:
                print(f"{title}: {100 * done // total}%", file=sys.stderr, flush=True)

        yield report
