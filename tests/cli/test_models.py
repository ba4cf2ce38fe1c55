"""`gapjax convert` as people run it."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import nnx

from gapjax import models
from gapjax.cli.main import main
from gapjax.models.adapter import save_adapter
from gapjax.models.lora import attach, merge

pytestmark = pytest.mark.fast
TOKENS = np.arange(12)[None]


def test_convert_is_exact_and_says_what_it_wrote(adder, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    assert main(["convert", "adder", str(out)]) == 0
    assert f"{out}: llama model" in capsys.readouterr().out
    again = models.load(out)
    np.testing.assert_array_equal(again.model(TOKENS), adder.model(TOKENS))
    assert again.tokenizer.get_vocab() == adder.tokenizer.get_vocab()
    # A second time, in another type, over the first.
    command = ["convert", "adder", str(out), "--dtype", "bfloat16", "--quiet"]
    assert main(command) == 2
    assert "not empty" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    assert capsys.readouterr().out == ""
    assert models.load(out, dtype="bfloat16").model.embedding[...].dtype == "bfloat16"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_convert_merges_an_adapter(adder, tmp_path) -> None:
    adapted = attach(adder.model, rank=2, alpha=3.0, targets="mlp", key=jax.random.key(0))
    state = nnx.state(adapted, nnx.LoRAParam)
    nnx.update(adapted, jax.tree.map(lambda x: x + 0.1, state))
    save_adapter(adapted, tmp_path / "adapter")
    command = ["convert", "adder", str(tmp_path / "out"), "--adapter", str(tmp_path / "adapter")]
    assert main(command) == 0
    merged = models.load(tmp_path / "out").model
    np.testing.assert_array_equal(merged(TOKENS), merge(adapted)(TOKENS))


def test_convert_keeps_the_generation_config(adder, tmp_path) -> None:
    models.save(adder.model, None, tmp_path / "source", generation_config={"eos_token_id": [1, 5]})
    assert main(["convert", str(tmp_path / "source"), str(tmp_path / "out")]) == 0
    assert models.load(tmp_path / "out").generation_config == {"eos_token_id": [1, 5]}


def test_bad_input_is_one_line_and_writes_nothing(adder, tmp_path, capsys) -> None:
    models.save(adder.model, None, tmp_path / "model")
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    before = sorted(tmp_path.rglob("*"))
    out = str(tmp_path / "out")
    for arguments, complaint in (
        ([str(tmp_path / "missing"), out], "no such model"),
        ([str(tmp_path / "model.gguf"), out], "GGUF"),
        (["adder", out, "--dtype", "int8"], "unknown dtype"),
        (["adder", out, "--adapter", str(tmp_path / "model")], "adapter_config.json"),
        ([str(tmp_path / "model"), str(tmp_path), "--overwrite"], "would replace"),
        (["adder", str(tmp_path / "model.gguf")], "is a file"),
        (["adder"], "DST"),
    ):
        assert main(["convert", *arguments]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        assert complaint in captured.err
        assert sorted(tmp_path.rglob("*")) == before
