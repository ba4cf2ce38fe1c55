"""`gapjax`: parse, dispatch, and turn the user's mistakes into one line and status 2."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from gapjax import __version__
from gapjax.errors import UserError

# Each module has `add_parsers(commands)`, which registers its commands with
# `parser.set_defaults(run=...)`.  Heavy imports belong inside the `run` functions,
# so that `gapjax --help` answers at once.
_COMMAND_MODULES = (
    "gapjax.cli.simulation",
    "gapjax.cli.curves",
    "gapjax.cli.planning",
    "gapjax.cli.models",
    "gapjax.cli.training",
    "gapjax.cli.launch",
    "gapjax.cli.report",
)

_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


class _Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose complaints are one line, like all others."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message, hint=f"see `{self.prog} --help`")


def _build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="gapjax",
        description="The solver-verifier gap of self-improving language models.",
    )
    parser.add_argument("--version", action="version", version=f"gapjax {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in _COMMAND_MODULES:
        importlib.import_module(name).add_parsers(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    **Returns:** the exit status: 0 done, 2 the user's input is at fault (one line on
    standard error).  A defect of ours raises, which Python reports with status 1.
    """
    try:
        parser = _build_parser()
        arguments, overrides = parser.parse_known_args(argv)
        if overrides and not getattr(arguments, "takes_overrides", False):
            parser.error(f"unrecognized arguments: {' '.join(overrides)}")
        arguments.overrides = overrides
        arguments.run(arguments)
    except UserError as error:
        print(f"gapjax: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as end:
        # A command that can go on says how.
        print("; ".join(["gapjax: interrupted", *map(str, end.args)]), file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        # `gapjax fit ... | head` closed our output: not an error, and not our defect.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
