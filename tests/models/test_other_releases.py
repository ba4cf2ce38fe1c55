"""Exports are read by transformers 4 as by 5, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers import models as kinds
from transformers import PreTrainedTokenizerFast

from gapjax import models
from gapjax.models.export import write_json
from gapjax.models.export_config import config_to_hf
from gapjax.models.export_tokenizer import save_tokenizer
from tests.conftest import ROOT
from tests.models.double import FLOAT32
from tests.models.tiny import (
    CONFIGS,
    FAMILY_EXAMPLES,
    GOLDEN,
    config,
    golden_tokens,
    random_model,
)

RELEASE_4 = Path(os.environ.get("TRANSFORMERS4", ROOT / ".transformers4"))
TEXTS = ("What is 12 + 345 ?", "  a<|end|> b</s>\n it 's", "naïve — 😀", "")
MARKS = ("<s>", "</s>", "<|end|>")


def tokenizer(split, decode, *, post: str | None = None, **options) -> PreTrainedTokenizerFast:
    alphabet = sorted({*pre_tokenizers.ByteLevel.alphabet(), "▁"})
    made = Tokenizer(kinds.BPE({c: i for i, c in enumerate(alphabet)}, [], fuse_unk=True))
    made.pre_tokenizer, made.decoder = split, decode
    made.add_special_tokens(list(MARKS))
    if post is not None:
        ids = [(mark, made.token_to_id(mark)) for mark in MARKS]
        made.post_processor = processors.TemplateProcessing(single=post, special_tokens=ids)
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", **options
    )


def byte_level(*, prefix: bool = False, **options) -> PreTrainedTokenizerFast:
    split = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    return tokenizer(split, decoders.ByteLevel(), **options)


TOKENIZERS = {
    "chat": byte_level(
        chat_template="{% for m in messages %}<s>{{ m.content }}<|end|>{% endfor %}",
        additional_special_tokens=["<|end|>"],
        post="<s> $A",
        padding_side="left",
        model_max_length=77,
    ),
    "prefix": byte_level(prefix=True, pad_token="</s>", truncation_side="left"),
    "metaspace": tokenizer(pre_tokenizers.Metaspace(), decoders.Metaspace(), post="<s> $A </s>"),
    "cleaned": byte_level(clean_up_tokenization_spaces=True),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Random models of every kind, and tokenizers beside every family's configuration."""
    made = tmp_path_factory.mktemp("exports")
    for number, name in enumerate(CONFIGS):
        stated = {"eos_token_id": [2, 5], "top_k": 7}
        models.save(random_model(name), None, made / str(number), generation_config=stated)
    beside = dict.fromkeys(TOKENIZERS, FAMILY_EXAMPLES[0]) | dict.fromkeys(FAMILY_EXAMPLES)
    for name, family in beside.items():
        (made / name).mkdir()
        write_json(
            made / name / "config.json", config_to_hf(config(family or name), dtype="float32")
        )
        save_tokenizer(TOKENIZERS.get(name, TOKENIZERS["chat"]), made / name)
    return made


def ask(release: Path | None, folder: Path, *, of_models: int) -> tuple[dict, dict]:
    """What a release says of the folder; None: the one that is installed."""
    tokens, mask = golden_tokens()
    rows = [row[real].tolist() for row, real in zip(tokens, mask, strict=True)]
    named = [path.name for path in folder.iterdir() if not path.name.isdigit()]
    question = {
        "rows": {str(number): rows for number in range(of_models)},
        "texts": dict.fromkeys(sorted(named), TEXTS),
    }
    out = folder.parent / f"{folder.name}.npz"
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("by_release.py"), out],
        input=json.dumps(question),
        env=os.environ | {"PYTHONPATH": str(release or ""), "HF_HUB_OFFLINE": "1"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(out) as arrays:
        return json.loads(done.stdout), dict(arrays)


def test_transformers_4_reads_an_export_as_5_does(folder) -> None:
    pytest.importorskip("torch")
    if not RELEASE_4.is_dir():
        pytest.skip("transformers 4 is not here: make transformers4")
    old, logits = ask(RELEASE_4, folder, of_models=len(CONFIGS))
    new, few = ask(None, folder, of_models=1)
    assert (old["version"][0], new["version"][0]) == ("4", "5")
    for name, said in new["texts"].items():
        assert old["texts"][name] == said, name
    assert old["texts"]["chat"]["chat"] == f"<s>{TEXTS[0]}<|end|>"
    assert all(ends == [2, 5] for ends in (*old["ends"].values(), *new["ends"].values()))
    tokens, mask = golden_tokens()
    stored = np.load(GOLDEN)  # what transformers 5 computes
    for number, name in enumerate(CONFIGS):
        expected = stored[name]
        found = np.zeros((*tokens.shape, expected.shape[-1]))
        found[mask] = logits[str(number)]
        room = FLOAT32 * np.abs(expected).max()
        found = found[:, stored["positions"]]
        np.testing.assert_allclose(found, expected, rtol=0, atol=room, err_msg=name)
    assert few.keys() == {"0"}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_files_of_a_tokenizer_say_nothing_else(name: str, tmp_path) -> None:
    """Not how it was loaded, nor what a foreign file held beside."""
    save_tokenizer(TOKENIZERS[name], tmp_path / "first")
    path = tmp_path / "first" / "tokenizer_config.json"
    written = json.loads(path.read_text())
    path.write_text(json.dumps(written | {"name_or_path": "/home/me", "a_key": {"b": 1}}))
    loaded = PreTrainedTokenizerFast.from_pretrained(tmp_path / "first", local_files_only=True)
    save_tokenizer(loaded, tmp_path / "second")
    assert json.loads((tmp_path / "second" / "tokenizer_config.json").read_text()) == written
    assert written["tokenizer_class"] == "PreTrainedTokenizerFast"
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path / "second", local_files_only=True)
    for text in TEXTS:
        assert again.encode(text) == loaded.encode(text)
