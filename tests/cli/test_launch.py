"""`gapjax launch` as people run it."""

from __future__ import annotations

import pytest
import yaml

from gapjax.cli import launch
from gapjax.cli.main import main
from gapjax.launch import TARGETS
from gapjax.selfimprove import parse_recipe

GKE = ["launch", "--print", "gke", "--image", "an/image:1", "--out-path", "gs://b/r"]


def test_it_prints_the_overridden_recipe(capsys):
    assert main([*GKE, "adder", "--train.learning_rate", "1e-5", "--seed", "7"]) == 0
    config_map, job_set = yaml.safe_load_all(capsys.readouterr().out)
    recipe = parse_recipe(yaml.safe_load(config_map["data"]["adder.yaml"]))
    assert recipe.train.learning_rate == 1e-5
    assert recipe.seed == 7
    assert job_set["metadata"]["name"] == "adder"


def test_it_writes_a_file_once(tmp_path, capsys):
    file = tmp_path / "job.yaml"
    command = [*GKE, "adder", "--name", "first", "--out", str(file)]
    assert main(command) == 0
    assert main([*command, "--name", "second"]) == 2
    assert "exists" in capsys.readouterr().err
    assert yaml.safe_load_all(file.read_text()).__next__()["metadata"]["name"] == "first-recipe"
    assert main([*command, "--name", "second", "--overwrite"]) == 0
    assert "name: second" in file.read_text()


def test_the_targets_are_those_that_can_be_rendered():
    assert set(launch._TARGETS) == set(TARGETS)
    fields = {launch._field(option) for option in (*launch._OPTIONS, "--spot")}
    assert set().union(*(t.required | t.optional for t in TARGETS.values())) == fields


def test_slurm_needs_no_options(capsys):
    assert main(["launch", "--print", "slurm", "adder"]) == 0
    assert "--out runs/adder --resume" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--print", "lsf", "adder"], "lsf"),
        (["adder"], "--print"),
        (["--print", "gke", "adder", "--out-path", "gs://b/r"], "--image is required"),
        (["--print", "slurm", "adder", "--spot"], "--spot means nothing to slurm"),
        (["--print", "slurm", "adder", "--nodes", "two"], "two"),
        (["--print", "slurm", "adder", "--train.rounds", "0"], "train.rounds"),
        (["--print", "slurm", "adder", "--nonsense", "1"], "nonsense"),
        (["--print", "slurm", "no-such-recipe.yaml"], "no-such-recipe.yaml"),
        ([*GKE[1:], "adder", "--accelerator", "v9-16"], "v9-16"),
        ([*GKE[1:], "adder", "--name", "My Run"], "My Run"),
        ([*GKE[1:], "adder", "--out", "no/such/folder/job.yaml"], "job.yaml"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert main(["launch", *arguments]) == 2
    output = capsys.readouterr()
    assert output.err.count("\n") == 1
    assert words in output.err
    assert output.out == ""
    assert list(tmp_path.iterdir()) == []


def test_train_understands_the_command(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    if "--expect-devices" not in capsys.readouterr().out:
        pytest.skip("this train does not know of several processes yet")
    assert main([*GKE, "adder"]) == 0
    config_map, job_set = yaml.safe_load_all(capsys.readouterr().out)
    pod = job_set["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    _, train, file, *rest = pod["containers"][0]["command"]
    recipe = tmp_path / file.rpartition("/")[2]
    recipe.write_text(config_map["data"][recipe.name])
    assert main([train, str(recipe), *rest, "--print-recipe"]) == 0
    assert capsys.readouterr().out == recipe.read_text()
