"""What the export of a run takes along from the model it began with."""

from __future__ import annotations

import dataclasses

from gapjax import models
from gapjax.selfimprove import Finished, parse_recipe
from gapjax.selfimprove.run_folder import RunFolder


def test_the_ends_and_the_generation_config(adder, tmp_path) -> None:
    stated = {"eos_token_id": [5, 1], "top_k": 7, "repetition_penalty": 1.5}
    loaded = dataclasses.replace(adder, generation_config=stated)
    recipe = parse_recipe({"model": "adder"})
    run = RunFolder.create(tmp_path / "run", recipe, name="adder")
    run._measured = [{"epoch": 0.0}]
    run.write(Finished(0.0, loaded, "over"))
    exported = models.load(tmp_path / "run" / "export")
    assert exported.ends == loaded.ends
    assert exported.ends.tokens == (1, 5)
    assert exported.generation_config == {**stated, "eos_token_id": [1, 5]}
