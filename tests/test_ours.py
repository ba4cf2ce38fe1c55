"""Folders of others: nothing is written through a link, and nothing removed that is not ours."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from gapjax import models
from gapjax.cli.main import main
from gapjax.errors import UserError
from gapjax.ours import refuse_links, refuse_others
from gapjax.paths import write_text

RUN = ["recipe.yaml", "versions.json", "metrics.jsonl", "trajectory.csv", "report.html", ".lock"]
TRAIN = [
    *("train", "adder", "--quiet", "--task.train=8", "--task.probe=4", "--sampling.n=2"),
    *("--train.epochs_per_round=1", "--train.measure_every=1"),
]


@pytest.fixture(scope="module")
def a_run(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("ours") / "run"
    assert main([*TRAIN, "--out", str(out)]) == 0
    return out


@pytest.fixture
def run(a_run, tmp_path) -> Path:
    shutil.copytree(a_run, tmp_path / "run")
    return tmp_path / "run"


def refused(command, capsys) -> str:
    assert main([str(part) for part in command]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize(
    "name",
    [
        *RUN,
        "external.jsonl",
        "samples/probe-000.jsonl",
        "samples",
        "checkpoints",
        "export",
        "plots",
    ],
)
def test_a_link_in_the_folder_of_a_run(name, run, tmp_path, capsys) -> None:
    mine = tmp_path / "mine"
    path = run / name
    if path.is_dir():
        shutil.copytree(path, mine)
        shutil.rmtree(path)
    else:
        mine.write_text(path.read_text() if path.exists() else "mine")
        path.unlink(missing_ok=True)
    before = tree(mine)
    path.symlink_to(mine)
    for command in (["report", run], [*TRAIN, "--out", run, "--resume"]):
        assert f"{name} is a link" in refused(command, capsys)
    assert tree(mine) == before
    assert path.is_symlink()


def tree(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {str(file): file.read_bytes() for file in files}


def test_what_a_killed_process_left_or_somebody_put_there(run, tmp_path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (tmp_path / ".new.txt.partial").symlink_to(mine)
    write_text(tmp_path / "new.txt", "new")
    assert (tmp_path / "new.txt").read_text() == "new"
    assert not (tmp_path / "new.txt").is_symlink()
    assert mine.read_text() == "mine"
    (tmp_path / "new.txt").unlink()
    (tmp_path / "new.txt").symlink_to(mine)
    write_text(tmp_path / "new.txt", "newer")
    assert (mine.read_text(), (tmp_path / "new.txt").read_text()) == ("mine", "newer")


def test_a_pipe_never_ends(run, capsys) -> None:
    (run / "metrics.jsonl").unlink()
    os.mkfifo(run / "metrics.jsonl")
    assert "metrics.jsonl is neither a file nor a folder" in refused(["report", run], capsys)


def test_a_link_far_below(tmp_path) -> None:
    deep = tmp_path.joinpath(*["d"] * 200)
    deep.mkdir(parents=True)
    refuse_links(tmp_path)
    (deep / "\x1b[31m").symlink_to("/")
    with pytest.raises(UserError, match="is a link") as caught:
        refuse_links(tmp_path)
    assert str(caught.value).isprintable()
    with pytest.raises(UserError, match="cannot be looked through"):
        refuse_links(tmp_path / "none")


def test_the_folder_itself_may_be_a_link(run, tmp_path) -> None:
    (tmp_path / "latest").symlink_to(run)
    assert main(["report", str(tmp_path / "latest"), "--quiet"]) == 0


@pytest.mark.parametrize(
    "foreign", ["notes.md", "samples/mine.txt", "data/train.csv", "plots/a.py"]
)
def test_overwrite_removes_only_what_is_ours(foreign, run, capsys) -> None:
    (run / foreign).parent.mkdir(exist_ok=True)
    (run / foreign).write_text("mine")
    before = tree(run)
    for command in (
        [*TRAIN, "--out", run, "--overwrite"],
        ["simulate", "--out", run, "--overwrite"],
        ["convert", "adder", run, "--overwrite"],
    ):
        assert "which gapjax did not write" in refused(command, capsys)
    assert tree(run) == before


def test_overwrite_of_no_run(tmp_path, capsys) -> None:
    project = tmp_path / "project"
    for name in ("README.md", "config.json", "plots/a.png", "samples/a.jsonl", "summary.json"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("mine")
    said = refused([*TRAIN, "--out", project, "--overwrite"], capsys)
    assert "and 4 more files, which gapjax did not write" in said
    assert len(tree(project)) == 5


def test_overwrite_where_one_lives(tmp_path, capsys, monkeypatch) -> None:
    home = tmp_path / "home" / "me"
    (home / "work").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home / "work")
    (home / "work" / "plan.json").write_text("{}")
    for folder, what in ((home, "your home"), (home.parent, "your home"), (".", "where you are")):
        said = refused(["simulate", "--out", folder, "--overwrite"], capsys)
        assert what in said or "where you are" in said
    assert "is not removed" in refused(["simulate", "--out", "/", "--overwrite"], capsys)
    assert (home / "work" / "plan.json").exists()


def test_what_commands_wrote_may_be_overwritten(run, adder, tmp_path) -> None:
    refuse_others(run)
    refuse_others(run / "export")
    (run / ".recipe.yaml.partial").write_text("")
    (run / "samples" / ".sampled-probe-0-0.npz").write_text("")
    refuse_others(run)
    out = str(tmp_path / "out")
    table = str(run.parent / "table")
    assert main(["simulate", "--out", table, "--quiet"]) == 0
    curve = table + "/trajectory.csv"
    for command in (
        ["simulate"],
        ["fit", curve, "--method", "map"],
        ["forecast", curve, "--until", "4", "--horizon", "8", "--law", "exponential"],
        ["compare", curve, "--laws", "persistence"],
        ["plan"],
    ):
        assert main([*command, "--out", out, "--overwrite", "--quiet"]) == 0, command
    assert main(["convert", "adder", out, "--overwrite", "--quiet"]) == 0
    assert main(["convert", "adder", out, "--overwrite", "--quiet"]) == 0
    models.load(out)
    assert main([*TRAIN, "--out", out, "--overwrite"]) == 0
    refuse_others(Path(out))
