"""What the export of a run takes along from the model it began with."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from gapjax import models
from gapjax.models.adapter import load_adapter
from gapjax.models.hub import hub_id
from gapjax.models.lora import merge
from gapjax.selfimprove import Finished, parse_recipe
from gapjax.selfimprove.run_folder import RunFolder
from tests.models.double import FLOAT32
from tests.models.test_adapter import trained
from tests.models.tiny import random_model


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


@pytest.mark.parametrize("name", ["qwen2, tied", "phi3, partial rotary, tied"])
def test_the_adapter_beside_the_merged_weights(name: str, tmp_path, monkeypatch) -> None:
    """PEFT puts it on the base model and gets what is merged."""
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    base = random_model(name)
    models.save(base, None, tmp_path / "models" / "base")
    adapted = trained(base)
    monkeypatch.chdir(tmp_path)
    run = RunFolder.create(tmp_path / "run", parse_recipe({"model": "models/base"}), name="x")
    run._measured = [{"epoch": 0.0}]
    run.write(Finished(0.0, models.LoadedModel(merge(adapted), None), "over", adapted))
    export = tmp_path / "run" / "export"
    config = json.loads((export / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] is None  # a path, though it looks like a name
    tokens = torch.arange(3, 40)[None]
    theirs = peft.PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tmp_path / "models" / "base"), export / "adapter"
    )
    with torch.no_grad():
        merged = AutoModelForCausalLM.from_pretrained(export)(tokens).logits.numpy()
        beside = theirs(tokens).logits.numpy()
        plain = theirs.unload()(tokens).logits.numpy()
    room = 2 * FLOAT32 * np.abs(merged).max()
    np.testing.assert_allclose(beside, merged, rtol=0, atol=room)
    assert np.abs(plain - merged).max() > 10 * room
    again = load_adapter(base, export / "adapter")
    np.testing.assert_allclose(again(tokens.numpy()), merged, rtol=0, atol=room)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B"),
        ("org/here", None),
        ("/home/me/model", None),
        ("./org/name", None),
        ("smollm2", None),
        ("model.gguf", None),
    ],
)
def test_only_names_on_the_hub_are_told(name, expected, tmp_path, monkeypatch) -> None:
    (tmp_path / "org" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert hub_id(name) == expected
