"""`gapjax convert` and `gapjax sample` as people run them."""

from __future__ import annotations

import io
import json

import jax
import numpy as np
import pytest
from flax import nnx

from gapjax import generation, models
from gapjax.cli.main import main
from gapjax.models.adapter import save_adapter
from gapjax.models.lora import attach, merge
from gapjax.models.prompts import encode_prompt

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


def test_sample_prints_what_the_library_samples(adder, capsys, monkeypatch) -> None:
    command = ["sample", "adder", "-n", "3", "--max-new-tokens", "5", "--seed", "4"]
    command += ["--temperature", "1.5", "--top-k", "9", "--top-p", "0.99"]
    assert main([*command, "--prompt", "12+34=", "--json"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    prompt = encode_prompt(adder.tokenizer, "12+34=")
    samples = generation.sample(
        adder.model,
        [prompt],
        key=jax.random.key(4),
        n=3,
        max_new_tokens=5,
        stop=adder.ends.tokens,
        temperature=1.5,
        top_k=9,
        top_p=0.99,
    )
    (rows,) = generation.score(adder.model, [prompt], samples.answers())
    for i, (record, row) in enumerate(zip(records, rows, strict=True)):
        assert record["text"] == adder.tokenizer.decode(samples.text_tokens(0, i))
        assert record["tokens"] == len(row)
        assert record["finished"] == samples.finished[0, i]
        np.testing.assert_allclose(record["logprob"], row.sum(), atol=1e-4)
        np.testing.assert_allclose(record["logprob_per_token"], row.mean(), atol=1e-4)
    # The same, for people, with the prompt from a pipe.
    monkeypatch.setattr("sys.stdin", io.StringIO("12+34=\n"))
    assert main([*command, "--prompt", "-"]) == 0
    printed = capsys.readouterr().out
    for i, record in enumerate(records):
        assert f"[{i + 1}] {record['logprob']:.2f} nats" in printed
        assert f"\n{record['text']}\n" in printed


def test_sample_without_the_chat_template(adder, tmp_path, capsys) -> None:
    again = models.load("adder")
    again.tokenizer.chat_template = "{% for m in messages %}9+{{ m.content }}{% endfor %}"
    models.save(again.model, again.tokenizer, tmp_path / "chat")
    command = ["--prompt", "9=", "--max-new-tokens", "4", "-n", "1", "--temperature", "0", "--json"]
    printed = {}
    for model in ("adder", str(tmp_path / "chat")):
        for flag in ([], ["--no-chat"], *([["--chat"]] if model != "adder" else [])):
            assert main(["sample", model, *command, *flag]) == 0
            printed[model == "adder", *flag] = json.loads(capsys.readouterr().out)
    assert printed[False,] == printed[False, "--chat"]
    assert printed[False, "--no-chat"] == printed[True, "--no-chat"] == printed[True,]
    assert printed[False,] != printed[True,]


def test_sample_refuses_bad_input_in_one_line(adder, tmp_path, capsys, monkeypatch) -> None:
    models.save(adder.model, None, tmp_path / "mute")
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    for model, arguments, complaint in (
        (str(tmp_path / "none"), ["--prompt", "1"], "no such model"),
        (str(tmp_path / "mute"), ["--prompt", "1"], "no tokenizer"),
        ("adder", [], "--prompt"),
        ("adder", ["--prompt", ""], "empty"),
        ("adder", ["--prompt", "-"], "empty"),
        ("adder", ["--prompt", "1", "-n", "0"], "n: 0"),
        ("adder", ["--prompt", "1", "--max-new-tokens", "9999"], "context of 64"),
        ("adder", ["--prompt", "1", "--temperature", "-1"], "temperature"),
        ("adder", ["--prompt", "1", "--top-p", "2"], "top_p"),
        ("adder", ["--prompt", "1", "--top-k", "x"], "--top-k"),
        ("adder", ["--prompt", "1", "--chat"], "no chat template"),
    ):
        assert main(["sample", model, *arguments]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        assert complaint in captured.err
