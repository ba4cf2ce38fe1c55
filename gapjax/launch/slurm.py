"""SLURM: a batch script, for clusters with a shared file system."""

from __future__ import annotations

import shlex
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gapjax.launch.job import PREEMPTED, Job
from gapjax.launch.manifest import here_document
from gapjax.selfimprove.recipe import recipe_to_yaml


def render(job: Job) -> str:
    """A script for `sbatch`, to be submitted where gapjax is installed.

    JAX gives each task the one GPU of its rank (`SLURM_LOCALID`), so that there is a task
    for each GPU; without GPUs there is one for each node.
    """
    # Scripts are not HTML, and what comes from outside is quoted for the shell.
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    tasks = max(job.gpus_per_node, 1)
    # The path is the shell's variable; everything else is quoted.
    arguments = job.command("", processes=job.nodes * tasks, devices=job.nodes * tasks)[3:]
    return environment.get_template("slurm.sh.j2").render(
        job=job,
        tasks=tasks,
        folder=f'"$SLURM_SUBMIT_DIR/{job.name}-$SLURM_JOB_ID"',
        recipe_file=shlex.quote(f"{job.recipe_name}.yaml"),
        recipe=here_document(recipe_to_yaml(job.recipe), '"$recipe"'),
        arguments=shlex.join(arguments),
        preempted=PREEMPTED,
    )
