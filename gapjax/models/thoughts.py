"""What a model thought before it answered is not its answer."""

from __future__ import annotations

import re

# As models write it when their server does not take it out: DeepSeek, Qwen and most others,
# Magistral, Kimi.
_NAME = "think|thinking|thought|thoughts|reasoning|seed:think"
_OPEN = re.compile(rf"\s*(?:<(?P<tag>{_NAME})>|(?P<mistral>\[THINK\])|(?P<kimi>◁think▷))", re.I)
_CLOSE = re.compile(rf"</(?:{_NAME})>|\[/THINK\]|◁/think▷", re.I)
_OPEN_END = re.compile(rf"(?:<({_NAME})>|(\[THINK\])|◁think▷)(\s*)\Z", re.I)
_ANY_OPEN = re.compile(rf"<(?:{_NAME})>|\[THINK\]|◁think▷", re.I)


def without_thoughts(text: str) -> str | None:
    """The answer alone; None if the thought never ended.

    A thought is what stands between its tags at the very beginning, or before a closing tag whose
    opening one is missing, since many chat templates write it at the end of the prompt. Tags later
    on are the answer's own words.
    """
    if _OPEN.match(text) is None:
        end = _CLOSE.search(text)
        if end is None or _ANY_OPEN.search(text, 0, end.start()):
            return text
        text = text[end.end() :]
    while opened := _OPEN.match(text):
        if opened["tag"]:
            closing = re.compile(rf"</{re.escape(opened['tag'])}>", re.I)
        else:
            closing = re.compile(r"\[/THINK\]" if opened["mistral"] else "◁/think▷", re.I)
        end = closing.search(text, opened.end())
        if end is None:
            return None
        text = text[end.end() :]
    return text.lstrip()


def closing(prompt: str) -> str:
    """What ends the thought that a prompt opens at its end, empty; nothing if it opens none.

    As Qwen's own template writes a thought that is not to be.
    """
    opened = _OPEN_END.search(prompt)
    if opened is None:
        return ""
    tag = f"</{opened[1]}>" if opened[1] else "[/THINK]" if opened[2] else "◁/think▷"
    return "\n" * max(1, 2 - opened[3].count("\n")) + tag + "\n\n"
