"""A job for each target, with a recipe that tries its quoting."""

from __future__ import annotations

from unittest import mock

from gapjax.launch import Job, make_job, render
from gapjax.selfimprove import parse_recipe

RECIPE = {
    "model": "meta-llama/Llama-3.1-8B-Instruct",
    "dtype": "bfloat16",
    # What shells, YAML and here-documents like to trip over.
    "task": {"digits": 2, "template": 'What\'s $HOME {a}+{b}?\n"Só" `id`: \\n\t'},
    "sampling": {"stop": ["\n", "END_OF_RECIPE"]},
}
OPTIONS = {
    "gke": {"image": "us-docker.pkg.dev/a-project/images/gapjax:1", "spot": True},
    "xpk": {
        "image": "us-docker.pkg.dev/a-project/images/gapjax:1",
        "cluster": "a-cluster",
        "project": "a-project",
        "zone": "us-west4-a",
    },
    "skypilot": {"spot": True, "accelerator": "v6e-32"},
    "slurm": {"nodes": 2, "gpus_per_node": 4, "out_path": "runs/an answer's run"},
}
SUFFIXES = {"gke": "yaml", "xpk": "sh", "skypilot": "yaml", "slurm": "sh"}


def job_for(target: str, **options) -> Job:
    """The job of a target, some of its options replaced."""
    chosen = {"out_path": "gs://a-bucket/runs/first", **OPTIONS[target], **options}
    return make_job(parse_recipe(RECIPE), "llama_8b", **chosen)


def render_frame(target: str) -> str:
    """The job file around the recipe, which has a new field now and then."""
    with mock.patch(f"gapjax.launch.{target}.recipe_to_yaml", return_value="the: recipe\n"):
        return render(target, job_for(target))
