"""The targets, and what each of them needs to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gapjax.launch import gke, skypilot, slurm, xpk
from gapjax.launch.job import Job


@dataclass(frozen=True, kw_only=True)
class Target:
    """A way to start jobs: how its file is written, and which options it has a use for."""

    render: Callable[[Job], str]
    about: str
    required: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()


_TPU = frozenset({"accelerator", "max_restarts"})
TARGETS = {
    "gke": Target(
        render=gke.render,
        about="a ConfigMap and a JobSet, for `kubectl apply -f`",
        required=frozenset({"image", "out_path"}),
        optional=_TPU | {"spot", "grace"},
    ),
    "xpk": Target(
        render=xpk.render,
        about="an `xpk workload create` command",
        required=frozenset({"image", "out_path", "cluster"}),
        optional=_TPU | {"grace", "project", "zone"},
    ),
    "skypilot": Target(
        render=skypilot.render,
        about="a task, for `sky jobs launch`",
        required=frozenset({"out_path"}),
        optional=_TPU | {"spot", "zone", "package"},
    ),
    "slurm": Target(
        render=slurm.render,
        about="a script, for `sbatch`",
        required=frozenset(),
        optional=frozenset({"out_path", "nodes", "gpus_per_node", "grace"}),
    ),
}


def render(target: str, job: Job) -> str:
    """The job file of one of `TARGETS`, as text."""
    return TARGETS[target].render(job)
