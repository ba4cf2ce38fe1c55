"""Thoughts of models, as their servers leave them in."""

from __future__ import annotations

import pytest

from gapjax.models.thoughts import closing, without_thoughts

pytestmark = pytest.mark.fast

TEXTS = {
    "7": "7",
    " 7 \n": " 7 \n",
    "<think>\n\n</think>\n\n7": "7",
    "\n<think>3+4 <b>is</b> 8? No.</think>7": "7",
    "3+4 is 8? No.\n</think>\n\n7": "7",  # its opening tag is in the prompt
    "<THINK>8</THINK> 7": "7",
    "<thinking>8</thinking>\n<thinking>9</thinking>7": "7",
    "<thought>8</think></thought>7": "7",
    "[THINK]8[/THINK]7": "7",
    "◁think▷8◁/think▷7": "7",
    "<reasoning>8</reasoning><think>9</think>7": "7",
    "<think>It never ends, 7": None,
    "8</think><think>9": None,
    "<think>8</think>": "",
    "": "",
    "Put it in <think>tags</think>, as 7": "Put it in <think>tags</think>, as 7",
    "<think>8</think>`<think>` opens": "`<think>` opens",
    "<thinker>8</thinker>": "<thinker>8</thinker>",
}


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_left_is_the_answer(text) -> None:
    assert without_thoughts(text) == TEXTS[text]


@pytest.mark.parametrize(
    ("prompt", "whole"),
    [
        ("<a><think>\n", "<a><think>\n\n</think>\n\n"),
        ("<a><think>", "<a><think>\n\n</think>\n\n"),
        ("<think>\n\n", "<think>\n\n\n</think>\n\n"),
        ("<seed:think>", "<seed:think>\n\n</seed:think>\n\n"),
        ("[THINK]", "[THINK]\n\n[/THINK]\n\n"),
        ("◁think▷", "◁think▷\n\n◁/think▷\n\n"),
        ("<think>\n\n</think>\n\n", "<think>\n\n</think>\n\n"),
        ("<think> about it", "<think> about it"),
        ("", ""),
    ],
)
def test_a_thought_that_a_prompt_opens_is_closed(prompt, whole) -> None:
    assert prompt + closing(prompt) == whole
