"""What is refused before anything is rendered, and the files that reviews look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from gapjax.errors import UserError
from gapjax.launch import SLICES, TARGETS, find_slice, make_job
from tests.launch.jobs import SUFFIXES, render_frame
from tests.launch.tools import run, tool

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize(
    ("given", "name"), [("smollm2", "smollm2"), ("My_Recipe.v2", "my-recipe-v2")]
)
def test_the_name_is_the_recipes(recipe, given, name):
    assert make_job(recipe, given).name == name


@pytest.mark.parametrize("name", ["", "1st", "Run", "a_b", "run-", "-run", "a" * 41, "a b", "a\n"])
def test_names_that_kubernetes_would_refuse(recipe, name):
    with pytest.raises(UserError, match="--name"):
        make_job(recipe, "r", name=name)


def test_the_longest_name_leaves_room_for_the_pods(recipe):
    largest = max(found.hosts for found in SLICES.values())
    job = make_job(recipe, "r", name="a" * 40)
    assert len(f"{job.name}-slice-0-{largest - 1}-abcde") <= 63


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"accelerator": "v5litepod-17"}, "v5litepod-16"),
        ({"accelerator": "h100"}, "v5p-N"),
        ({"nodes": 0}, "--nodes"),
        ({"gpus_per_node": -1}, "--gpus-per-node"),
        ({"grace": 0}, "--grace"),
        ({"max_restarts": -1}, "--max-restarts"),
        ({"image": "an image"}, "--image"),
        ({"out_path": ""}, "--out-path"),
    ],
)
def test_what_makes_no_sense_is_refused(recipe, options, words):
    with pytest.raises(UserError, match=words):
        make_job(recipe, "r", **options)


def test_slices_are_known_by_googles_names():
    # https://cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus
    assert (find_slice("v5litepod-16").topology, find_slice("v5litepod-16").hosts) == ("4x4", 4)
    assert (find_slice("v5p-32").topology, find_slice("v5p-32").chips) == ("2x2x4", 16)
    assert (find_slice("v6e-256").topology, find_slice("v6e-256").hosts) == ("16x16", 64)


@pytest.mark.parametrize("target", TARGETS)
def test_job_files_change_only_on_purpose(target):
    """`python -m tests.launch.make_golden` writes them anew."""
    golden = GOLDEN / f"{target}.{SUFFIXES[target]}"
    assert render_frame(target) == golden.read_text(encoding="utf-8")


def test_hadolint_likes_the_container_file():
    run(tool("hadolint"), str(ROOT / "deploy/Containerfile"))
