"""What is to run, checked here because the cluster would only complain much later."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gapjax.errors import UserError
from gapjax.launch.slices import SLICES, Slice, find_slice

if TYPE_CHECKING:
    from gapjax.selfimprove.recipe import Recipe

# `gapjax train` ends with this status (EX_TEMPFAIL of sysexits.h) when it was told to stop
# and has saved: whoever started it should start it again.
PREEMPTED = 75
MISTAKE = 2  # the user's: starting it again would not help

# Pods are called NAME-slice-0-63-abcde, and a DNS label has at most 63 characters (RFC 1035).
_LONGEST_NAME = 40
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run and where it runs. Not every target has a use for every field."""

    recipe: Recipe
    recipe_name: str  # of its file; the run's trajectory is labelled with it
    name: str
    out_path: str  # as `gapjax train --out` takes it
    image: str = ""  # a container image with gapjax in it
    package: str = "gapjax[tpu,gcs]"  # what pip installs where there is no image
    slice: Slice = SLICES["v5litepod-16"]
    spot: bool = False  # machines that are cheaper and may be taken away
    nodes: int = 1
    gpus_per_node: int = 8
    cluster: str = ""
    project: str = ""
    zone: str = ""
    max_restarts: int = 10  # after failures; preemptions do not count
    grace: int = 300  # seconds between the notice and the end, to save in

    def command(self, recipe: str, *, processes: int | None, devices: int) -> list[str]:
        """The command of every host, given where the recipe lies there."""
        command = ["gapjax", "train", recipe, "--out", self.out_path, "--resume"]
        if processes is not None:
            command += ["--expect-processes", str(processes)]
        return [*command, "--expect-devices", str(devices)]


def make_job(recipe: Recipe, recipe_name: str, **options: object) -> Job:
    """A job from a validated recipe and what was asked for; its name defaults to the recipe's,
    its output to a folder of that name.

    **Arguments:**

    - `options`: fields of `Job`, with `accelerator` (a name) in place of `slice`.

    **Raises:** `UserError` for a name that Kubernetes would refuse, an unknown accelerator,
    or a number out of range.
    """
    default = re.sub(r"[^a-z0-9]+", "-", recipe_name.lower()).strip("-")
    name = str(options.pop("name", default))
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise UserError(
            f"{name!r} cannot be the name of a job",
            hint=f"--name: a letter, then a-z, 0-9 and -, {_LONGEST_NAME} in all, no - at the end",
        )
    accelerator = options.pop("accelerator", None)
    if accelerator is not None:
        options["slice"] = find_slice(str(accelerator))
    for field, least in (("nodes", 1), ("gpus_per_node", 0), ("max_restarts", 0), ("grace", 1)):
        number = options.get(field)
        if isinstance(number, int) and number < least:
            option = field.replace("_", "-")
            raise UserError(f"--{option} must be at least {least}, not {number}")
    for field in ("image", "package", "out_path", "cluster", "project", "zone"):
        text = str(options.get(field, "-"))
        # Folders may have spaces in them, and a requirement may be "gapjax @ https://…".
        spaces = field != "out_path" and " " in text.replace(" @ ", "@")
        if not text or spaces or not text.isprintable():
            raise UserError(f"--{field.replace('_', '-')} {text!r} cannot be")
    options.setdefault("out_path", f"runs/{name}")
    return Job(recipe=recipe, recipe_name=recipe_name, name=name, **options)  # type: ignore[arg-type]


def refuse_local_files(job: Job) -> None:
    """Raise `UserError` if the recipe needs files of this machine, which the hosts lack."""
    files = {
        "task.file": job.recipe.task.file,
        "task.held_out_file": job.recipe.task.held_out_file,
        "external.file": job.recipe.external.file,
        # Built-in names and hub ids are no paths.
        "model": job.recipe.model if Path(job.recipe.model).suffix == ".gguf" else None,
    }
    if job.recipe.model.startswith("."):
        files["model"] = job.recipe.model
    for field, file in files.items():
        if file is not None and "://" not in file and not Path(file).is_absolute():
            raise UserError(
                f"{field}: {file} is relative to this machine's folder, and the hosts lack it",
                hint="name the absolute path at which the hosts have it, e.g. in the image",
            )
    if not job.out_path.startswith("gs://"):
        raise UserError(
            f"--out-path {job.out_path} would be lost with the hosts", hint="gs://BUCKET/FOLDER"
        )
