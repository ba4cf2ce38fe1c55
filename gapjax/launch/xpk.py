"""xpk, the short way to GKE: one command, which writes a JobSet of its own."""

from __future__ import annotations

import base64
import shlex

from gapjax.launch.job import PREEMPTED, Job, refuse_local_files
from gapjax.selfimprove.recipe import recipe_to_yaml


def render(job: Job) -> str:
    """A shell script with an `xpk workload create` command.

    xpk pastes the command into YAML, which many lines would not survive: the recipe is in
    it as base64. `exec` lets the signal of a preemption reach gapjax.

    **Raises:** `UserError` if the recipe or the output would not be on the hosts.
    """
    refuse_local_files(job)
    recipe = f"/tmp/{job.recipe_name}.yaml"
    text = base64.b64encode(recipe_to_yaml(job.recipe).encode()).decode()
    train = job.command(recipe, processes=job.slice.hosts, devices=job.slice.chips)
    path = shlex.quote(recipe)
    command = f"echo {text} | base64 -d > {path} && exec {shlex.join(train)}"
    options = {
        "workload": job.name,
        "cluster": job.cluster,
        "project": job.project,
        "zone": job.zone,
        "tpu-type": job.slice.name,
        "docker-image": job.image,
        "max-restarts": str(job.max_restarts),
        "restart-on-exit-codes": str(PREEMPTED),
        "termination-grace-period-seconds": str(job.grace),
        "command": command,
    }
    lines = [f"  --{name} {shlex.quote(value)}" for name, value in options.items() if value]
    return "\n".join(["#!/bin/bash", "xpk workload create \\", " \\\n".join(lines), ""])
