"""Google Kubernetes Engine: a JobSet on one TPU slice, and its recipe in a ConfigMap."""

from __future__ import annotations

from typing import Any

from gapjax.launch.job import MISTAKE, PREEMPTED, Job, refuse_local_files
from gapjax.launch.manifest import to_yaml
from gapjax.selfimprove.recipe import recipe_to_yaml

_FOLDER = "/etc/gapjax"
_CONTAINER = "gapjax"
_CHIPS = "google.com/tpu"
_SPOT = "cloud.google.com/gke-spot"


def render(job: Job) -> str:
    """Two YAML documents, for `kubectl apply -f`.

    Hosts of a slice can only go on together, so that whatever happens to one pod ends the
    Job, and the JobSet starts all pods anew when the old ones are gone: as often as it takes
    after a preemption, `max_restarts` times after a failure, and never after a mistake.

    **Raises:** `UserError` if the recipe or the output would not be on the hosts.
    """
    refuse_local_files(job)
    return to_yaml(
        _recipe(job),
        _job_set(job),
        comment="kubectl apply -f THIS_FILE (JobSet 0.10 or newer has to be in the cluster)",
    )


def _recipe(job: Job) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"{job.name}-recipe"},
        "immutable": True,  # what is resumed is what was started
        "data": {f"{job.recipe_name}.yaml": recipe_to_yaml(job.recipe)},
    }


def _job_set(job: Job) -> dict[str, Any]:
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {
            "name": job.name,
            # All pods into one node pool, which is one slice, and no others with them.
            "annotations": {
                "alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"
            },
        },
        "spec": {
            "failurePolicy": {
                "maxRestarts": job.max_restarts,
                # Two generations of a run must not write to the same folder.
                "restartStrategy": "BlockingRecreate",
                "rules": [
                    {
                        "name": "mistake",
                        "action": "FailJobSet",
                        "onJobFailureReasons": ["PodFailurePolicy"],
                        # Kubernetes' words: "Container … failed with exit code 2 matching …".
                        "onJobFailureMessagePatterns": [f"exit code {MISTAKE} matching"],
                    },
                    {
                        "name": "preempted",
                        "action": "RestartJobSetAndIgnoreMaxRestarts",
                        "onJobFailureReasons": ["PodFailurePolicy"],
                    },
                ],
            },
            "replicatedJobs": [{"name": "slice", "replicas": 1, "template": _template(job)}],
        },
    }


def _template(job: Job) -> dict[str, Any]:
    return {
        "spec": {
            "parallelism": job.slice.hosts,
            "completions": job.slice.hosts,
            "completionMode": "Indexed",
            "backoffLimit": 0,
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "FailJob",
                        "onExitCodes": {
                            "containerName": _CONTAINER,
                            "operator": "In",
                            "values": [MISTAKE, PREEMPTED],
                        },
                    },
                    # The node was taken away, or is about to be.
                    {
                        "action": "FailJob",
                        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                    },
                ]
            },
            "template": {"spec": _pod(job)},
        }
    }


def _pod(job: Job) -> dict[str, Any]:
    selector = {
        "cloud.google.com/gke-tpu-accelerator": job.slice.node_label,
        "cloud.google.com/gke-tpu-topology": job.slice.topology,
    }
    tolerations = [{"key": _CHIPS, "operator": "Exists", "effect": "NoSchedule"}]
    if job.spot:
        selector[_SPOT] = "true"
        tolerations.append(
            {"key": _SPOT, "operator": "Equal", "value": "true", "effect": "NoSchedule"}
        )
    chips = job.slice.chips // job.slice.hosts
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": job.grace,
        "nodeSelector": selector,
        "tolerations": tolerations,
        "containers": [
            {
                "name": _CONTAINER,
                "image": job.image,
                "command": job.command(
                    f"{_FOLDER}/{job.recipe_name}.yaml",
                    processes=job.slice.hosts,
                    devices=job.slice.chips,
                ),
                # Keys such as HF_TOKEN, if there are any.
                "envFrom": [{"secretRef": {"name": f"{job.name}-environment", "optional": True}}],
                # The image's own user may not be allowed to open the TPU's device files.
                "securityContext": {"runAsUser": 0, "allowPrivilegeEscalation": False},
                "resources": {"requests": {_CHIPS: chips}, "limits": {_CHIPS: chips}},
                "volumeMounts": [{"name": "recipe", "mountPath": _FOLDER, "readOnly": True}],
            }
        ],
        "volumes": [{"name": "recipe", "configMap": {"name": f"{job.name}-recipe"}}],
    }
