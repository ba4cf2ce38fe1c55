"""What ends an answer: every source counts, and an export stops where we stop."""

from __future__ import annotations

import json

import numpy as np
import pytest
from flax import nnx
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers import models as backends
from transformers import PreTrainedTokenizerFast

from gapjax import models
from gapjax.errors import UserError
from gapjax.models import DecoderConfig, LoadedModel, Transformer
from gapjax.models.ends import Ends, find_ends, stated_ends

SPECIAL = ("<s>", "</s>", "<|user|>", "<|assistant|>", "<|end|>", "<|eot|>")
S, EOS, USER, ASSISTANT, END, EOT = range(256, 262)
VOCABULARY = 262

CHATML = (
    "{% for m in messages %}<|user|>{{ m.role }}\n{{ m.content | trim }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|user|>assistant\n{% endif %}"
)


def byte_level(template: str | None = None, eos: str | None = "</s>") -> PreTrainedTokenizerFast:
    """A token a byte, and some special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(backends.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(SPECIAL))
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=eos, chat_template=template)


def ends(template: str | None = None, stated: object = None, eos: str | None = "</s>") -> Ends:
    config = None if stated is None else {"eos_token_id": stated}
    return find_ends(byte_level(template, eos), config, vocab_size=VOCABULARY)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("stated", "eos", "tokens", "turn"),
    [
        (None, "</s>", (EOS,), EOS),
        (None, None, (), None),
        (END, "</s>", (EOS, END), END),  # the configuration knows better than the tokenizer
        ([END, EOS], "</s>", (EOS, END), EOS),  # … unless it knows the tokenizer's as well
        ([END, EOT], None, (END, EOT), END),
        ([EOT, EOT], None, (EOT,), EOT),
        ([], "</s>", (EOS,), EOS),
        ([0], None, (0,), 0),
    ],
    ids=str,
)
def test_configuration_and_tokenizer(stated, eos, tokens, turn) -> None:
    assert ends(None, stated, eos) == Ends(tokens, turn)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("template", "end"),
    [
        (CHATML, END),
        # Llama 2: a space before it.
        (
            "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
            "{% else %} {{ m.content }} </s>{% endif %}{% endfor %}",
            EOS,
        ),
        # Ordinary text, then the end.
        ("{% for m in messages %}{{ m.content }} (done)<|eot|>{% endfor %}", EOT),
        # Alpaca: no special token anywhere.
        ("{% for m in messages %}### {{ m.role }}:\n{{ m.content }}\n\n{% endfor %}", None),
        # Headers without ends; the next answer's is not an end, asked for or not.
        (
            "{% for m in messages %}{{ '<|user|>' if m.role == 'user' else '<|assistant|>' }}"
            "{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
            None,
        ),
        ("{% for m in messages %}<|user|>{{ m.content }}{% endfor %}<|assistant|>", None),
        ("{% for m in messages %}<|user|>{{ m.content }}<|end|>{% endfor %}<|assistant|>", END),
        # Templates that take no assistant's message.
        ("{{ messages[0].content }}<|end|>", None),
        ("{% if messages | length > 1 %}{{ raise_exception('one') }}{% endif %}x<|end|>", None),
        ("{{ messages[1].text.upper() }}", None),
        # The answer quoted in another spelling.
        ("{% for m in messages %}{{ m.content | tojson }}<|end|>{% endfor %}", None),
        # Sections that only reasoning models have.
        ("{% for m in messages %}<|assistant|>(hm)\n\n{{ m.content }}\n<|eot|>\n{% endfor %}", EOT),
    ],
)
def test_chat_templates(template, end) -> None:
    found = ends(template, stated=[EOS])
    assert found == Ends(tuple(sorted({EOS, end} - {None})), EOS if end is None else end)


@pytest.mark.fast
@pytest.mark.parametrize(
    "value", ["2", 2.0, True, [True], [[2]], -1, 2**31, {"a": 1}, [2, None], [2, "x"], [1e9]]
)
def test_what_is_no_token_is_refused(value) -> None:
    with pytest.raises(UserError, match=r"config\.json: eos_token_id = .* neither a token id"):
        stated_ends({"eos_token_id": value}, where="config.json")


@pytest.mark.fast
def test_tokens_that_the_model_cannot_sample_are_refused() -> None:
    for template, stated in ((None, [262]), (CHATML, None)):
        with pytest.raises(UserError, match="outside the model's vocabulary of"):
            find_ends(byte_level(template), {"eos_token_id": stated}, vocab_size=END)


def model() -> Transformer:
    config = DecoderConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=16,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        head_dim=8,
        max_position=64,
    )
    return Transformer(config, rngs=nnx.Rngs(0))


def rewrite(path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def folder(tmp_path):
    models.save(model(), byte_level(CHATML), tmp_path / "model")
    return tmp_path / "model"


def test_a_folder_is_read_with_all_its_sources(folder) -> None:
    """transformers stops at what either file says."""
    for config, generation, expected in (
        ([EOT, EOS], None, (EOS, END, EOT)),
        (None, {"eos_token_id": EOT}, (EOS, END, EOT)),
        (S, {"eos_token_id": [EOT], "top_k": 5}, (S, EOS, END, EOT)),
        (None, {}, (EOS, END)),
    ):
        rewrite(folder / "config.json", eos_token_id=config)
        (folder / "generation_config.json").unlink(missing_ok=True)
        if generation is not None:
            (folder / "generation_config.json").write_text(json.dumps(generation))
        loaded = models.load(folder)
        assert loaded.ends == Ends(expected, END)
        for key, value in (generation or {}).items():
            if key != "eos_token_id":
                assert loaded.generation_config[key] == value


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("value", ["</s>", [1, 2.5], 300, [300]])
def test_nonsense_in_a_folder_is_one_line(folder, name, value) -> None:
    rewrite(folder / name, eos_token_id=value)
    with pytest.raises(UserError, match=f"{folder}.*(eos_token_id = |the end token 300 is out)"):
        models.load(folder)


def test_transformers_stops_where_we_stop(folder, tmp_path) -> None:
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    rewrite(folder / "config.json", eos_token_id=EOT)
    (folder / "generation_config.json").write_text('{"top_k": 7, "do_sample": true}')
    loaded = models.load(folder)
    assert loaded.ends.tokens == (EOS, END, EOT)
    out = tmp_path / "out"
    models.save(loaded.model, loaded.tokenizer, out, generation_config=loaded.generation_config)
    theirs = AutoModelForCausalLM.from_pretrained(out)
    assert set(theirs.generation_config.eos_token_id) == {EOS, END, EOT}
    assert theirs.generation_config.top_k == 7
    assert AutoTokenizer.from_pretrained(out).eos_token == "</s>"
    # Where there is no generation_config.json, the configuration is gone by.
    assert set(GenerationConfig.from_model_config(theirs.config).eos_token_id) == {EOS, END, EOT}
    with torch.no_grad():
        for end in (EOS, END, EOT):  # each is made the likeliest token, and ends it at once
            theirs.lm_head.weight.zero_()
            theirs.lm_head.weight[end] = theirs.model(torch.tensor([[70]]))[0][0, -1]
            made = theirs.generate(torch.tensor([[70]]), max_new_tokens=5, do_sample=False)
            assert made[0].tolist() == [70, end]
    assert models.load(out).ends == loaded.ends


def test_a_model_without_any_end(tmp_path) -> None:
    models.save(model(), byte_level(eos=None), tmp_path)
    assert not (tmp_path / "generation_config.json").exists()
    loaded = models.load(tmp_path)
    assert loaded.ends == Ends((), None)
    with pytest.raises(UserError, match="no token that ends an answer"):
        loaded.ends.terminator()
    assert np.all(LoadedModel(loaded.model, None).ends.tokens == ())
