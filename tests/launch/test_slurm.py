"""The SLURM script, read by ShellCheck and run by bash with stand-ins for SLURM's commands."""

from __future__ import annotations

import subprocess

import pytest
import yaml

from gapjax.launch import render
from gapjax.selfimprove import parse_recipe
from tests.launch.jobs import job_for
from tests.launch.tools import check_script, stand_in


@pytest.mark.parametrize("gpus", [0, 8])
def test_bash_and_shellcheck_like_it(tmp_path, gpus):
    script = tmp_path / "job.sh"
    script.write_text(render("slurm", job_for("slurm", gpus_per_node=gpus)))
    check_script(script)


def directives(script):
    lines = [line for line in script.splitlines() if line.startswith("#SBATCH")]
    return dict(line.removeprefix("#SBATCH --").partition("=")[::2] for line in lines)


@pytest.mark.parametrize(("gpus", "tasks"), [(0, 1), (4, 4)])
def test_a_task_for_each_gpu(gpus, tasks):
    script = render("slurm", job_for("slurm", gpus_per_node=gpus, nodes=3, grace=90))
    asked = directives(script)
    assert asked["nodes"] == "3"
    assert asked["ntasks-per-node"] == str(tasks)
    assert asked.get("gpus-per-node") == (str(gpus) if gpus else None)
    assert asked["signal"] == "TERM@90"
    assert "requeue" in asked
    assert f"--expect-processes {3 * tasks} --expect-devices {3 * tasks}" in script


@pytest.mark.parametrize(
    ("status", "state", "requeued"),
    [
        (0, "RUNNING", False),
        (1, "RUNNING", False),
        (2, "RUNNING", False),
        (75, "RUNNING", True),
        (75, "COMPLETING", False),  # cancelled by its owner
    ],
)
def test_only_a_preempted_job_is_queued_again(recipe, tmp_path, status, state, requeued):
    stand_in(tmp_path, "srun", 'printf "%s\\n" "$@" > called; exec "$@"')
    stand_in(tmp_path, "gapjax", f'cp "$2" recipe.yaml; exit {status}')
    stand_in(tmp_path, "squeue", f"echo {state}")
    stand_in(tmp_path, "scontrol", 'echo "$@" > requeued')
    done = subprocess.run(
        ["bash", "-c", render("slurm", job_for("slurm"))],
        cwd=tmp_path,
        env={
            "PATH": f"{tmp_path}:/usr/bin:/bin",
            "SLURM_JOB_ID": "7",
            "SLURM_SUBMIT_DIR": str(tmp_path),
        },
        check=False,
    )
    assert done.returncode == status
    assert (tmp_path / "requeued").exists() is requeued
    if requeued:
        assert (tmp_path / "requeued").read_text() == "requeue 7\n"
    called = (tmp_path / "called").read_text().splitlines()
    assert called[:2] == ["gapjax", "train"]
    assert called[3:6] == ["--out", "runs/an answer's run", "--resume"]
    assert parse_recipe(yaml.safe_load((tmp_path / "recipe.yaml").read_text())) == recipe
