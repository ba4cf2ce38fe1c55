"""A run that is killed anywhere and resumed ends as one that was not."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gapjax.cli.main import main
from gapjax.errors import UserError
from gapjax.selfimprove import (
    FinalTest,
    Measured,
    Sampled,
    Selected,
    Snapshot,
    Trained,
    parse_recipe,
    self_improve,
)
from gapjax.selfimprove.run_folder import RunFolder

RECIPE = parse_recipe(
    {
        "model": "adder",
        "task": {"digits": 2, "template": "{a}+{b}=", "train": 16, "probe": 16, "test": 16},
        "sampling": {"n": 4, "max_new_tokens": 5},
        "adapter": {"rank": 2},
        "train": {
            "rounds": 2,
            "refresh_every": 2,
            "epochs_per_round": 1,
            "batch_size": 4,
            "learning_rate": 1e-2,
        },
    }
)


class Killed(Exception):
    pass


def no_warning(text: str) -> None:
    raise AssertionError(text)


def run(adder, folder: Path, *, kill=None, warn=no_warning) -> RunFolder:
    """One life of a run; `kill(event, write)` may end it."""
    if folder.exists():
        files = RunFolder.open(folder, RECIPE, warn=warn)
        events = self_improve(
            adder, RECIPE, lambda initial: files.start(initial, warn=warn), kept=lambda: files
        )
    else:
        files = RunFolder.create(folder, RECIPE, name="tiny")
        events = self_improve(adder, RECIPE, kept=lambda: files)
    try:
        for number, event in enumerate(events):
            if isinstance(event, Selected):
                assert event.metrics or event.round == 1  # the answers of round 0 again
            if kill is not None:
                kill(number, event, folder)
            files.write(event)
    finally:
        files.wait()  # this process lives on, and would write while its next life reads
    return files


def results(folder: Path) -> dict[str, bytes]:
    names = ["trajectory.csv", "summary.json", "export/model.safetensors"]
    names += sorted(str(p.relative_to(folder)) for p in folder.glob("samples/*.jsonl"))
    assert not list(folder.glob("samples/.*"))
    return {name: (folder / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def whole(adder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume") / "whole"
    run(adder, folder)
    return folder


def test_killed_before_each_event_is_written(adder, whole, tmp_path) -> None:
    """One run that dies again and again: it lives until the next kind of event comes up."""
    folder = tmp_path / "run"
    for kind in (Measured, Selected, Trained, Snapshot, Sampled, Measured, Selected, FinalTest):

        def kill(number, event, folder, kind=kind):
            if type(event) is kind:
                raise Killed

        with pytest.raises(Killed):
            run(adder, folder, kill=kill)
        if (folder / "metrics.jsonl").exists():
            with (folder / "metrics.jsonl").open("a") as stream:
                stream.write('{"event": "tra')  # a line that was being written is no line
        # Progress is made: the phase that was in the way is written before the next death.
        run_until(adder, folder, kind)
    run(adder, folder)
    assert results(folder) == results(whole)
    lines = [(p / "metrics.jsonl").read_text().count("\n") for p in (folder, whole)]
    assert lines[0] == lines[1]


def run_until(adder, folder: Path, kind: type) -> None:
    """Resume, and die right after the first event of a kind is written."""
    seen = []

    def kill(number, event, folder):
        if seen:
            raise Killed
        seen.extend([event] if type(event) is kind else [])

    with pytest.raises(Killed):
        run(adder, folder, kill=kill)


def test_a_finished_run_is_left_as_it_is(adder, whole) -> None:
    before = results(whole)
    run(adder, whole, kill=lambda n, event, f: None)
    assert results(whole) == before


@pytest.mark.parametrize("damage", ["digest", "truncated", "half"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(adder, whole, tmp_path, damage) -> None:
    folder = tmp_path / "run"

    def kill(number, event, folder):
        if isinstance(event, Selected) and event.round == 1:
            raise Killed

    with pytest.raises(Killed):
        run(adder, folder, kill=kill)
    steps = sorted(int(p.name) for p in (folder / "checkpoints").iterdir() if p.name.isdecimal())
    assert steps == [2, 4]
    newest = folder / "checkpoints" / "4"
    if damage == "digest":
        path = newest / "_CHECKPOINT_METADATA"
        text = path.read_text()
        at = text.index('"digest"') + 12
        path.write_text(text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :])
    elif damage == "truncated":
        for path in newest.rglob("d/*"):
            path.write_bytes(path.read_bytes()[:-20])
    else:
        newest.rename(newest.with_name("4.orbax-checkpoint-tmp"))
    warnings = []
    run(adder, folder, warn=warnings.append)
    assert [("checkpoint 4 is damaged" in text) for text in warnings] == [True] * (damage != "half")
    assert results(folder) == results(whole)


def test_a_changed_recipe_is_refused(adder, whole) -> None:
    changed = dataclasses.replace(
        RECIPE, seed=1, train=dataclasses.replace(RECIPE.train, learning_rate=1e-3)
    )
    with pytest.raises(UserError, match=r"seed: 0 -> 1, train\.learning_rate: 0\.01 -> 0\.001"):
        RunFolder.open(whole, changed, warn=no_warning)


def test_two_processes_do_not_write_one_run(adder, whole) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from gapjax.selfimprove import read_recipe\n"
        "from gapjax.selfimprove.run_folder import RunFolder\n"
        "folder = Path(sys.argv[1])\n"
        "run = RunFolder.open(folder, read_recipe(folder / 'recipe.yaml'), warn=print)\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(whole)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as other:
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(UserError, match="another process is writing"):
            RunFolder.open(whole, RECIPE, warn=no_warning)
        other.kill()
    RunFolder.open(whole, RECIPE, warn=no_warning)


def test_a_changed_file_is_refused(adder, tmp_path) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text('{"prompt": "1+1=", "answer": "2"}\n')
    recipe = dataclasses.replace(
        RECIPE, external=dataclasses.replace(RECIPE.external, file=str(file))
    )
    RunFolder.create(tmp_path / "run", recipe, name="tiny")
    RunFolder.open(tmp_path / "run", recipe, warn=no_warning)
    file.write_text('{"prompt": "1+1=", "answer": "3"}\n')
    with pytest.raises(UserError, match=r"answers\.jsonl.* has changed"):
        RunFolder.open(tmp_path / "run", recipe, warn=no_warning)


def test_a_folder_that_is_no_run_is_left_alone(tmp_path, capsys) -> None:
    (tmp_path / "precious.txt").write_text("data")
    assert main(["train", "adder", "--out", str(tmp_path), "--resume"]) == 2
    assert "holds no run" in capsys.readouterr().err
    assert (tmp_path / "precious.txt").read_text() == "data"


TINY = [
    "--task.train=8",
    "--task.probe=4",
    "--task.test=0",
    "--sampling.n=2",
    "--train.batch_size=4",
    "--train.epochs_per_round=1",
    "--quiet",
]


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGKILL,
        *(pytest.param(s, marks=pytest.mark.slow) for s in (signal.SIGTERM, signal.SIGINT)),
    ],
)
def test_a_real_signal_from_the_shell(number, tmp_path) -> None:
    """The process gets the signal as soon as its first checkpoint is there."""
    command = ["train", "adder", *TINY, "--out"]
    script = (
        "import os, sys\n"
        "from gapjax.cli.main import main\n"
        "from gapjax.selfimprove import checkpoint\n"
        "save = checkpoint.Checkpoints.save\n"
        "def then_die(self, saved):\n"
        "    save(self, saved)\n"
        f"    os.kill(os.getpid(), {int(number)})\n"
        "checkpoint.Checkpoints.save = then_die\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    out = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", script, *command, str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    expected = {signal.SIGKILL: -9, signal.SIGTERM: 75, signal.SIGINT: 130}[number]
    assert done.returncode == expected, done.stderr
    assert "Traceback" not in done.stderr
    assert not (out / "export").exists()
    if number != signal.SIGKILL:
        return  # the harshest of them is resumed
    assert main([*command, str(out), "--resume"]) == 0
    fresh = tmp_path / "fresh"
    assert main([*command, str(fresh)]) == 0
    assert results(out) == results(fresh)
