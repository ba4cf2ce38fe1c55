"""Special tokens: who writes them, and that there is never one too many."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from gapjax.errors import UserError
from gapjax.models.prompts import (
    encode_after,
    encode_around,
    encode_prompt,
    encode_text,
    stop_tokens,
)

pytestmark = pytest.mark.fast

SPECIAL = ("<pad>", "<s>", "</s>", "<turn>")
WORDS = [*SPECIAL, "user", "assistant", "Is", "it", "seven", "?", "\n", "x\n"]
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<turn>{{ message.role }} {{ message.content }}"
    "{% endfor %}{% if add_generation_prompt %}<turn>assistant{% endif %}"
)


def make_tokenizer(template: str | None, form: str = "<s> $A") -> PreTrainedTokenizerFast:
    """In the manner of Llama: every text begins with `<s>`."""
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single=form, special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=["<turn>"],
        chat_template=template,
    )


def test_a_template_writes_all_special_tokens_itself() -> None:
    tokenizer = make_tokenizer(TEMPLATE)
    ids = encode_prompt(tokenizer, "Is it seven")
    assert tokenizer.convert_ids_to_tokens(ids) == [
        *("<s>", "<turn>", "user", "Is", "it", "seven", "<turn>", "assistant")
    ]
    before, after = encode_around(tokenizer, "Is it ", " ?")
    assert tokenizer.convert_ids_to_tokens(before) == ["<s>", "<turn>", "user", "Is", "it"]
    assert tokenizer.convert_ids_to_tokens(after) == ["?", "<turn>", "assistant"]


def test_without_a_template_the_tokenizer_does() -> None:
    tokenizer = make_tokenizer(None)
    assert encode_prompt(tokenizer, "Is it") == [1, 6, 7]
    assert encode_around(tokenizer, "Is it ", " ?") == ([1, 6, 7], [9])


@pytest.mark.parametrize(
    ("form", "opening"),
    [
        ("<s> $A </s>", [1]),
        ("$A </s>", []),
        ("<s> <s> $A </s> </s>", [1, 1]),
        ("</s> $A </s>", [2]),  # OPT begins so
        ("$A", []),
    ],
)
def test_no_prompt_ends_with_what_the_tokenizer_appends(form, opening) -> None:
    plain = make_tokenizer(None, form)
    assert encode_prompt(plain, "Is it") == encode_text(plain, "Is it") == [*opening, 6, 7]
    # Unknown words, special tokens in the text, nothing at all.
    assert encode_prompt(plain, "who") == [*opening, 9]
    assert encode_prompt(plain, "it </s>") == [*opening, 7, 2]
    assert encode_prompt(plain, "") == opening
    assert encode_around(plain, "Is", "it") == ([*opening, 6], [7])
    chat = make_tokenizer(TEMPLATE, form)
    assert encode_prompt(chat, "Is it seven") == [1, 3, 4, 6, 7, 8, 3, 5]
    assert encode_around(chat, "Is", "it") == ([1, 3, 4, 6], [7, 3, 5])


def test_what_follows_tokens_gets_no_space_of_the_tokenizers_own() -> None:
    alphabet = {letter: i for i, letter in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    for prefix in (False, True):
        backend = Tokenizer(models.BPE(alphabet, []))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
        for text in ("0", ". Is it?", " 0", "\n", "", "é"):
            spelled = tokenizer.convert_ids_to_tokens(encode_after(tokenizer, text))
            assert "".join(spelled) == letters_of(text)


def letters_of(text: str) -> str:
    """The bytes of a text, each spelled as byte-level tokenizers do."""
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return "".join(piece for piece, _ in plain.pre_tokenize_str(text))


def test_no_token_for_a_letter_is_no_fault() -> None:
    digits = Tokenizer(models.BPE({digit: i for i, digit in enumerate("0123456789")}, []))
    assert encode_after(PreTrainedTokenizerFast(tokenizer_object=digits), "42") == [4, 2]


def test_end_tokens_by_the_old_name() -> None:
    tokenizer = make_tokenizer(TEMPLATE)
    assert stop_tokens(tokenizer) == [2]
    assert stop_tokens(tokenizer, generation_config={"eos_token_id": [3, 2]}) == [2, 3]
    tokenizer.eos_token = None
    assert stop_tokens(tokenizer) == []
    with pytest.raises(UserError, match="stops_of"):
        stop_tokens(tokenizer, ["\n"])
