"""`gapjax plan`: when to use external data, and for how long to train; or on what hardware."""

from __future__ import annotations

import argparse
import json

from gapjax.cli.equations import EQUATIONS, add_equation_arguments
from gapjax.cli.hardware import add_hardware_arguments, plan_hardware, refuse_hardware_arguments
from gapjax.cli.output import add_common_arguments, output_folder, refuse_existing


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Register the command of this module."""
    parser = commands.add_parser(
        "plan",
        help="allocate external data and rounds; with --hardware, estimate time and memory",
        description="Spread external data over the rounds so that the solver ends best; or, with "
        "--hardware, estimate the time and memory of a round on a slice of TPUs.",
    )
    add_equation_arguments(
        parser,
        (
            ("decay", 0.0, "gamma-x shrinks by exp(-decay) each round"),
            ("price", 0.0, "what a round costs, in nats; the run is then as long as it pays"),
        ),
    )
    parser.add_argument(
        "--rounds", type=int, default=10, metavar="N", help="longest run considered (default 10)"
    )
    parser.add_argument(
        "--objective",
        choices=("final", "limit"),
        default="final",
        help="the solver at the end of the run, or its limit from there on (default final)",
    )
    add_hardware_arguments(parser)
    add_common_arguments(parser)
    parser.set_defaults(run=_plan)


def _plan(arguments: argparse.Namespace) -> None:
    if arguments.hardware is not None:
        plan_hardware(arguments)
        return
    refuse_hardware_arguments(arguments)
    refuse_existing(arguments.out, overwrite=arguments.overwrite)
    from gapjax.dynamics.plans import PlanSettings, plan_run
    from gapjax.dynamics.plots import plan_figure
    from gapjax.dynamics.runs import RunSettings

    options = vars(arguments)
    equations = {name: options[name] for name, _, _ in EQUATIONS}
    settings = PlanSettings(
        run=RunSettings(**equations, potential=arguments.potential),
        rounds=arguments.rounds,
        decay=arguments.decay,
        objective=arguments.objective,
        price=arguments.price,
    )
    plan = plan_run(settings)
    with output_folder(arguments.out, overwrite=arguments.overwrite) as folder:
        text = json.dumps(plan.to_dict(), indent=2)
        (folder / "plan.json").write_text(text + "\n", encoding="utf-8")
        (folder / "plots").mkdir()
        plan_figure(plan).savefig(folder / "plots/plan.png", dpi=150)
    if not arguments.quiet:
        shares = ", ".join(f"{share:.0%} in round {t}" for t, share in plan.shares.items())
        compared = ", ".join(f"{n} {v:.4g}" for n, v in plan.solver.items() if n != "planned")
        what = "limit" if arguments.objective == "limit" else f"after {plan.rounds} rounds"
        print(f"external data: {shares}")
        print(f"solver {what}: {plan.solver['planned']:.4g} nats ({compared})")
        print(f"wrote {arguments.out}")
