"""The numbers of the gap equations as options."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

Option = tuple[str, float, str]  # destination, default, help

EQUATIONS: tuple[Option, ...] = (
    ("solver0", 12.0, "solver uncertainty at epoch 0, nats"),
    ("verifier0", 8.0, "verifier uncertainty at epoch 0, nats"),
    ("alpha", 1.0, "how strongly the potential moves the solver"),
    ("beta", 0.4, "how strongly it moves the verifier, less than alpha"),
    ("k", 0.5, "slope of the potential"),
    ("b", 0.0, "offset of the potential; the gap tends to b/k"),
    ("exponent", 1.0, "q of the power potential"),
    ("gamma_x", 0.2, "strength of external data"),
)


def add_equation_arguments(parser: argparse.ArgumentParser, more: Iterable[Option]) -> None:
    """Add the options of the equations, the potential, and `more` numbers."""
    for name, default, text in (*EQUATIONS, *more):
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=float,
            default=default,
            metavar="X",
            help=f"{text} (default {default})",
        )
    parser.add_argument("--potential", choices=("linear", "power"), default="linear")
