"""Answers of one word, compared as words."""

from __future__ import annotations

import re
from typing import Literal

from gapjax.tasks.boxed import last_boxed

# What dresses a word: space, quotes, emphasis, brackets, the marks of a sentence.
_DRESS = " \t\r\n*_~`\"'“”‘’«»‹›.,;:!?¡¿…()[]{}$<>|。，：！？"
_LETTERS = re.compile(r"[^\W\d_]+")
_WITHIN = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox)\s*\{([^{}]*+)\}|</?\w+>")
_MARK = re.compile(r"(?<!#)####(?!#)([^\n]*)")
_PHRASE = re.compile(
    r"\banswer[*_]*\s*+(?:(?:is|would be|will be|must be)\b[*_]*\s*+:?|[:=])"
    r"([^\w\n]*+[^\W\d_]++)(?=[^\w\s]|\s*+(?:$|because\b|since\b|as\b|-))",
    re.IGNORECASE | re.MULTILINE,
)
_OPTION = re.compile(r"\W*([A-Za-z])[).:](?:\s|\Z)")
_OPPOSITES = ({"true", "false"}, {"yes", "no"})
_DENIED = re.compile(r"(?:\bnot|n['’]t|\bnever|\bneither)\s+(?:\w+\s+)?(?:true|false)\b")


def final_word(text: str) -> str | None:
    """The one word that a response is, or ends in, case folded; None if it is no single one.

    After `</think>`: what is inside the last `\\boxed{}`, else what follows the first `####`, else
    the word right after the last "answer is" or "answer:", else the text. Quotes, emphasis,
    brackets and the marks of a sentence around a word do not count.
    """
    return _word(_final_part(text))


def compare_words(response: str, answer: str) -> Literal["correct", "incorrect", "error"]:
    """Compare a response with an answer; with one of several words, letter by letter.

    An answer of one word is compared with the response's `final_word`. Where the response has
    several words: for an answer of one letter (`B`) an option at its beginning (`B) Paris`) is
    its word; for true and false, or yes and no, whichever of the two occurs.

    **Returns:** `"error"` if both occur, or one that is denied ("not true").
    """
    wanted = _word(answer)
    if wanted is None:
        return "correct" if response.strip() == answer.strip() else "incorrect"
    part = _final_part(response)
    found = _word(part)
    if found is None and len(wanted) == 1 and (option := _OPTION.match(part)):
        found = option[1].lower()
    pair = next((pair for pair in _OPPOSITES if wanted in pair), None)
    if found is None and pair is not None:
        text = part.casefold()
        said = pair.intersection(_LETTERS.findall(text))
        if len(said) > 1 or (said and "true" in pair and _DENIED.search(text)):
            return "error"
        found = next(iter(said), None)
    return "correct" if found == wanted else "incorrect"


def _word(text: str) -> str | None:
    word = text.strip(_DRESS)
    return word.casefold() if _LETTERS.fullmatch(word) else None


def _final_part(text: str) -> str:
    text = text.rpartition("</think>")[2].partition("<think>")[0]
    if boxed := last_boxed(text):
        return _WITHIN.sub(r"\1", boxed)
    text = _WITHIN.sub(r"\1", text)
    if (mark := _MARK.search(text)) and _word(mark[1]):
        return mark[1]
    phrases = _PHRASE.findall(text)
    return phrases[-1] if phrases else text
