"""The xpk command, given to xpk itself and to bash."""

from __future__ import annotations

import re

import yaml

from gapjax.launch import SLICES, render
from gapjax.selfimprove import parse_recipe
from tests.launch.jobs import job_for
from tests.launch.tools import check_script, run, stand_in, tool


def test_bash_and_shellcheck_like_it(tmp_path):
    script = tmp_path / "launch.sh"
    script.write_text(render("xpk", job_for("xpk")))
    check_script(script)


def test_xpk_makes_a_job_set_of_it(tmp_path):
    tool("xpk")
    job = job_for("xpk")
    script = tmp_path / "launch.sh"
    manifest = tmp_path / "manifest.yaml"
    dry = f"xpk workload create --dry-run --output-manifest-file {manifest}"
    script.write_text(render("xpk", job).replace("xpk workload create", dry))
    run("bash", str(script))
    spec = yaml.safe_load(manifest.read_text())["spec"]
    job_spec = spec["replicatedJobs"][0]["template"]["spec"]
    pod = job_spec["template"]["spec"]
    assert spec["failurePolicy"]["maxRestarts"] == job.max_restarts
    assert job_spec["parallelism"] == job.slice.hosts
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": job.slice.node_label,
        "cloud.google.com/gke-tpu-topology": job.slice.topology,
    }
    assert pod["terminationGracePeriodSeconds"] == job.grace
    (failing,) = job_spec["podFailurePolicy"]["rules"]
    assert failing["onExitCodes"]["operator"] == "NotIn"
    assert 75 in failing["onExitCodes"]["values"]
    assert f"--out {job.out_path} --resume" in pod["containers"][0]["command"][-1]


def test_xpk_has_the_same_table_of_slices(tmp_path):
    python = run("head", "-n1", tool("xpk")).removeprefix("#!").strip()
    code = (
        "from xpk.core.system_characteristics import UserFacingNameToSystemCharacteristics as T\n"
        "for n, s in T.items(): print(n, s.topology, s.vms_per_slice, s.gke_accelerator)"
    )
    table = {line.split()[0]: line.split()[1:] for line in run(python, "-c", code).splitlines()}
    known = {name: found for name, found in SLICES.items() if name in table}
    assert len(known) > 20
    for name, found in known.items():
        assert [found.topology, str(found.hosts), found.node_label] == table[name]


def test_the_recipe_arrives_and_gapjax_takes_the_place_of_the_shell(recipe, tmp_path):
    stand_in(tmp_path, "xpk", 'printf %s "${@: -1}" > command')
    stand_in(tmp_path, "gapjax", 'cp "$2" recipe.yaml; printf "%s\\n" $$ "$@" > called')
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    run("bash", "-c", render("xpk", job_for("xpk")), cwd=tmp_path, env=environment)
    command = (tmp_path / "command").read_text()
    # In the file system of a host it is /tmp.
    command = command.replace("/tmp/llama", f"{tmp_path}/llama")
    pid = run("bash", "-c", f"echo $$; {command}", cwd=tmp_path, env=environment).strip()
    called = (tmp_path / "called").read_text().splitlines()
    assert called[0] == pid
    assert called[3:] == re.split(
        r" ", "--out gs://a-bucket/runs/first --resume --expect-processes 4 --expect-devices 16"
    )
    assert parse_recipe(yaml.safe_load((tmp_path / "recipe.yaml").read_text())) == recipe
