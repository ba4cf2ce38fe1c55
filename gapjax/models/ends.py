"""The tokens that end an answer, from everything that comes with a model.

    generation_config.json, config.json    `eos_token_id`: one, or a list
    GGUF metadata                          eos, eot and eom tokens, and end tokens known by text
    the tokenizer                          its end-of-sequence token
    the chat template                      what it writes after an assistant's message

Each of them knows some of these tokens, and none need know all: a chat model's tokenizer often
names the end of a text, where an answer ends with the end of a turn. Every one of them ends an
answer. Nobody else in gapjax reads these sources; stop texts are added in
`gapjax.generation.stops`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from gapjax.errors import UserError
from gapjax.models.templates import Framing, render

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from gapjax.models.gguf import Metadata

EOS = "eos_token_id"

# Tokens of this text end a generation in llama.cpp, whatever the metadata say.
_KNOWN_TEXTS = (
    *("<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>"),
    *("<|end_of_text|>", "<end_of_utterance>", "</s>", "<eos>", "<EOT>", "_<EOT>", "[EOT]"),
    *("[EOS]", "<|return|>", "<|call|>", "<|calls|>", "<|flush|>"),
)
_GGUF_TYPES = (3, 4)  # control, user-defined: tokens that ordinary text does not make
_GGUF_KEYS = ("eos", "eot", "eom")

# Stands for the content of a message; no template treats it specially.
_CONTENT = "\x00"
_PLAIN = Framing()


@dataclasses.dataclass(frozen=True)
class Ends:
    """The tokens that end an answer.

    - `tokens`: all of them, ascending; none for a model that has no end.
    - `turn`: the one of them that the model itself writes when its answer is over.
    """

    tokens: tuple[int, ...]
    turn: int | None

    def terminator(self) -> int:
        """`turn`. **Raises:** `UserError` if there is none."""
        if self.turn is None:
            raise UserError(
                "the model has no token that ends an answer",
                hint="set eos_token_id in its generation_config.json",
            )
        return self.turn

    @property
    def value(self) -> int | list[int] | None:
        """As configuration files have it, the end of a turn first."""
        others = [token for token in self.tokens if token != self.turn]
        if self.turn is None or not others:
            return self.turn
        return [self.turn, *others]


def find_ends(
    tokenizer: PreTrainedTokenizerFast | None,
    generation_config: Mapping[str, Any] | None,
    *,
    vocab_size: int,
    framing: Framing = _PLAIN,
    where: object = EOS,
) -> Ends:
    """The end tokens of a model.

    **Arguments:**

    - `tokenizer`, `generation_config`: as in `LoadedModel`.
    - `vocab_size`: of the model.
    - `framing`: of the prompts that are answered.
    - `where`: the file or folder, for error messages.

    **Raises:** `UserError` for one that the model cannot sample.
    """
    stated = stated_ends(generation_config or {}, where=where)
    own: int | None = None if tokenizer is None else tokenizer.eos_token_id
    turn = None if tokenizer is None else turn_end(tokenizer, framing)
    found = sorted({*stated, *(token for token in (own, turn) if token is not None)})
    for token in found:
        if token >= vocab_size:
            raise UserError(
                f"the end token {token} is outside the model's vocabulary of {vocab_size}",
                where=where,
                hint="the tokenizer or the configuration belongs to another model",
            )
    if turn is None:
        turn = own if own in stated or not stated else stated[0]
    return Ends(tuple(found), turn)


def stated_ends(config: Mapping[str, Any], *, where: object) -> list[int]:
    """The `eos_token_id` of a configuration, as a list without repetitions.

    **Raises:** `UserError` for anything but one token id, a list of them, or null.
    """
    value = config.get(EOS)
    listed = value if isinstance(value, list) else [] if value is None else [value]
    for token in listed:
        if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < 2**31:
            raise UserError(
                f"{EOS} = {str(value)[:80]} is neither a token id nor a list of them", where=where
            )
    return list(dict.fromkeys(listed))


def with_ends(
    generation_config: Mapping[str, Any] | None, more: Iterable[int]
) -> dict[str, Any] | None:
    """A generation configuration that names `more` end tokens; None if there is nothing in it."""
    config = dict(generation_config or {})
    stated = stated_ends(config, where="generation_config")
    if missing := [token for token in dict.fromkeys(more) if token not in stated]:
        ends = [*stated, *missing]
        config[EOS] = ends if len(ends) > 1 else ends[0]
    return config or None


def gguf_ends(metadata: Metadata) -> list[int]:
    """The end tokens that the metadata of a GGUF file name, and those known by their text.

    As in llama.cpp, except that tokens between files and for filling in the middle of code
    do not count.

    **Raises:** `UserError` for a value that is no token.
    """
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    ends = []
    for name in _GGUF_KEYS:
        key = f"tokenizer.ggml.{name}_token_id"
        index = metadata.get(key)
        if index is None:
            continue
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(tokens):
            raise UserError(
                f"{key} = {str(index)[:80]} is not one of {len(tokens)} tokens", where=metadata.path
            )
        ends.append(index)
    known = set(_KNOWN_TEXTS)
    # There `<|end|>` ends one message of several.
    if {"<|return|>", "<|call|>", "<|end|>"} <= set(tokens):
        known.remove("<|end|>")
    ends += [
        i
        for i, (text, type_) in enumerate(zip(tokens, types, strict=True))
        if type_ in _GGUF_TYPES and text in known
    ]
    return list(dict.fromkeys(ends))


def turn_end(tokenizer: PreTrainedTokenizerFast, framing: Framing = _PLAIN) -> int | None:
    """The token with which the chat template ends an assistant's message.

    It is the first special token after the message. None where there is no template, it
    takes no such message, or writes nothing but ordinary text after it.
    """
    if tokenizer.chat_template is None:
        return None
    asked = _rendered(tokenizer, framing, 1)
    # One that fails on a question may have taken all its time to do so.
    text = None if asked is None else _rendered(tokenizer, framing, 2)
    if asked is None or text is None or text.count(_CONTENT) < 2:
        return None
    _, between, after = text.rsplit(_CONTENT, 2)
    special = _special_tokens(tokenizer, after)
    # A template may write the header of an answer after the last message, asked for or not:
    # of what then follows any message, what also stands between two of them is an end.
    heedless = asked == _rendered(tokenizer, framing, 1, prompt=True)
    if heedless and asked.endswith(_CONTENT + after):
        special = [token for token in special if token in _special_tokens(tokenizer, between)]
    return special[0] if special else None


def _special_tokens(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """The special tokens of a text, and any other added token at its beginning."""
    ids = tokenizer.encode(text.strip(), add_special_tokens=False)
    added = tokenizer.added_tokens_decoder
    return [i for n, i in enumerate(ids) if i in added and (added[i].special or n == 0)]


def _rendered(
    tokenizer: PreTrainedTokenizerFast, framing: Framing, turns: int, *, prompt: bool = False
) -> str | None:
    """What the chat template makes of messages that hold nothing but `_CONTENT`."""
    messages = framing.messages(*[_CONTENT] * turns)
    try:
        return render(tokenizer, messages, framing=framing, prompt=prompt)
    except UserError:
        return None  # it may take no such message; one that fails on a prompt is refused there
