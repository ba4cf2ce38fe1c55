"""Folders with a tokenizer but no `tokenizer.json`: as transformers has it, or what to run."""

from __future__ import annotations

import functools
import importlib.util
import json
import random
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer

from gapjax.errors import UserError
from gapjax.models.prompts import encode_prompt
from gapjax.models.tokenizer_files import load_tokenizer

CORPUS = [f"What is {a} plus {b}? Héllo, the quick brown fox." for a in range(9) for b in range(20)]
TEXTS = (
    *("1 plus 2", "What is 12345 plus 1,000?", "  two  spaces ", "a\nb\t\tc", "é ｆｕｌｌ １２"),
    *("😀 مرحبا 你好", "it's; x=[1]", "", " ", "<s>x</s> y", "What</s>is", "<|im_end|>\n", "▁_▁"),
)
IM_END = {"content": "<|im_end|>", "special": True, "normalized": False, "lstrip": False}
AS_IT_IS = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}

NO_PREFIX = AS_IT_IS | {"add_dummy_prefix": False}
NO_BYTES = AS_IT_IS | {"byte_fallback": False, "vocab_size": 150}
UNIGRAM = {"model_type": "unigram", "vocab_size": 300}
IM_END_TOO = {"added_tokens_decoder": {"308": IM_END}, "eos_token": "<|im_end|>"}


def configured(folder: Path, model_type: str, **tokenizer_config) -> Path:
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    config = {key: value for key, value in tokenizer_config.items() if value is not None}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@functools.cache
def pieces(**options) -> bytes:
    sentencepiece = pytest.importorskip("sentencepiece")
    with Writer() as writer:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS),
            model_writer=writer,
            minloglevel=2,
            **{"vocab_size": 340, "model_type": "bpe", "byte_fallback": True} | options,
        )
    return writer.content


class Writer:
    content = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def write(self, data: bytes) -> None:
        self.content += data


def with_pieces(folder: Path, model_type="llama", options=AS_IT_IS, **config) -> Path:
    (folder / "tokenizer.model").write_bytes(pieces(**options))
    config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>"} | config
    return configured(folder, model_type, **config)


@functools.cache
def byte_level() -> tuple[str, str]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=alphabet,
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return json.dumps(model["vocab"]), "\n".join(" ".join(pair) for pair in model["merges"]) + "\n"


def with_merges(folder: Path, model_type="llama", **config) -> Path:
    for name, text in zip(("vocab.json", "merges.txt"), byte_level(), strict=True):
        (folder / name).write_text(text, encoding="utf-8")
    return configured(folder, model_type, **{"eos_token": "<|endoftext|>"} | config)


def texts() -> list[str]:
    draw = random.Random(0)
    letters = "ab 0123 \n.'é😀Ⅷﬁ<|>s/▁"
    return [*TEXTS, *("".join(draw.choices(letters, k=12)) for _ in range(100))]


@pytest.mark.parametrize(
    "make",
    [
        with_pieces,
        functools.partial(with_pieces, options={}),  # a normalisation that transformers leaves out
        functools.partial(with_pieces, tokenizer_class="LlamaTokenizerFast"),
        functools.partial(with_pieces, add_bos_token=True),
        functools.partial(with_pieces, add_prefix_space=False, options=NO_PREFIX),
        functools.partial(with_pieces, options=AS_IT_IS | {"user_defined_symbols": "<|u|>"}),
        functools.partial(with_pieces, added_tokens_decoder={"340": IM_END}),
        functools.partial(with_merges, tokenizer_class="GPT2Tokenizer"),
        functools.partial(with_merges, tokenizer_class="GPT2Tokenizer", add_prefix_space=True),
        functools.partial(with_merges, tokenizer_class="Qwen2TokenizerFast", model_type="qwen2"),
        functools.partial(with_merges, tokenizer_class="Qwen2Tokenizer", **IM_END_TOO),
        functools.partial(with_merges, model_type="qwen3"),
    ],
)  # fmt: skip
def test_as_transformers_has_it(tmp_path, make) -> None:
    folder = make(tmp_path)
    tokenizer, theirs = load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    assert tokenizer.backend_tokenizer.to_str() == theirs.backend_tokenizer.to_str()
    for text in texts():
        ids = tokenizer.encode(text)
        assert ids == theirs.encode(text)
        assert tokenizer.decode(ids) == theirs.decode(ids)
    assert (tokenizer.eos_token, tokenizer.bos_token) == (theirs.eos_token, theirs.bos_token)
    assert encode_prompt(tokenizer, "1 plus 2")
    tokenizer.save_pretrained(folder)  # as an export has it
    again = load_tokenizer(folder)
    assert [again.encode(text) for text in texts()] == [tokenizer.encode(text) for text in texts()]


def test_ordinary_text_as_sentencepiece_cuts_it(tmp_path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    tokenizer = load_tokenizer(with_pieces(tmp_path))
    own = sentencepiece.SentencePieceProcessor(model_proto=pieces(**AS_IT_IS))
    for text in (text for text in texts() if text.strip() == text and not set("<▁") & set(text)):
        assert tokenizer.encode(text, add_special_tokens=False) == own.encode(text)


@pytest.mark.parametrize("name", ["GPT2Tokenizer", "Qwen2Tokenizer"])
def test_the_rules_of_a_class_are_its_own(tmp_path, name) -> None:
    tokenizer = load_tokenizer(with_merges(tmp_path, tokenizer_class=name))
    vocabulary, merges = byte_level()
    pairs = [tuple(line.split(" ")) for line in merges.splitlines()]
    expected = Tokenizer(models.BPE(vocab=json.loads(vocabulary), merges=pairs))
    expected.add_special_tokens(["<|endoftext|>"])
    expected.decoder = decoders.ByteLevel()
    if name == "GPT2Tokenizer":
        expected.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        from gapjax.models.gguf_tokenizer import _pre_tokenizer

        expected.normalizer = normalizers.NFC()
        expected.pre_tokenizer = _pre_tokenizer("qwen2")
    for text in (*texts(), "e\u0301 1234"):
        assert tokenizer.encode(text) == expected.encode(text).ids


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (functools.partial(with_pieces, model_type="mistral"), r"tokenizer\.model: .* another way"),
        (functools.partial(with_pieces, model_type="phi3"), r"transformers<5.*save_pretrained"),
        (functools.partial(with_pieces, tokenizer_class=None), "another way than SentencePiece"),
        (functools.partial(with_pieces, options=NO_BYTES), "another way"),
        (functools.partial(with_pieces, options=UNIGRAM), "another way than SentencePiece"),
        (functools.partial(with_pieces, model_type="qwen2"), "another way than SentencePiece"),
        (with_merges, r"vocab\.json: transformers makes no tokenizer.*tokenizer_class.*GPT2"),
        (functools.partial(with_merges, tokenizer_class="LlamaTokenizer"), "makes a Llama"),
        (functools.partial(with_merges, tokenizer_class="RobertaTokenizer"), "does not use it"),
        (functools.partial(with_merges, tokenizer_class="NoTokenizer"), "makes no tokenizer of it"),
    ],
)  # fmt: skip
def test_what_is_not_read_as_it_is_meant_says_what_to_run(tmp_path, make, complaint) -> None:
    with pytest.raises(UserError, match=complaint):
        load_tokenizer(make(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("tokenizer.model", b"", "SentencePiece"),
        ("tokenizer.model", b"IQ== 0\nIg== 1\n", "is no SentencePiece model"),  # tiktoken's
        ("tokenizer.model", b"\x0a\xff\xff\xff\xff\x7f", "is no SentencePiece model"),
        ("vocab.json", b"[" * 100_000, "nested too deeply"),
        ("vocab.json", b"[1]", r"vocab\.json"),
        ("vocab.json", b'{"a": "b"}', r"vocab\.json"),
        ("merges.txt", b"one two three\n", r"vocab\.json"),
        ("merges.txt", b"\xff\xfe", r"vocab\.json"),
    ],
)
def test_damaged_files(tmp_path, name, content, complaint) -> None:
    if name == "tokenizer.model":
        folder = with_pieces(tmp_path)
    else:
        folder = with_merges(tmp_path, tokenizer_class="GPT2Tokenizer")
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=complaint) as error:
        load_tokenizer(folder)
    assert "\n" not in str(error.value)


def test_without_sentencepiece(tmp_path, monkeypatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "sentencepiece" else found(name)
    )
    with pytest.raises(UserError, match=r"tokenizer\.model: .*pip install sentencepiece protobuf"):
        load_tokenizer(with_pieces(tmp_path))


def test_no_tokenizer(tmp_path) -> None:
    assert load_tokenizer(tmp_path) is None
    (tmp_path / "vocab.json").write_text("{}")  # without merges it is somebody else's
    assert load_tokenizer(tmp_path) is None


def with_whole(folder: Path) -> Path:
    vocabulary, merges = byte_level()
    pairs = [line.split(" ") for line in merges.splitlines()]
    made = Tokenizer(models.BPE(json.loads(vocabulary), [(a, b) for a, b in pairs]))
    made.add_special_tokens(["<|endoftext|>"])
    made.save(str(folder / "tokenizer.json"))
    return configured(folder, "llama", eos_token="<|endoftext|>")


CONFIG, MAP, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"


@pytest.mark.parametrize(
    ("name", "said", "complaint"),
    [
        (CONFIG, {"a_new_rule": 1}, "a_new_rule = 1 is not known"),
        (CONFIG, {"tokenizer_object": "x"}, "tokenizer_object = 'x' is not known"),
        (CONFIG, {"vocab_file": "/etc/hostname"}, "vocab_file = '/etc/hostname' is not supported"),
        (CONFIG, {"init_inputs": [1]}, "init_inputs = "),
        (CONFIG, {"model_max_length": "long"}, "model_max_length = 'long' is not a number"),
        (CONFIG, {"model_max_length": True}, "model_max_length = True is not a number"),
        (CONFIG, {"eos_token": 2}, "eos_token = 2 is no token"),
        (CONFIG, {"eos_token": ["a"]}, r"eos_token = \['a'\] is no token"),
        (CONFIG, {"extra_special_tokens": [["a"]]}, "extra_special_tokens = "),
        (CONFIG, {"additional_special_tokens": 7}, "additional_special_tokens = 7 is no token"),
        (CONFIG, {"clean_up_tokenization_spaces": "no"}, "is not true or false"),
        (CONFIG, {"padding_side": "up"}, "padding_side is neither"),
        (CONFIG, {"added_tokens_decoder": [1]}, "is not a table"),
        (CONFIG, {"added_tokens_decoder": {"-1": IM_END}}, "'-1' is no token id"),
        (CONFIG, {"added_tokens_decoder": {"9" * 5000: IM_END}}, "is no token id"),
        (CONFIG, {"added_tokens_decoder": {"4000000000": IM_END}}, "is no token id"),
        (CONFIG, {"added_tokens_decoder": {"308": "<|im_end|>"}}, "is no token"),
        (CONFIG, {"added_tokens_decoder": {"5": IM_END}}, "has id 5 in .* and 308 by"),
        (MAP, {"tokenizer_file": "/etc/hostname"}, "tokenizer_file = .* is not known"),
        (MAP, {"eos_token": {"content": 3}}, "is no token"),
        (ADDED, {"<|im_end|>": 5}, "has id 5 in .* and 308 by"),
        (ADDED, {"<|im_end|>": "5"}, "is not a whole number"),
        (ADDED, {"<|im_end|>": 10**40}, "is not between"),
    ],
)
@pytest.mark.parametrize("make", [with_whole, functools.partial(with_merges, model_type="qwen3")])
def test_what_is_said_beside_the_vocabulary(tmp_path, make, name, said, complaint) -> None:
    folder = make(tmp_path)
    path = folder / name
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(before | said))
    with pytest.raises(UserError, match=complaint) as error:
        load_tokenizer(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["tokenizer.json", CONFIG, MAP, ADDED])
@pytest.mark.parametrize(
    "content",
    [b"[" * 10**5, b'{"a": NaN}', b'{"a": 1, "a": 2}', b"\xff\xfe{", b"[1]", b"3", b"\x00", b""],
)
def test_files_that_hold_no_object(tmp_path, name, content) -> None:
    folder = with_whole(tmp_path)
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=name) as error:
        load_tokenizer(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "said",
    [
        {"add_bos_token": False, "model_max_length": 10**30, "errors": "replace", "legacy": None},
        {"added_tokens_decoder": {"308": IM_END}, "additional_special_tokens": ["<|im_end|>"]},
        {"pad_token": {"__type": "AddedToken", "content": "<|endoftext|>", "lstrip": False}},
        {"image_token": "<|image|>", "extra_special_tokens": {"boi_token": "<|boi|>"}},
        {"tokenizer_file": None, "vocab_file": "vocab.json", "init_inputs": []},
    ],
)
def test_what_others_write_beside_it_loads(tmp_path, said) -> None:
    folder = with_whole(tmp_path)
    path = folder / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | said))
    assert load_tokenizer(folder).eos_token == "<|endoftext|>"


def test_what_transformers_writes_is_known(tmp_path) -> None:
    load_tokenizer(with_whole(tmp_path)).save_pretrained(tmp_path / "again")
    assert load_tokenizer(tmp_path / "again").eos_token == "<|endoftext|>"


def test_an_end_that_no_vocabulary_has(tmp_path) -> None:
    folder = configured(with_whole(tmp_path), "llama", eos_token="<|im_end|>")
    with pytest.raises(UserError, match=r"eos_token = '<\|im_end\|>' is no token of"):
        load_tokenizer(folder)
    configured(folder, "llama", **IM_END_TOO)
    assert load_tokenizer(folder).eos_token_id == 308
