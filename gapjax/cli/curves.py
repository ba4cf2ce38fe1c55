"""`gapjax fit`, `forecast` and `compare`: commands that read trajectory tables."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gapjax.cli.output import add_common_arguments, output_folder, refuse_existing


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Register the commands of this module."""
    _add_fit(commands)
    _add_forecast(commands)
    _add_compare(commands)


def _add_fit(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "fit",
        help="posterior of the capability limit",
        description="Fit a law to measured trajectories: where are solver and verifier heading?",
    )
    _add_table_arguments(parser)
    parser.add_argument("--law", default="exponential", help="law to fit (default exponential)")
    parser.add_argument(
        "--method",
        choices=("nuts", "map", "smc"),
        help="default nuts, and smc for the law stochastic",
    )
    parser.add_argument("--chains", type=int, default=4, metavar="N", help="default 4")
    parser.add_argument("--draws", type=int, metavar="N", help="a chain (default 1000, smc 500)")
    parser.add_argument(
        "--pictures",
        action=argparse.BooleanOptionalAction,
        help="of each curve, beside that of all limits (default: of a dozen curves at most)",
    )
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


def _add_compare(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "compare",
        help="score laws on held-out checkpoints",
        description="Fit the beginning of every curve under each law and score the rest.",
    )
    _add_table_arguments(parser)
    parser.add_argument(
        "--laws",
        type=_names,
        metavar="LAW[,LAW]",
        help="laws to compare (default exponential, power, stochastic, persistence); "
        "their mixture is added",
    )
    add_common_arguments(parser)
    parser.set_defaults(run=_compare)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


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
        type=_names,
        metavar="NAME[,NAME]",
        help="label columns (default: every text column, and seed)",
    )


def _fit(arguments: argparse.Namespace) -> None:
    refuse_existing(arguments.out, overwrite=arguments.overwrite)
    from gapjax import trajectories
    from gapjax.posterior import fit
    from gapjax.posterior.catalogue import model_named

    model_named(arguments.law)  # complain before the compiler starts
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
        result.save(folder, pictures=arguments.pictures)
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
    from gapjax.posterior.catalogue import model_named
    from gapjax.posterior.forecast import forecast_table, horizon_epochs
    from gapjax.posterior.plots import forecast_figure

    model_named(arguments.law)
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


def _compare(arguments: argparse.Namespace) -> None:
    refuse_existing(arguments.out, overwrite=arguments.overwrite)
    import json

    from gapjax import trajectories
    from gapjax.posterior.compare import CANDIDATES, compare, verdict

    with output_folder(arguments.out, overwrite=arguments.overwrite) as folder:
        scores = compare(
            arguments.files,
            laws=arguments.laws or CANDIDATES,
            seed=arguments.seed,
            progress=lambda law: _progress(f"fitting {law}", quiet=arguments.quiet),
            solver_column=arguments.solver_column,
            verifier_column=arguments.verifier_column,
            group_by=arguments.group_by,
        )
        found = verdict(scores)
        trajectories.write(scores, folder / "scores.csv")
        (folder / "summary.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if not arguments.quiet:
        for law in found["ranking"]:
            row = found["laws"][law]
            print(f"{law}: CRPS {row['crps']:.4f}, 80% interval covers {row['coverage_80']:.0%}")
        print(f"best: {found['best']}")
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
