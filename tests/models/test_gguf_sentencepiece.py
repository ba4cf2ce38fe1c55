"""SentencePiece tokenizers in GGUF files, against the `sentencepiece` package itself."""

from __future__ import annotations

import functools
import io
import random
from pathlib import Path

import pytest

from gapjax import models
from gapjax.errors import UserError
from gapjax.models.gguf import Metadata
from gapjax.models.gguf_reader import FastGGUFReader
from gapjax.models.gguf_tokenizer import merges_by_score, read_tokenizer
from gapjax.models.prompts import encode_around
from tests.models.test_gguf import write_gguf

spm = pytest.importorskip("sentencepiece")

TEXT = (Path(__file__).parents[2] / "LICENSE").read_text()
PARTS = [*"abe019.`|_▁é😀\n\t", " ", "  ", "the", "tion", "License", "<think", "数"]


def train(**options):
    """In the manner of Llama 2: byte fallback, digits alone, spaces kept."""
    out = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT.splitlines()),
        model_writer=out,
        model_type="bpe",
        vocab_size=600,
        byte_fallback=True,
        character_coverage=0.99,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        control_symbols=["<|turn|>"],
        user_defined_symbols=["<think>"],
        num_threads=1,
        minloglevel=2,
        **options,
    )
    return spm.SentencePieceProcessor(model_proto=out.getvalue())


@pytest.fixture(scope="module")
def reference():
    return train()


def token_type(reference, i: int) -> int:
    named = {2: reference.is_unknown(i), 3: reference.is_control(i), 6: reference.is_byte(i)}
    named |= {4: reference.id_to_piece(i) == "<think>"}
    return next((number for number, is_it in named.items() if is_it), 1)


def add_sentencepiece(writer, pre: str, *, reference) -> int:
    size = reference.get_piece_size()
    writer.add_tokenizer_model("llama")
    writer.add_token_list([reference.id_to_piece(i) for i in range(size)])
    writer.add_token_scores([reference.get_score(i) for i in range(size)])
    writer.add_token_types([token_type(reference, i) for i in range(size)])
    writer.add_unk_token_id(reference.unk_id())
    writer.add_bos_token_id(reference.bos_id())
    writer.add_eos_token_id(reference.eos_id())
    return size


def from_gguf(folder, reference, *, architecture="llama", change=lambda writer: None):
    """The tokenizer of a file that holds nothing else."""
    from gguf import GGUFWriter

    path = folder / "tokenizer.gguf"
    writer = GGUFWriter(path, architecture)
    add_sentencepiece(writer, "default", reference=reference)
    change(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return read_tokenizer(Metadata(FastGGUFReader(path), path))


def odd_texts() -> list[str]:
    rng = random.Random(0)
    texts = [
        "",
        " ",
        "   ",
        "Hello world",
        "  leading",
        "a  b   c\n\n d ",
        "数学 👩‍🚀",
        "\x00\x7f",
        "ﬁ ½",
    ]
    texts += ["<0x0A>", "</", "▁▁ x", "1234 5.6"]
    for _ in range(300):
        texts.append("".join(rng.choices(PARTS, k=rng.randint(1, 20))))
        start = rng.randrange(len(TEXT))
        texts.append(TEXT[start : start + rng.randint(1, 60)])
    return texts


@pytest.mark.parametrize("prefix", [True, False])
def test_tokens_and_texts_equal_those_of_sentencepiece(tmp_path, prefix) -> None:
    reference = train(add_dummy_prefix=prefix)
    ours = from_gguf(tmp_path, reference, change=lambda writer: writer.add_add_space_prefix(prefix))
    assert len(ours) == reference.get_piece_size()
    for text in odd_texts():
        expected = reference.encode(text)
        assert ours.encode(text, add_special_tokens=False) == expected
        assert ours.decode(expected) == reference.decode(expected) == text.replace("▁", " ")
    # The bytes of a character that was cut in two.
    cut = reference.encode("🚀")[:-1]
    assert ours.decode(cut)[:1] == reference.decode(cut)[:1] == "\ufffd"


def test_special_tokens_are_those_of_llama_cpp(tmp_path, reference) -> None:
    ours = from_gguf(tmp_path, reference)
    turn, think = map(reference.piece_to_id, ("<|turn|>", "<think>"))
    assert (ours.bos_token, ours.eos_token, ours.unk_token) == ("<s>", "</s>", "<unk>")
    # Every text begins with <s>; after a special token there is a space again.
    expected = [ours.bos_token_id, *reference.encode("user"), turn, *reference.encode(" is it\n")]
    assert ours.encode("user<|turn|> is it\n") == expected
    assert ours.encode("a<think>", add_special_tokens=False) == [*reference.encode("a"), think]
    assert ours.decode(expected, skip_special_tokens=True).endswith(" is it\n")
    without = from_gguf(tmp_path, reference, change=lambda writer: writer.add_add_bos_token(False))
    assert without.encode("user") == reference.encode("user")


def test_a_quoted_answer_gets_no_space_of_its_own(tmp_path, reference) -> None:
    ours = from_gguf(tmp_path, reference)
    before, after = encode_around(ours, "Is '", "' right?")
    answer = reference.encode("a seven")
    assert ours.decode(before + answer + after, skip_special_tokens=True) == "Is ' a seven' right?"
    assert after == reference.encode("x' right?")[len(reference.encode("x")) :]
    assert encode_around(ours, "x", "")[1] == []


def test_phi3_leaves_out_white_space_after_its_tokens(tmp_path, reference) -> None:
    ours = from_gguf(tmp_path, reference, architecture="phi3")
    turn = reference.piece_to_id("<|turn|>")
    assert ours.encode("<|turn|>\n user<s> x") == [
        *(ours.bos_token_id, turn, *reference.encode("user")),
        *(ours.bos_token_id, *reference.encode(" x")),
    ]


def test_a_model_with_its_tokenizer_loads_and_exports(tmp_path, reference) -> None:
    from transformers import AutoTokenizer

    path = tmp_path / "model.gguf"
    add = functools.partial(add_sentencepiece, reference=reference)
    write_gguf(path, "llama", add_tokenizer=add)
    loaded = models.load(path)
    models.save(loaded.model, loaded.tokenizer, tmp_path / "export")
    again = models.load(tmp_path / "export").tokenizer
    theirs = AutoTokenizer.from_pretrained(tmp_path / "export")
    for text in odd_texts()[:60]:
        ids = [reference.bos_id(), *reference.encode(text)]
        assert loaded.tokenizer.encode(text) == again.encode(text) == theirs.encode(text) == ids


def test_lists_that_do_not_fit_together(tmp_path, reference) -> None:
    for key, complaint in (("scores", "599 scores"), ("types", "types of 599")):
        with pytest.raises(UserError, match=f"600 tokens, but {complaint}"):
            from_gguf(
                tmp_path,
                reference,
                change=lambda writer, key=key: shorten(writer, f"tokenizer.ggml.{key}"),
            )
    with pytest.raises(UserError, match="bos token 600 is not one of 600"):
        from_gguf(
            tmp_path,
            reference,
            change=lambda writer: replace(writer, "tokenizer.ggml.bos_token_id", 600),
        )


def replace(writer, key: str, value) -> None:
    """Overwrite a value that was added before."""
    key = key.replace("types", "token_type")
    writer.kv_data[0][key].value = value


def shorten(writer, key: str) -> None:
    stored = writer.kv_data[0][key.replace("types", "token_type")]
    stored.value = stored.value[:-1]


def test_merges_follow_scores() -> None:
    scores = {"a": 0.0, "b": 0.0, "ab": -2.0, "ba": -1.0, "aba": -3.0, "xy": 0.0}
    assert merges_by_score(scores) == [("b", "a"), ("a", "b"), ("a", "ba"), ("ab", "a")]
