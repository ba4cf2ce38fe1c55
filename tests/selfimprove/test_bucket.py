"""A run whose folder is in a bucket."""

from __future__ import annotations

import json

import pytest

from gapjax.cli.main import main
from gapjax.errors import UserError
from gapjax.paths import Path, copy_tree, is_remote
from gapjax.report.run_files import read_run
from gapjax.selfimprove import Sampled, Selected, Snapshot, Trained, self_improve
from gapjax.selfimprove.run_folder import RunFolder
from tests.selfimprove.test_resume import RECIPE, Killed, no_warning, results, run


@pytest.fixture(scope="module")
def local(adder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bucket") / "local"
    run(adder, folder)
    return folder


@pytest.mark.parametrize("kind", [Trained, Snapshot, Sampled, Selected])
def test_killed_and_resumed_in_a_bucket_it_ends_as_on_a_disk(
    adder, bucket, local, tmp_path, kind
) -> None:
    folder = Path(bucket) / f"killed-{kind.__name__}"

    def kill(number, event, folder):
        if isinstance(event, kind) and number > 12:
            raise Killed

    with pytest.raises(Killed):
        run(adder, folder, kill=kill)
    run(adder, folder)
    copy_tree_from(folder, tmp_path)
    assert results(tmp_path) == results(local)
    counts = [(p / "metrics.jsonl").read_text().count("\n") for p in (tmp_path, local)]
    assert counts[0] == counts[1]


def copy_tree_from(folder, target) -> None:
    """What is in a bucket, but for checkpoints."""
    for name in ("trajectory.csv", "summary.json", "metrics.jsonl", "export", "samples"):
        path = folder / name
        if path.is_dir():
            (target / name).mkdir()
            for file in path.iterdir():
                (target / name / file.name).write_bytes(file.read_bytes())
        else:
            (target / name).write_bytes(path.read_bytes())


def test_the_commands_take_addresses(bucket, tmp_path, capsys) -> None:
    """Train on a task in the bucket, resume, report, fit: all of it there."""
    tasks, out = Path(bucket) / "sums.jsonl", f"{bucket}/runs/first"
    rows = [{"prompt": f"{a}+{b}=", "answer": str(a + b)} for a in range(4) for b in range(4)]
    tasks.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tiny = ["--task.train=8", "--task.probe=4", "--task.test=0", "--sampling.n=2"]
    tiny += [
        "--task.name=jsonl",
        f"--task.file={tasks}",
        "--task.grading=numeric",
        '--task.template="{prompt}"',
    ]
    tiny += ["--train.batch_size=4", "--train.epochs_per_round=1", "--quiet"]
    assert main(["train", "adder", *tiny, "--tensorboard", "--out", out]) == 0
    names = {path.name for path in Path(out).iterdir()}
    assert {"report.html", "plots", "tensorboard", "export", "summary.json"} <= names
    assert (Path(out) / "plots" / "progress.png").read_bytes().startswith(b"\x89PNG")
    assert not [name for name in names if name.endswith(".partial")]
    assert read_run(Path(out)).of("finish")

    assert main(["train", "adder", *tiny, "--out", out]) == 2
    assert "not empty" in capsys.readouterr().err
    assert main(["train", "adder", *tiny, "--out", out, "--resume"]) == 0
    (Path(out) / "report.html").unlink()
    assert main(["report", out, "--quiet"]) == 0
    assert (Path(out) / "report.html").exists()
    forecast = f"{bucket}/simulated"
    assert main(["simulate", "--out", forecast, "--quiet"]) == 0
    assert any(Path(forecast).iterdir())


def test_other_addresses_are_refused_in_one_line(bucket, capsys) -> None:
    assert main(["train", "adder", "--out", "gs://no-such-bucket/run", "--quiet"]) == 2
    complaint = capsys.readouterr().err
    assert complaint == "gapjax: gs://no-such-bucket/run: there is no such bucket\n"
    assert main(["train", "adder", "--out", "s3://nowhere/run", "--quiet"]) == 2
    complaint = capsys.readouterr().err
    assert "s3://nowhere/run" in complaint
    assert complaint.count("\n") == 1


def test_what_is_on_this_machine_and_what_is_not(tmp_path) -> None:
    assert is_remote("gs://a/b")
    assert not is_remote(tmp_path)
    assert not is_remote("relative/gs:/")
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c.txt").write_text("text")
    copy_tree(Path(tmp_path / "a"), Path(tmp_path / "d"))
    assert (tmp_path / "d" / "b" / "c.txt").read_text() == "text"


def test_the_folder_of_another_run_is_replaced(adder, bucket) -> None:
    folder = Path(bucket) / "old"
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds mine\.txt, which gapjax did not write"):
        RunFolder.create(folder, RECIPE, name="tiny")
    (folder / "mine.txt").unlink()
    for name in ("recipe.yaml", "versions.json", "samples/probe-009.jsonl"):
        (folder / name).write_text("old")
    files = RunFolder.create(folder, RECIPE, name="tiny")
    files.write(next(self_improve(adder, RECIPE)))
    assert not (folder / "samples/probe-009.jsonl").exists()
    assert RunFolder.open(folder, RECIPE, warn=no_warning)
