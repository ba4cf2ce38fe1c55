"""The GKE manifest, checked by the schemas of Kubernetes and JobSet."""

from __future__ import annotations

import copy
import re

import pytest
import yaml

from gapjax.errors import UserError
from gapjax.launch import SLICES, make_job, render
from gapjax.selfimprove import parse_recipe
from tests.launch.jobs import job_for

KUBERNETES = "1.34"


@pytest.fixture
def manifest():
    config_map, job_set = yaml.safe_load_all(render("gke", job_for("gke")))
    return config_map, job_set


def child_job(job_set):
    """What JobSet makes of its template."""
    template = job_set["spec"]["replicatedJobs"][0]["template"]
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "child"}, **template}


def test_kubernetes_knows_every_field(manifest):
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    config_map, job_set = manifest
    kubernetes_validate.validate(config_map, KUBERNETES, strict=True)
    job = child_job(job_set)
    kubernetes_validate.validate(job, KUBERNETES, strict=True)
    wrong = copy.deepcopy(job)
    wrong["spec"]["template"]["spec"]["nodeSelectors"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="nodeSelectors"):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


def test_job_set_knows_every_field(manifest):
    models = pytest.importorskip("kubeflow_trainer_api.models")
    _, job_set = manifest
    # Fields that the models do not know are dropped on the way.
    assert models.JobsetV1alpha2JobSet.from_dict(job_set).to_dict() == job_set


def test_the_recipe_travels_to_the_letter(manifest, recipe):
    config_map, job_set = manifest
    pod = child_job(job_set)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (mount,) = container["volumeMounts"]
    (volume,) = pod["volumes"]
    assert volume["name"] == mount["name"]
    assert volume["configMap"]["name"] == config_map["metadata"]["name"]
    ((file, text),) = config_map["data"].items()
    assert container["command"][2] == f"{mount['mountPath']}/{file}"
    assert parse_recipe(yaml.safe_load(text)) == recipe


def test_every_chip_of_the_slice_is_asked_for_once(recipe):
    for name, pod_slice in SLICES.items():
        job = make_job(recipe, "r", image="i", out_path="gs://b/r", accelerator=name)
        _, job_set = yaml.safe_load_all(render("gke", job))
        spec = child_job(job_set)["spec"]
        container = spec["template"]["spec"]["containers"][0]
        chips = container["resources"]["limits"]["google.com/tpu"]
        assert spec["parallelism"] == spec["completions"]
        assert spec["parallelism"] * chips == pod_slice.chips
        processes, devices = (
            int(container["command"][container["command"].index(option) + 1])
            for option in ("--expect-processes", "--expect-devices")
        )
        assert (processes, devices) == (spec["completions"], pod_slice.chips)


def policy(job_set, failure):
    """What JobSet does, by its documented rules: the first rule that fits, or a restart."""
    for rule in job_set["spec"]["failurePolicy"]["rules"]:
        patterns = rule.get("onJobFailureMessagePatterns", [""])
        fits = any(re.search(pattern, failure["message"]) for pattern in patterns)
        if failure["reason"] in rule["onJobFailureReasons"] and fits:
            return rule["action"]
    return "RestartJobSet"


def job_failure(job_set, *, status=None, disrupted=False):
    """How Kubernetes fails a Job, in its words, when a pod ends like this."""
    for index, rule in enumerate(child_job(job_set)["spec"]["podFailurePolicy"]["rules"]):
        where = f"matching {rule['action']} rule at index {index}"
        if status in rule.get("onExitCodes", {"values": []})["values"]:
            message = f"Container gapjax for pod default/x-1 failed with exit code {status} {where}"
            return {"reason": "PodFailurePolicy", "message": message}
        if disrupted and "onPodConditions" in rule:
            message = f"Pod default/x-1 has condition DisruptionTarget {where}"
            return {"reason": "PodFailurePolicy", "message": message}
    return {"reason": "BackoffLimitExceeded", "message": "Job has reached its backoff limit"}


@pytest.mark.parametrize(
    ("end", "action"),
    [
        ({"status": 75}, "RestartJobSetAndIgnoreMaxRestarts"),
        ({"status": 143, "disrupted": True}, "RestartJobSetAndIgnoreMaxRestarts"),
        ({"status": 1}, "RestartJobSet"),
        ({"status": 137}, "RestartJobSet"),
        ({"status": 2}, "FailJobSet"),
    ],
)
def test_what_follows_the_end_of_a_pod(manifest, end, action):
    _, job_set = manifest
    assert policy(job_set, job_failure(job_set, **end)) == action


def test_spot_nodes_are_asked_for_only_on_request():
    for spot in (True, False):
        _, job_set = yaml.safe_load_all(render("gke", job_for("gke", spot=spot)))
        pod = child_job(job_set)["spec"]["template"]["spec"]
        tolerated = [toleration["key"] for toleration in pod["tolerations"]]
        assert ("cloud.google.com/gke-spot" in pod["nodeSelector"]) is spot
        assert ("cloud.google.com/gke-spot" in tolerated) is spot


@pytest.mark.parametrize("target", ["gke", "xpk", "skypilot"])
@pytest.mark.parametrize(
    "raw",
    [
        {"task": {"name": "gsm8k", "file": "train.jsonl"}},
        {"task": {"name": "gsm8k", "file": "/data/train.jsonl", "held_out_file": "test.jsonl"}},
        {"external": {"file": "answers.jsonl"}},
        {"model": "./my-model"},
        {"model": "models/model.gguf"},
    ],
)
def test_files_that_would_not_be_there_are_refused(target, raw):
    job = make_job(parse_recipe(raw), "r", out_path="gs://b/r", image="i", cluster="c")
    with pytest.raises(UserError, match="hosts"):
        render(target, job)


@pytest.mark.parametrize("target", ["gke", "xpk", "skypilot"])
def test_results_that_would_be_lost_are_refused(target):
    with pytest.raises(UserError, match="gs://"):
        render(target, job_for(target, out_path="runs/first"))
