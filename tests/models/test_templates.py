"""Chat templates: as transformers renders them, framed, and refused in one line if they fail."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from gapjax.errors import UserError
from gapjax.models import templates
from gapjax.models.prompts import encode_around, encode_prompt
from gapjax.models.templates import (
    Framing,
    answering_at_once,
    check_framing,
    render,
    template_options,
)
from gapjax.workers import WorkerPool

pytestmark = pytest.mark.fast

DAY = datetime.date(2026, 2, 3)
CHATML = (
    "{%- for message in messages %}\n"
    "    {{- '<|im_start|>' + message['role'] + '\\n' }}\n"
    "    {{- message['content'] | trim + '<|im_end|>\\n' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n"
    "    {%- if enable_thinking is defined and enable_thinking is false %}\n"
    "        {{- '<think>\\n\\n</think>\\n\\n' }}\n    {%- endif %}\n{%- endif %}\n"
)
DATED = (
    "{{ bos_token }}{% if strftime_now is defined %}{% set date = strftime_now('%d %b %Y') %}"
    "{% else %}{% set date = '26 Jul 2024' %}{% endif %}Today: {{ date }}\n"
    "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
)
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{{ messages[0].content }}"
)
R1 = "{% for m in messages %}{{ m.content }}{% endfor %}<Assistant><think>\n"
# What templates use that is not of Jinja itself, or set otherwise than by default there.
REAL = {
    "chatml": CHATML,
    "no system": NO_SYSTEM,
    "deepseek": R1,
    "dated": DATED,
    "break": "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m.content }}"
    "{% endfor %}",
    "generation": "{% for m in messages %}\n  {% generation %}\n{{ m.content }}\n"
    "  {% endgeneration %}\n{% endfor %}\n",
    "tojson": "{{ messages | tojson }}{{ {'é': '<b>'} | tojson(indent=2) }}",
    "namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}"
    "{{ ns.n }}{{ m.content[:3] }}{% endfor %}",
    "none": "{% if tools is not none %}T{% endif %}{% if documents %}D{% endif %}"
    "{{ tools is defined }}{{ messages[0].content }}{{ missing }}",
    "macro": "{% macro say(m) -%}[{{ m.role }}] {{ m.content }}{%- endmacro %}"
    "{% for m in messages %}{{ say(m) }}{% endfor %}",
}


def tokenizer_of(template: object) -> PreTrainedTokenizerFast:
    """Of bytes."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = template
    return tokenizer


def rendered(template: object, *contents: str, framing: Framing | None = None) -> str:
    framing = framing or Framing(date=DAY)
    return render(tokenizer_of(template), framing.messages(*contents), framing=framing)


@pytest.mark.parametrize("name", [name for name in REAL if name != "dated"])
@pytest.mark.parametrize("prompt", [True, False])
def test_as_transformers(name, prompt) -> None:
    tokenizer = tokenizer_of(REAL[name])
    for contents in (("Où?  ",), ("a", "<b>", "c\n")):
        messages = Framing().messages(*contents)
        expected = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=prompt
        )
        assert render(tokenizer, messages, framing=Framing(), prompt=prompt) == expected


def test_options_and_the_system_prompt_as_transformers() -> None:
    tokenizer, framing = tokenizer_of(CHATML), Framing("Be brief.", {"enable_thinking": False})
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "3+4?"},
    ]
    expected = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    check_framing(tokenizer, framing)
    assert encode_prompt(tokenizer, "3+4?", framing) == tokenizer.encode(expected)
    assert expected.endswith("<think>\n\n</think>\n\n")


def test_the_date_is_the_frames() -> None:
    assert rendered(DATED, "hi") == "<s>Today: 03 Feb 2026\nhi</s>"
    later = Framing(date=datetime.date(2031, 12, 24))
    assert rendered(DATED, "hi", framing=later) == "<s>Today: 24 Dec 2031\nhi</s>"


def test_without_a_date_of_its_own_a_process_keeps_the_one_it_began_with(monkeypatch) -> None:
    tokenizer = tokenizer_of(DATED)
    first = encode_prompt(tokenizer, "hi")

    class Later(datetime.date):
        @classmethod
        def today(cls) -> Later:
            return cls(2031, 12, 24)

    monkeypatch.setattr(datetime, "date", Later)
    assert encode_prompt(tokenizer, "hi") == first


def test_what_may_be_set() -> None:
    assert template_options(tokenizer_of(CHATML)) == ["enable_thinking"]
    dated = template_options(tokenizer_of("{{ date_string }}{{ tools }}{{ range(3) }}"))
    assert dated == ["date_string", "tools"]


FAILING = {
    "{{ raise_exception('say please') }}": "chat template: fails: say please",
    "{{ messages[5].content }}": "has no element 5",
    "{{ messages[0].nope.nope }}": "has no attribute 'nope'",
    "{% for %}": "fails: line 1: ",
    "{{ nofilter | nope }}": "No filter named 'nope'",
    "{{ ''.__class__.__mro__ }}": "unsafe",
    "{{ 1 / 0 }}": "ZeroDivisionError",
    "{{ messages[0].content + 1 }}": "TypeError",
    "{{ 'x' * 10 ** 10 }}": "more than a gigabyte",
    "{{ 'x' * 10 ** 7 }}": "it writes more than",
    "{% for i in range(9999) %}{{ 'x' * 999 }}{% endfor %}": "it writes more than",
    "{{" + "(" * 5000 + "1" + ")" * 5000 + "}}": "nested too deeply",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}": "nested too deeply",
    "{% include 'other' %}": "fails: ",
    "{{ raise_exception('\x1b[31m\n' * 10000) }}": "␛[31m",
}


@pytest.mark.parametrize("template", FAILING, ids=range(len(FAILING)))
def test_one_that_fails_is_one_line(template) -> None:
    tokenizer = tokenizer_of(template)
    for ask in (
        lambda: encode_prompt(tokenizer, "hi"),
        lambda: encode_around(tokenizer, "a", "b"),
        lambda: check_framing(tokenizer, Framing()),
    ):
        with pytest.raises(UserError) as caught:
            ask()
        message = str(caught.value)
        assert FAILING[template] in message
        assert message.isprintable()
        assert len(message) < 1200


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 7 ** (10 ** 9) }}",
        "{{ messages | map(attribute='content') | join('a' * 10 ** 8) | length }}"
        "{% for i in range(99999) %}{% set x = 'ab' * 10 ** 8 %}{% endfor %}",
    ],
)
def test_one_that_never_ends(template, monkeypatch) -> None:
    pool = WorkerPool(
        Path(templates.__file__).with_name("template_worker.py"), workers=1, timeout=1.0
    )
    monkeypatch.setattr(templates, "_pool", lambda: pool)
    with pytest.raises(UserError, match="it takes longer than"):
        encode_prompt(tokenizer_of(template), "hi")
    # The next one is not the worse for it.
    assert encode_prompt(tokenizer_of("{{ messages[0].content }}"), "a")
    pool.close()


@pytest.mark.parametrize("template", [5, ["a"], {"default": 7}, {"default": None}])
def test_one_that_is_no_text(template) -> None:
    with pytest.raises(UserError, match="chat template: is no text"):
        rendered(template, "hi")


def test_of_several_the_default() -> None:
    assert rendered({"rag": "x", "default": "{{ messages[0].content }}"}, "hi") == "hi"
    with pytest.raises(UserError, match="none is the default: chat, rag"):
        rendered({"chat": "x", "rag": "y"}, "hi")


@pytest.mark.parametrize(
    ("template", "framing", "error"),
    [
        (None, Framing("Be brief."), "no chat template, which takes a system prompt"),
        (None, Framing(options={"a": 1}), "no chat template, which takes template options"),
        (NO_SYSTEM, Framing("Be brief."), "fails: System role not supported"),
        ("{{ messages[-1].content }}", Framing("Be brief."), "leaves the system prompt out"),
        ("Hello!", Framing(), "leaves the message out"),
        (CHATML, Framing(options={"enable_thought": False}), "no option enable_thought; there"),
        (CHATML, Framing(options={"messages": []}), "has no option messages"),
        (CHATML, Framing(options={"add_generation_prompt": False}), "has no option"),
    ],
)
def test_a_frame_that_would_not_reach_the_model(template, framing, error) -> None:
    with pytest.raises(UserError, match=error):
        check_framing(tokenizer_of(template), framing)


def test_nothing_to_frame() -> None:
    check_framing(tokenizer_of(None), Framing(date=DAY))


@pytest.mark.parametrize(
    ("template", "end"),
    [
        (CHATML, "assistant\n<think>\n\n</think>\n\n"),
        (CHATML.replace("enable_thinking", "thinking"), "assistant\n<think>\n\n</think>\n\n"),
        (R1, "<Assistant><think>\n\n</think>\n\n"),
        (R1.replace("<think>\n", "<think>"), "<Assistant><think>\n\n</think>\n\n"),
        (R1.replace("<think>\n", "[THINK]"), "<Assistant>[THINK]\n\n[/THINK]\n\n"),
        (R1.replace("<think>\n", ""), "<Assistant>"),
    ],
)
def test_a_verdict_is_the_next_word_of_a_model_that_thinks(template, end) -> None:
    tokenizer = tokenizer_of(template)
    on = Framing(options={"enable_thinking": True} if "enable" in template else {})
    _, after = encode_around(tokenizer, "Is ", " right?", on)
    assert tokenizer.decode(after).startswith(" right?")
    assert tokenizer.decode(after).endswith(end)
    # Answers themselves may be thought about.
    assert "</think>" not in tokenizer.decode(encode_prompt(tokenizer, "hi", on))


def test_answering_at_once_leaves_other_templates_alone() -> None:
    framing = Framing("Be brief.", date=DAY)
    assert answering_at_once(tokenizer_of(DATED), framing) == framing


@pytest.mark.parametrize(
    ("before", "after"),
    [("a\x00", "\x00b"), ("\x00\x01\x00", "\x01"), ("a\x00\x01", "\x00\x01\x00"), ("", "")],
)
def test_a_question_with_characters_that_mark(before, after) -> None:
    for template in (None, "<{{ messages[0].content }}>"):
        tokenizer = tokenizer_of(template)
        left, right = encode_around(tokenizer, before, after)
        frame = ("", "") if template is None else ("<", ">")
        assert tokenizer.decode(left) == frame[0] + before
        assert tokenizer.decode(right) == after + frame[1]


def test_a_message_written_twice_can_be_answered_but_not_asked_about() -> None:
    tokenizer = tokenizer_of("{{ messages[0].content }} ({{ messages[0].content }})")
    assert tokenizer.decode(encode_prompt(tokenizer, "hi")) == "hi (hi)"
    with pytest.raises(UserError, match="writes a message 2 times"):
        encode_around(tokenizer, "a", "b")
