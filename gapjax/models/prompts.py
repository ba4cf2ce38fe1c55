"""From text to token ids: the special-token rules, in one place.

A tokenizer with a chat template gets the prompt as a user's message, followed by the
header of the assistant's turn; the template writes all special tokens itself. Without
one the text is encoded as it stands, after the special tokens the tokenizer puts before
any text (Llama 2's `<s>`, for example). So there is one `<s>`, never two, and never one
in the middle of what is put together from pieces. What a tokenizer puts after any text (an
`</s>`, as is usual for fine-tuning) is left out: a model is not asked to go on after its end.

A tokenizer's padding token is not used at all: padding is token 0 under a false attention
mask, which every model ignores.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gapjax.errors import UserError
from gapjax.models.ends import find_ends
from gapjax.models.templates import Framing, answering_at_once, render
from gapjax.models.thoughts import closing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Splits a rendered template in two; no tokenizer or template treats it specially.
_HOLE = "\x00"
_PLAIN = Framing()


def encode_prompt(
    tokenizer: PreTrainedTokenizerFast, text: str, framing: Framing = _PLAIN
) -> list[int]:
    """Token ids of a prompt, ready to be continued by the answer.

    **Raises:** `UserError` if the chat template fails.
    """
    if tokenizer.chat_template is None:
        return encode_text(tokenizer, text)
    chat = render(tokenizer, framing.messages(text), framing=framing)
    return tokenizer.encode(chat, add_special_tokens=False)


def encode_text(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Token ids of a text that is to be continued, as it stands."""
    any_text = tokenizer("x", return_special_tokens_mask=True)
    added = zip(any_text["input_ids"], any_text["special_tokens_mask"], strict=True)
    opening = [token for token, _ in itertools.takewhile(lambda pair: pair[1], added)]
    return opening + tokenizer.encode(text, add_special_tokens=False)


def encode_around(
    tokenizer: PreTrainedTokenizerFast, before: str, after: str, framing: Framing = _PLAIN
) -> tuple[list[int], list[int]]:
    """Token ids of a question with a hole for given tokens: those before it, those after.

    Lets a verifier quote an answer as the very tokens that were sampled. What the model says next
    is its verdict: a template that can have it think first is told not to, and a thought that the
    template has opened is closed.

    **Raises:** `UserError` if the chat template fails, or does not write a message just once.
    """
    if tokenizer.chat_template is None:
        return encode_text(tokenizer, before), encode_after(tokenizer, after)
    hole = _hole(before, after)
    framing = answering_at_once(tokenizer, framing)
    text = render(tokenizer, framing.messages(before + hole + after), framing=framing)
    left, *others = text.split(hole)
    if len(others) != 1:
        raise UserError(
            f"writes a message {len(others)} times, so that nobody can be asked about an answer",
            where="chat template",
            hint="use a verifier that does not ask, as likelihood",
        )
    right = others[0] + closing(others[0])
    return tokenizer.encode(left, add_special_tokens=False), encode_after(tokenizer, right)


def _hole(before: str, after: str) -> str:
    """A text that is found between these two and nowhere else."""
    for length in itertools.count(1):
        hole = _HOLE + "\x01" * length + _HOLE
        whole = before + hole + after
        if whole.find(hole) == whole.rfind(hole) == len(before):
            return hole
    raise AssertionError


def encode_after(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Token ids of text that follows other tokens.

    SentencePiece's tokenizers (and byte-level ones with `add_prefix_space`) put a space before any
    text, which is none of its own here.
    """

    def encode(part: str) -> list[int]:
        return tokenizer.encode(part, add_special_tokens=False)

    begins = tokenizer.convert_ids_to_tokens(encode("x"))[:1]
    if not begins or not begins[0].startswith(("▁", "Ġ")):
        return encode(text)
    # They spell the hole as a byte, which merges with nothing.
    hole, ids = encode(_HOLE)[-1], encode(_HOLE + text)
    return ids[ids.index(hole) + 1 :]


def stop_tokens(
    tokenizer: PreTrainedTokenizerFast,
    stop: Sequence[str] = (),
    generation_config: Mapping[str, Any] | None = None,
) -> list[int]:
    """The end tokens of a model that is not at hand; of one that is, `LoadedModel.ends`.

    **Raises:** `UserError` for stop texts, which tokens alone do not tell.
    """
    if stop:
        raise UserError(
            "stop texts may be made of several tokens",
            where="stop",
            hint="use gapjax.generation.stops_of",
        )
    return list(find_ends(tokenizer, generation_config, vocab_size=len(tokenizer)).tokens)
