"""The SkyPilot task, given to SkyPilot itself and to bash."""

from __future__ import annotations

import json
import os

import yaml

from gapjax.launch import SLICES, render
from gapjax.selfimprove import parse_recipe
from tests.launch.jobs import job_for
from tests.launch.tools import check_script, run, stand_in, tool

CODE = """
import json, sky, sys
(found,) = sky.Task.from_yaml(sys.argv[1]).resources
print(json.dumps([str(found.cloud), found.accelerators, found.accelerator_args, found.use_spot,
                  found.job_recovery]))
"""


def test_skypilot_reads_it(tmp_path):
    python = run("head", "-n1", tool("sky")).removeprefix("#!").strip()
    task = tmp_path / "task.yaml"
    job = job_for("skypilot")
    task.write_text(render("skypilot", job))
    # SkyPilot keeps its state at home.
    environment = {**os.environ, "HOME": str(tmp_path), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
    answer = run(python, "-c", CODE, str(task), env=environment).splitlines()[-1]
    cloud, accelerators, arguments, spot, recovery = json.loads(answer)
    assert cloud == "GCP"
    assert accelerators == {"tpu-v6e-32": 1}
    assert arguments == {"runtime_version": "v2-alpha-tpuv6e"}
    assert spot is True
    assert recovery["recover_on_exit_codes"] == [75]
    assert recovery["max_restarts_on_errors"] == job.max_restarts


def test_bash_and_shellcheck_like_its_scripts(tmp_path):
    task = yaml.safe_load(render("skypilot", job_for("skypilot")))
    for part in ("setup", "run"):
        script = tmp_path / part
        script.write_text(f"#!/bin/bash\n{task[part]}")
        check_script(script)


def test_the_recipe_arrives(recipe, tmp_path):
    folder = tmp_path / "gapjax-environment/bin"
    folder.mkdir(parents=True)
    stand_in(folder, "gapjax", 'cp "$2" recipe.yaml; echo "$@"; exit 75')
    task = yaml.safe_load(render("skypilot", job_for("skypilot")))
    script = f"({task['run']}) || echo $?"
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    arguments, status = run("bash", "-c", script, cwd=tmp_path, env=environment).splitlines()
    assert status == "75"
    assert arguments.endswith(f"--resume --expect-devices {SLICES['v6e-32'].chips}")
    assert parse_recipe(yaml.safe_load((tmp_path / "recipe.yaml").read_text())) == recipe
