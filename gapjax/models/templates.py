"""Chat templates: programs that come with a model, run in a process of their own.

Anybody may have written one. It may raise, loop, write without end or leave the message out; each
of these is one line, and costs a bounded time and memory. What goes into a template beside the
message is a `Framing`, which is part of what defines a run: a template may even write the date.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapjax.errors import UserError
from gapjax.foreign import shown
from gapjax.workers import Crashed, TimedOut, WorkerPool

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_SECONDS = 10.0  # for one message
_LONGEST = 2**20  # characters around a message, and a few times the message itself
# Stand for a message; no tokenizer or template treats them specially.
_MARK, _SYSTEM_MARK = "\x00", "\x01"
# What a template is given in any case, which is nobody's to set.
_GIVEN = ("messages", "add_generation_prompt")
# Options that switch thinking off where they are false, by the templates of Qwen 3, SmolLM3,
# DeepSeek 3.1 and Granite.
_THINKING = ("enable_thinking", "thinking")

Message = Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Framing:
    """What a chat template gets beside the message.

    - `system`: a system prompt.
    - `options`: variables of the template, such as `{"enable_thinking": False}`.
    - `date`: today, for a template that asks; by default the day on which this process first
        wrote a prompt, so that it writes the same one after midnight.
    """

    system: str | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    date: datetime.date | None = None

    def messages(self, *contents: str) -> list[dict[str, str]]:
        """A conversation of these contents, of user and assistant in turns."""
        first = [] if self.system is None else [{"role": "system", "content": self.system}]
        roles = ("user", "assistant")
        return first + [
            {"role": roles[i % 2], "content": content} for i, content in enumerate(contents)
        ]


def check_framing(tokenizer: PreTrainedTokenizerFast, framing: Framing) -> None:
    """Make sure that a framing reaches what the model reads.

    **Raises:** `UserError` if the tokenizer has no chat template for it, the template has no such
    option, cannot be rendered, or leaves the message or the system prompt out.
    """
    if tokenizer.chat_template is None:
        for what, there in (
            ("a system prompt", framing.system is not None),
            ("template options", bool(framing.options)),
        ):
            if there:
                raise UserError(
                    f"the model has no chat template, which takes {what}",
                    where="chat template",
                    hint="write it into the prompt (task.template)",
                )
        return
    known = template_options(tokenizer)
    for name in framing.options:
        if name not in known:
            listed = ", ".join(shown(each) for each in known[:20]) or "none"
            raise UserError(
                f"has no option {shown(name)}", where="chat template", hint=f"there are: {listed}"
            )
    marked = dataclasses.replace(
        framing, system=None if framing.system is None else _SYSTEM_MARK + framing.system
    )
    text = render(tokenizer, marked.messages(_MARK), framing=framing)
    if _MARK not in text:
        raise UserError("leaves the message out", where="chat template")
    if framing.system is not None and _SYSTEM_MARK not in text:
        raise UserError(
            "leaves the system prompt out",
            where="chat template",
            hint="write it into the prompt (task.template)",
        )


def template_options(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """What may be set of a chat template, in alphabetical order.

    **Raises:** `UserError` if it is no template.
    """
    return list(_options(_source(tokenizer)))


def answering_at_once(tokenizer: PreTrainedTokenizerFast, framing: Framing) -> Framing:
    """The framing under which the model does not think first, if the template has a say in it."""
    off = {name: False for name in _THINKING if name in template_options(tokenizer)}
    return dataclasses.replace(framing, options={**framing.options, **off})


def render(
    tokenizer: PreTrainedTokenizerFast,
    messages: Sequence[Message],
    *,
    framing: Framing,
    prompt: bool = True,
) -> str:
    """What the chat template makes of a conversation.

    **Arguments:**

    - `messages`: those of `Framing.messages`.
    - `framing`: whose options and date there are.
    - `prompt`: with the header of the answer that is to follow.

    **Raises:** `UserError` if the template fails, or there are several and none is the default.
    """
    variables = {
        "tools": None,
        "documents": None,
        **_special_tokens(tokenizer),
        **framing.options,
        "messages": list(messages),
        "add_generation_prompt": prompt,
    }
    length = sum(len(message["content"]) for message in messages)
    reply = _ask(
        {
            "template": _source(tokenizer),
            "date": (framing.date or _today()).isoformat(),
            "variables": variables,
            "longest": _LONGEST + 4 * length,
        }
    )
    text: str = reply["text"]
    return text


def _source(tokenizer: PreTrainedTokenizerFast) -> str:
    template: Any = tokenizer.chat_template
    if isinstance(template, Mapping):
        if "default" not in template:
            names = ", ".join(shown(name) for name in list(template)[:20])
            raise UserError(
                f"there are several and none is the default: {names}",
                where="chat template",
                hint="leave one of them, as chat_template.jinja",
            )
        template = template["default"]
    if not isinstance(template, str):
        raise UserError(f"is no text: {shown(repr(template))}", where="chat template")
    return template


def _special_tokens(tokenizer: PreTrainedTokenizerFast) -> dict[str, str | list[str]]:
    return {
        name: list(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in tokenizer.special_tokens_map.items()
    }


@functools.lru_cache(maxsize=8)
def _options(template: str) -> tuple[str, ...]:
    names: list[str] = _ask({"template": template})["names"]
    return tuple(name for name in names if name not in _GIVEN)


def _ask(request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        reply = _pool().ask(request)
    except TimedOut:
        reply = {"error": f"it takes longer than {_SECONDS:g} seconds"}
    except Crashed:
        reply = {"error": "it uses up its process"}
    if "error" in reply:
        raise UserError(f"fails: {reply['error']}", where="chat template")
    return reply


@functools.cache
def _pool() -> WorkerPool:
    """Of one process, which starts with the first template."""
    return WorkerPool(Path(__file__).with_name("template_worker.py"), workers=1, timeout=_SECONDS)


@functools.cache
def _today() -> datetime.date:
    return datetime.date.today()  # as whoever wrote the template does: the local day
