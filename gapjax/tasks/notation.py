"""One notation for the many in which people and LaTeX write numbers."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

_SIGNS = {
    **dict.fromkeys("−‐‑‒–﹣", "-"),
    **dict.fromkeys("—―•", " ; "),
    **dict.fromkeys("·⋅∙✕✖⨉\u2062", "×"),
    **dict.fromkeys("⁄∕", "/"),
    **dict.fromkeys("→⇒⟶⟹≈≃≅", "="),
    **dict.fromkeys("≠≤≥≦≧\u2061\u2063\u2064", "≤"),
    **dict.fromkeys("“”„«»‘", '"'),
    **dict.fromkeys("\u2028\u2029\x85", "\n"),
    "’": "'",
    "٫": ".",
    "٬": ",",
    "٪": "%",
}
_SUPERSCRIPT = re.compile(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+")
_DOLLAR = "\ue000"  # an escaped one, which cannot be the end of a formula
_FRACTION = "\ue001"  # before a fraction, which behind a whole number makes a mixed one
_WITHIN = r"text|textbf|textit|textrm|texttt|mathrm|mathbf|mathit|mathsf|mbox|underline|emph"

# In this order. What is not listed stays, and then is part of no number.
_REWRITTEN: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"<<[^<>\n]*+>>", ""),  # GSM8K's calculator
    (r"</?[A-Za-z][^<>\n]{0,80}>", "\n"),
    (r"\\\$", _DOLLAR),
    (r"\\!|\\(?:left|right|displaystyle|limits)(?![A-Za-z])\.?", ""),
    (r"\{,\}", ","),
    (r"(?<=\d)(?:\\,|[^\S\n\t ])(?=\d{3}(?!\d))", "_"),  # a narrow space within a number
    (r"\\[dtc]?frac\s*\{\s*([-+]?[\d.,]++)\s*\}\s*\{\s*([\d.,]++)\s*\}", rf"{_FRACTION}\1/\2"),
    (r"\\[dtc]?frac\s*\{\s*([-+]?[\d.,]++)\s*\}\s*(\d)", rf"{_FRACTION}\1/\2"),
    (r"\\[dtc]?frac\s*(\d)\s*\{\s*([\d.,]++)\s*\}", rf"{_FRACTION}\1/\2"),
    (r"\\[dtc]?frac\s*(\d)\s*(\d)", rf"{_FRACTION}\1/\2"),
    (rf"\\(?:{_WITHIN})\s*\{{([^{{}}]*+)\}}", r" \1 "),
    (rf"\\(?:{_WITHIN})\s*\{{([^{{}}]*+)\}}", r" \1 "),
    (r"(?<! )[ ]++\^", "^"),
    (r"\\\\|\\[()\[\]]|\\(?:begin|end)\{[^{}\n]*+\}", " \n "),
    (r"\\[ ,:;]|\xa0|(?<=[\w}$%.])~|&|\\(?:quad|qquad)(?![A-Za-z])", " "),
    (r"\\[%#&]", lambda match: match.group()[1]),
    (r"\\(?:times|cdot)(?![A-Za-z])", "×"),
    (r"\\(?:approx|to|rightarrow|Rightarrow|implies)(?![A-Za-z])", "="),
    (r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))|\\degree(?![A-Za-z])", "°"),
    (rf"(?<=\d)\s?{_FRACTION}", " "),
    (_FRACTION, ""),
    (r"\$\$", "\n"),
    (r"\$(?=\S)([^$\n]++)(?<=\S)\$(?!\d)", r"\1"),  # a formula, where it cannot be two prices
    (_DOLLAR, "$"),
    (r"(?<=[\d)}])\*\*(?=[-\d({])", "^"),
    # Emphasis: marks that have a space (or nothing) on one side only.
    (r"(?<![^\W_])(?<![)}\]%])[*_]{1,3}(?=[^\s*_])|(?<=[^\s*_])[*_]{1,3}(?![\w({\[\\])", ""),
    (r"^[ \t]*(?:#+|\d{1,3}\)|[*+])[ \t]+", ""),
    (r"^[ \t]*\|(?=\s)|(?<=[ \t])\|(?=\s|$)", " ; "),  # of a table
    (r"(?<![-=])[-=]++>", "="),
    (r"[<>!]=|=<", "≤"),
    (r"(?<=\d)\s?[xX]\s?(?=\d)", "×"),
    (r"[`\"]|(?<!\d)'|'(?!\d)", " "),
]
_RULES = [(re.compile(pattern, re.MULTILINE), new) for pattern, new in _REWRITTEN]


def normalised(text: str) -> str:
    """A text in ASCII as far as numbers go, without LaTeX's and Markdown's dress.

    What a rewriting does not know stays as it is. The work is linear in the length.
    """
    if not text.isascii():
        text = re.sub(r"−[^\S\n]+(?=[\d.$])", "-", text)  # this one is no dash
        text = _SUPERSCRIPT.sub(_exponent, text)
        text = text.translate({ord(each): _ascii(each) for each in set(text)})
    for pattern, new in _RULES:
        text = pattern.sub(new, text)
    return text


def _exponent(match: re.Match[str]) -> str:
    return f"^{{{unicodedata.normalize('NFKC', match.group()).replace('−', '-')}}}"


def _ascii(character: str) -> str:
    if character in _SIGNS:
        return _SIGNS[character]
    if (digit := unicodedata.decimal(character, None)) is not None:
        return str(digit)
    plain = unicodedata.normalize("NFKC", character)
    if "⁄" in plain:  # ½
        return _FRACTION + plain.replace("⁄", "/")
    match unicodedata.category(character):
        case "Zs":
            return "\xa0"
        case "Cf":  # what is not seen
            return ""
    full_width = "！" <= character <= "～"
    return plain if full_width else character
