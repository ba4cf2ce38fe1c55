"""`gapjax report`: rebuild the page of a run."""

from __future__ import annotations

import argparse

from gapjax.paths import Path


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Register the command of this module."""
    parser = commands.add_parser(
        "report",
        help="rebuild report.html of a run",
        description="Write report.html into the folder of a run, finished or not, from its files.",
    )
    parser.add_argument("run_folder", type=Path, metavar="DIR", help="what gapjax train wrote")
    parser.add_argument("--seed", type=int, default=0, help="of the fits (default 0)")
    parser.add_argument("--quiet", action="store_true", help="no progress, only errors")
    parser.set_defaults(run=_report)


def _report(arguments: argparse.Namespace) -> None:
    from gapjax.report import write_report

    path = write_report(arguments.run_folder, seed=arguments.seed)
    if not arguments.quiet:
        print(f"wrote {path}")
