"""`gapjax launch`: print the job file that runs a recipe on a pod or a cluster."""

from __future__ import annotations

import argparse
from pathlib import Path

from gapjax.errors import UserError
from gapjax.paths import write_text

# The targets and their options are known without importing what renders them.
_TARGETS = ("gke", "xpk", "skypilot", "slurm")
_OPTIONS = {
    "--out-path": ("PATH", str, "what the run gets as --out, as gs://BUCKET/FOLDER"),
    "--image": ("IMAGE", str, "container image with gapjax in it (gke, xpk)"),
    "--package": ("SPEC", str, "what pip installs (skypilot; default gapjax[tpu,gcs])"),
    "--accelerator": ("TYPE", str, "TPU slice (gke, xpk, skypilot; default v5litepod-16)"),
    "--cluster": ("NAME", str, "the cluster (xpk)"),
    "--project": ("ID", str, "Google Cloud project (xpk)"),
    "--zone": ("ZONE", str, "zone of the slice (xpk, skypilot)"),
    "--nodes": ("N", int, "nodes (slurm; default 1)"),
    "--gpus-per-node": ("N", int, "GPUs of a node, each with its process (slurm; default 8)"),
    "--max-restarts": ("N", int, "restarts after failures, preemptions aside (default 10)"),
    "--grace": ("SECONDS", int, "time to save in after a notice (default 300)"),
}


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Register the command of this module."""
    parser = commands.add_parser(
        "launch",
        help="job files for GKE, xpk, SkyPilot and SLURM",
        description="Print the job file that runs a recipe on many hosts. Nothing is submitted. "
        "The recipe is validated and travels in the file; every field can be overridden, as in "
        "`--train.learning_rate 1e-5`.",
    )
    parser.add_argument("recipe", metavar="RECIPE.yaml", help="or a bundled one, as for train")
    parser.add_argument(
        "--print", dest="target", choices=_TARGETS, required=True, help="what to print it for"
    )
    parser.add_argument("--name", help="of the job (default: the recipe's)")
    for option, (metavar, kind, text) in _OPTIONS.items():
        parser.add_argument(option, metavar=metavar, type=kind, help=text)
    parser.add_argument(
        "--spot",
        action="store_true",
        default=None,
        help="cheaper machines that may be taken away (gke, skypilot)",
    )
    parser.add_argument("--seed", type=int, help="in place of the recipe's")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it there instead")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE")
    parser.set_defaults(run=_launch, takes_overrides=True)


def _launch(arguments: argparse.Namespace) -> None:
    from gapjax.cli.training import read_recipe_argument
    from gapjax.launch import TARGETS, make_job, render

    target = TARGETS[arguments.target]
    given = {option: getattr(arguments, _field(option)) for option in (*_OPTIONS, "--spot")}
    options = {_field(option): value for option, value in given.items() if value is not None}
    for option in given:
        if _field(option) in target.required - options.keys():
            raise UserError(f"{option} is required for {arguments.target}")
        if _field(option) in options.keys() - target.required - target.optional:
            raise UserError(f"{option} means nothing to {arguments.target}")
    recipe, recipe_name = read_recipe_argument(arguments)
    if arguments.name is not None:
        options["name"] = arguments.name
    job = make_job(recipe, recipe_name, **options)
    text = render(arguments.target, job)
    if arguments.out is None:
        print(text, end="")
        return
    if arguments.out.exists() and not arguments.overwrite:
        raise UserError("exists", where=arguments.out, hint="pass --overwrite to replace it")
    try:
        write_text(arguments.out, text)
    except OSError as error:
        raise UserError(f"cannot be written ({error.strerror})", where=arguments.out) from error


def _field(option: str) -> str:
    return option.removeprefix("--").replace("-", "_")
