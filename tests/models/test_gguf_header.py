"""Damaged and hostile GGUF files: one line, within bounded memory and time."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from gapjax import models
from gapjax.errors import UserError
from gapjax.models.config import LinearScaling, YarnScaling
from gapjax.models.gguf_header import DamagedFile, check_header
from tests.fuzz.limits import limits
from tests.models.test_gguf import write_gguf

STRING, ARRAY, U32 = 8, 9, 4


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def field(name: bytes, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def array(kind: int, count: int, items: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, count) + items


def tensor(name: bytes, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + sizes + struct.pack("<IQ", kind, offset)


def head(fields: int, tensors: int, body: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, fields) + body


ARCHITECTURE = field(b"general.architecture", STRING, text(b"llama"))
PADDING = bytes(200)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "empty"),
        (b"GGML" + PADDING, "does not begin with GGUF"),
        (head(0, 0, version=1), "version 1 is neither"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "of the other byte order"),
        (head(2**63, 0, PADDING), "9223372036854775808 metadata fields do not fit"),
        (head(0, 2**40, PADDING), "tensors do not fit"),
        (head(1, 0, struct.pack("<Q", 2**62) + PADDING), "the name of a metadata field has"),
        (head(1, 0, text(b"\xff") + PADDING), "not UTF-8"),
        (head(1, 0, field(b"x", 99, PADDING)), "x has the type 99"),
        (head(1, 0, field(b"x", STRING, struct.pack("<Q", 2**61))), "x reaches beyond its end"),
        (head(1, 0, field(b"x", ARRAY, array(0, 2**62, PADDING))), "x reaches beyond its end"),
        (head(1, 0, field(b"x", ARRAY, array(STRING, 2**40, PADDING))), "texts of x do not fit"),
        (head(1, 0, field(b"x", ARRAY, array(ARRAY, 2**40, PADDING))), "x is a list of type 9"),
        (head(1, 0, field(b"x", ARRAY, array(99, 1, PADDING))), "x is a list of type 99"),
        (head(2, 0, ARCHITECTURE * 2), "general.architecture is there twice"),
        (head(0, 2, tensor(b"t", (3,)) * 2 + PADDING), "the tensor t is there twice"),
        (head(0, 1, tensor(b"t", (1,) * 1000)), "t has 1000 dimensions"),
        (head(0, 1, tensor(b"t", (2**32, 2**32)) + PADDING), "t has 18446744073709551616 values"),
        (head(0, 1, tensor(b"t", (0, 3)) + PADDING), "t has 0 values"),
        (head(0, 1, tensor(b"t", (3,), offset=2**63) + PADDING), "t begins beyond its end"),
        (head(1, 0, field(b"\x1b[2J", 99, PADDING)), "␛[2J has the type 99"),
    ],
)
def test_a_head_that_promises_what_is_not_there(tmp_path, content: bytes, complaint: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with (
        limits(cpu_seconds=5, more_bytes=2**28),
        pytest.raises(DamagedFile) as found,
    ):
        check_header(path)
    assert complaint in str(found.value)
    with pytest.raises(UserError) as caught:
        models.load(path)
    assert str(caught.value).startswith(f"{path}: not a readable GGUF file (")
    assert str(caught.value).isprintable()


def test_cut_off_anywhere(tmp_path) -> None:
    whole, path = tmp_path / "whole.gguf", tmp_path / "model.gguf"
    write_gguf(whole, "llama")
    content = whole.read_bytes()
    ends = [*range(0, 200, 7), *np.linspace(200, len(content) - 1, 60).astype(int)]
    for end in ends:
        path.write_bytes(content[:end])
        with pytest.raises(UserError):
            models.load(path)


def config_of(tmp_path: Path, architecture: str = "llama", **metadata):
    path = tmp_path / "model.gguf"
    write_gguf(path, architecture, **metadata)
    return models.load(path).config


def test_what_a_file_says_of_rotary_positions_counts(tmp_path) -> None:
    yarn = {"rope__scaling__type": "yarn", "rope__scaling__factor": 4.0}
    yarn |= {"rope__scaling__original_context_length": 32}
    own = 0.1 * np.log(4.0) + 1
    expected = YarnScaling(
        factor=4.0, original_max_position_embeddings=32, attention_factor=own, beta_fast=8.0
    )
    assert config_of(tmp_path, **yarn, rope__scaling__yarn_beta_fast=8.0).rope_scaling == expected
    slow = config_of(tmp_path, **yarn, rope__scaling__yarn_beta_slow=2.0).rope_scaling
    assert (slow.beta_fast, slow.beta_slow) == (32.0, 2.0)
    weaker = config_of(tmp_path, **yarn, rope__scaling__attn_factor=0.5).rope_scaling
    assert weaker.attention_factor == pytest.approx(0.5 * own)
    linear = LinearScaling(factor=4.0)
    assert config_of(tmp_path, rope__scale_linear=4.0).rope_scaling == linear
    old = {"rope__scaling__type": "linear", "rope__scale_linear": 4.0}
    assert config_of(tmp_path, **old).rope_scaling == linear
    assert config_of(tmp_path, rope__scale_linear=1.0).rope_scaling is None
    assert config_of(tmp_path, rope__dimension_count=16).rotary_dim is None
    assert config_of(tmp_path, "phi3").rotary_dim == 12


@pytest.mark.parametrize(
    ("metadata", "complaint"),
    [
        ({"rope__scaling__yarn_attn_factor": 0.7}, "rope.scaling.yarn_attn_factor = 0.69"),
        ({"rope__scaling__yarn_log_multiplier": 0.1}, "yarn_log_multiplier"),
        ({"rope__dimension_count": 8}, "partial_rotary_factor = 0.5 is not supported"),
        ({"rope__freq_base_swa": 1e4}, "llama.rope.freq_base_swa = 10000.0 is not known"),
        ({"logit_scale": 0.5}, "llama.logit_scale = 0.5 is not supported"),
        ({"attention__scale": 0.5}, "attention.scale"),
        ({"attention__value_length": 8}, "different lengths"),
        ({"vocab_size": 12}, "vocab_size = 12, but there are"),
        ({"rope__freq_base": "many"}, "is not a number"),
        ({"rope__freq_base": float("nan")}, "not a positive, finite number"),
        ({"rope__scaling__type": "su", "rope__scaling__factor": 2.0}, "'su' is not supported"),
        ({"new": "x"}, "llama.new = 'x' is not known"),
    ],
)
def test_what_it_says_and_we_do_not_honour_is_named(tmp_path, metadata, complaint) -> None:
    with pytest.raises(UserError) as caught:
        config_of(tmp_path, **metadata)
    assert complaint in str(caught.value)
