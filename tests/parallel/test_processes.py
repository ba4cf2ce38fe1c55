"""Several devices and several processes give what one of each gives, and stand a kill."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from gapjax.cli.main import main
from tests.parallel.runs import RECIPE, assert_same, random_model, start

MESHES = {
    "fsdp": "{fsdp: 4}",
    "data": "{data: 4}",
    "both": "{fsdp: 2, tensor: 2}",
    "tensor": "{data: 2, tensor: 2}",
}
LARGE = {i: {"sharded": True} for i in range(2)}  # sampled from where the weights lie


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """With a model, a recipe, and the run `one` of one process with one device."""
    folder = tmp_path_factory.mktemp("parallel")
    random_model(folder / "model")
    (folder / "recipe.yaml").write_text(RECIPE)
    recipe, model = str(folder / "recipe.yaml"), str(folder / "model")
    assert main(["train", recipe, "--model", model, "--out", str(folder / "one"), "--quiet"]) == 0
    return folder


def train(folder, name, processes, devices, *more, options=None) -> list[tuple[int, str]]:
    """A run that ends well."""
    arguments = ["--out", str(folder / name), *more]
    ends = start(folder, processes=processes, devices=devices, arguments=arguments, options=options)
    assert [status for status, _ in ends] == [0] * processes, ends
    return ends


def dies(folder, name, *more, options) -> list[tuple[int, str]]:
    """A run of two processes with two devices each that does not."""
    arguments = ["--out", str(folder / name), *more]
    return start(folder, processes=2, devices=2, arguments=arguments, options=options)


def test_a_killed_pair_goes_on_as_if_nothing_had_been(folder) -> None:
    """Two processes, weights and heads split, one killed in the middle; then both again."""
    mesh = ["--parallel.mesh", MESHES["both"]]
    kill = {0: {"sharded": True}, 1: {"sharded": True, "after": 1, "signal": signal.SIGKILL}}
    (left, message), (killed, _) = dies(folder, "killed", *mesh, options=kill)
    assert killed == -signal.SIGKILL
    assert left == 1
    last = message.strip().splitlines()[-1]
    assert last.startswith("gapjax: ")
    assert "again with --resume" in last
    assert not (folder / "killed" / "export").exists()
    train(folder, "killed", 2, 2, "--resume", *mesh, options=LARGE)
    assert_same(folder / "one", folder / "killed")
    assert (folder / "killed" / "report.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("large", [False, True])
def test_every_way_of_splitting(folder, processes, mesh, large) -> None:
    name = f"{processes}-{mesh}-{large}"
    options = LARGE if large else None
    train(folder, name, processes, 4 // processes, "--parallel.mesh", MESHES[mesh], options=options)
    assert_same(folder / "one", folder / name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["all weights, in parts, less kept", "quality"])
def test_other_recipes(folder, kind) -> None:
    more = {
        "quality": ["--verifier.method", "quality", "--verifier.threshold", "0.3"],
        "all weights, in parts, less kept": [
            *("--adapter.rank", "0", "--train.accumulate", "2", "--parallel.remat", "full")
        ],
    }[kind]
    train(folder, f"{kind}-one", 1, 1, *more)
    train(folder, f"{kind}-many", 2, 2, *more, "--parallel.mesh", MESHES["both"], options=LARGE)
    assert_same(folder / f"{kind}-one", folder / f"{kind}-many")


@pytest.mark.slow
def test_the_first_process_is_killed(folder) -> None:
    options = {0: {"after": 1, "signal": signal.SIGKILL}, 1: {"patience": 5.0}}
    (killed, _), (left, message) = dies(folder, "first", options=options)
    assert killed == -signal.SIGKILL
    # The runtime may be faster than we are: its message says as much, on more lines.
    assert left != 0
    assert "gapjax: " in message or "another task died" in message


@pytest.mark.slow
def test_a_process_that_hangs_is_noticed(folder) -> None:
    options = {0: {"patience": 5.0}, 1: {"patience": 5.0, "after": 1, "signal": signal.SIGSTOP}}
    (left, message), _ = dies(folder, "hangs", options=options)
    assert left == 1
    assert "process 1 has been silent" in message.strip().splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("again", [(1, 1), (1, 4), (2, 2)])
def test_told_to_stop_in_a_round_and_resumed_on_other_devices(folder, again) -> None:
    """SIGTERM to one of the processes, when the first step is logged; all end with 75."""
    name = "stopped-{}-{}".format(*again)
    mesh = ["--parallel.mesh", MESHES["both"]]
    options = {0: {"stop": 1}, 1: {}}
    ends = dies(folder, name, *mesh, options=options)
    assert [status for status, _ in ends] == [75, 75], ends
    assert "saved after step 1" in ends[0][1]
    rows = [json.loads(line) for line in (folder / name / "metrics.jsonl").open()]
    assert rows[-1]["event"] == "train"
    assert rows[-1]["step"] == 1
    split = [] if again == (1, 1) else ["--parallel.mesh", MESHES["fsdp"]]
    train(folder, name, *again, "--resume", *split)
    assert_same(folder / "one", folder / name)


@pytest.mark.parametrize("what", ["processes", "devices"])
def test_another_number_is_refused(folder, what, capsys) -> None:
    out = folder / "refused"
    command = ["train", "adder", "--out", str(out), f"--expect-{what}", "3"]
    assert main(command) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"gapjax: 3 {what} are expected, and 1 is there")
    assert message.count("\n") == 1
    assert not out.exists()
