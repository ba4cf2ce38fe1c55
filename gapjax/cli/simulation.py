"""`gapjax simulate`: the gap equations from the shell."""

from __future__ import annotations

import argparse
from dataclasses import fields

from gapjax.cli.equations import add_equation_arguments
from gapjax.cli.output import add_common_arguments, output_folder, refuse_existing


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Register the command of this module."""
    parser = commands.add_parser(
        "simulate",
        help="solve the gap equations",
        description="Simulate a run: dU_s/dt = -alpha f(G), dU_v/dt = -beta f(G), G = U_s - U_v.",
    )
    add_equation_arguments(
        parser,
        (
            ("epochs", 10.0, "length of the run"),
            ("every", 0.5, "epochs between checkpoints"),
            ("noise", 0.0, "measurement noise, as a share of solver0"),
            ("process_noise", 0.0, "Brownian motion, nats per square root of an epoch"),
        ),
    )
    parser.add_argument(
        "--external-shares",
        type=_shares,
        default={},
        metavar="ROUND:SHARE,...",
        help="when external data is used; a jump at round t shows in the checkpoint at t",
    )
    add_common_arguments(parser)
    parser.set_defaults(run=_simulate)


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
