"""What others wrote is seen as it is, and nothing of it is obeyed."""

from __future__ import annotations

import json

import pytest

from gapjax.errors import UserError
from gapjax.foreign import json_line, shown, shown_ends


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b]0;OWNED\x07\x1b[2J", "␛]0;OWNED␇␛[2J"),
        ("ok\rgapjax: forged", "ok␍gapjax: forged"),
        ("a\nb\tc\x00\x7f", "a␊b␉c␀␡"),
        ("\x9b31m\x85", "⟨U+009B⟩31m⟨U+0085⟩"),  # 8-bit control sequences
        ("abc\u202efdp.exe\u2066\u200f", "abc⟨U+202E⟩fdp.exe⟨U+2066⟩⟨U+200F⟩"),
        ("a\u200bb\ufeff\u00ad\u2060", "a⟨U+200B⟩b⟨U+FEFF⟩⟨U+00AD⟩⟨U+2060⟩"),
        ("in\u2028two\u2029", "in⟨U+2028⟩two⟨U+2029⟩"),
        ("tag\U000e0041", "tag⟨U+E0041⟩"),
        ("\u3164\u115f", "⟨U+3164⟩⟨U+115F⟩"),  # letters that are drawn as nothing
        ("half \ud83d", "half \ufffd"),
        ("\ue000\uffff", "⟨U+E000⟩⟨U+FFFF⟩"),
        ("a\u200db", "a⟨U+200D⟩b"),
        ("e" + 6 * "\u0301", "e" + 4 * "\u0301" + 2 * "⟨U+0301⟩"),
    ],
)
def test_what_is_obeyed_or_unseen_is_made_visible(text: str, expected: str) -> None:
    assert shown(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "gap 0.5 nats",
        r"$\rho$ and C:\new",
        "温度　0.7",
        "שלום, مرحبا",
        "می\u200cخواهم",
        "क्\u200dष",
        "👩\u200d🚀 ❤\ufe0f\u200d🔥 é e\u0301 Việt",
        "1\u00a0000\u202f000",
    ],
)
def test_text_of_all_scripts_stays(text: str) -> None:
    assert shown(text) == text


def test_lines_are_kept_where_they_are_wanted() -> None:
    assert shown("a\n\tb\r\n\x1bc", lines=True) == "a\n\tb␍\n␛c"


def test_what_is_too_long_is_cut_and_counted() -> None:
    assert shown("é" * 10, 4) == "éééé … [6 more characters]"
    assert shown("x" * 10**6, 100) == "x" * 100 + " … [999900 more characters]"
    assert (
        shown_ends("a" * 60 + "b" * 60, 20) == "a" * 10 + " … [100 more characters] … " + "b" * 10
    )
    assert shown_ends("whole", 5) == "whole"


def test_an_error_is_one_line_that_forges_nothing() -> None:
    error = UserError(
        "unknown field '\x1b[2J'\r\n", where="/tmp/\u202egpj.csv", hint="known: " + "x, " * 10**5
    )
    text = str(error)
    assert text.startswith("/tmp/⟨U+202E⟩gpj.csv: unknown field '␛[2J'; known: x, x")
    assert text.isprintable()
    assert len(text) < 1300


@pytest.mark.parametrize(
    "text", ["a", "é漢\n\t", "\x1b[31m\x7f", "\u202e", "\U000e0041", "\x85\u2028", "\ud800", "👩‍🚀"]
)
def test_a_line_of_json_is_all_seen(text: str) -> None:
    line = json_line({text: [text]})
    assert json.loads(line) == {text: [text]}
    assert line.isprintable()
    assert ("漢" in line) == ("漢" in text)
