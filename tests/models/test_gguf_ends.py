"""The end tokens of a GGUF file: those its metadata name, and those known by their text."""

from __future__ import annotations

import pytest

from gapjax import models
from gapjax.errors import UserError
from tests.models.test_gguf import write_gguf


def with_ends(*texts: str, types=3, ids=None, bad=None):
    """A tokenizer with these tokens beside a letter and `<|eos|>`; `ids` of some of them."""

    def add(writer, pre: str) -> int:
        from tokenizers.pre_tokenizers import ByteLevel

        tokens = [*sorted(ByteLevel.alphabet()), "ab", "<|eos|>", *texts]
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(tokens)
        writer.add_token_types([1] * 257 + [3] + [types] * len(texts))
        writer.add_token_merges(["a b"])
        for name, token in {"eos": "<|eos|>", **(ids or {})}.items():
            writer.add_uint32(f"tokenizer.ggml.{name}_token_id", tokens.index(token))
        for name, value in (bad or {}).items():
            add_value = writer.add_string if isinstance(value, str) else writer.add_int32
            add_value(f"tokenizer.ggml.{name}_token_id", value)
        return len(tokens)

    return add


@pytest.mark.parametrize(
    ("tokenizer", "expected"),
    [
        (with_ends("x"), ["<|eos|>"]),
        (
            with_ends("<t1>", "<t2>", ids={"eot": "<t1>", "eom": "<t2>"}),
            ["<|eos|>", "<t1>", "<t2>"],
        ),
        (with_ends("<|im_start|>", "<|im_end|>"), ["<|eos|>", "<|im_end|>"]),
        (with_ends("<|eot_id|>", "<|endoftext|>"), ["<|eos|>", "<|eot_id|>", "<|endoftext|>"]),
        (with_ends("<end_of_turn>", types=4), ["<|eos|>", "<end_of_turn>"]),
        (with_ends("<|end|>", types=1), ["<|eos|>"]),  # which ordinary text can make
        (with_ends("<|end|>", "<|return|>"), ["<|eos|>", "<|end|>", "<|return|>"]),
        (
            with_ends("<|end|>", "<|return|>", "<|call|>"),
            ["<|eos|>", "<|return|>", "<|call|>"],
        ),
    ],
)
def test_end_tokens_of_the_metadata(tokenizer, expected, tmp_path) -> None:
    write_gguf(tmp_path / "model.gguf", "llama", add_tokenizer=tokenizer)
    loaded = models.load(tmp_path / "model.gguf")
    assert loaded.tokenizer.convert_ids_to_tokens(loaded.ends.tokens) == expected
    assert loaded.ends.turn == loaded.tokenizer.eos_token_id
    models.save(
        loaded.model,
        loaded.tokenizer,
        tmp_path / "export",
        generation_config=loaded.generation_config,
    )
    assert models.load(tmp_path / "export").ends == loaded.ends


@pytest.mark.parametrize("bad", [{"eot": 999}, {"eom": -1}, {"eot": "<|eos|>"}])
def test_end_tokens_that_are_none_are_one_line(bad, tmp_path) -> None:
    write_gguf(tmp_path / "model.gguf", "llama", add_tokenizer=with_ends(bad=bad))
    with pytest.raises(UserError, match=r"_token_id = .* is not one of 258 tokens"):
        models.load(tmp_path / "model.gguf")
