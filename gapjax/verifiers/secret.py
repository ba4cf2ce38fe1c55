"""A key, and whether somebody's words give it away."""

from __future__ import annotations

import base64
import codecs
import html
import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote

from gapjax.errors import UserError
from gapjax.foreign import shown

_LONGEST = 200  # characters of a server's words that are shown
# So many letters and digits in a row of the key, or of another spelling of it, are no chance: in
# a line that only informs, and in an answer, which is long, and lost if this errs.
_PART, _PART_RESPELT, _PART_OF_ANSWER = 4, 5, 12
_SHORTEST_SECRET = 8  # what is shorter stands for no key, as in "EMPTY", and is an ordinary word


@dataclass(frozen=True)
class Secret:
    """A key, None if there is none."""

    key: str | None

    @classmethod
    def of(cls, variable: str) -> Secret:
        """The key in an environment variable.

        **Raises:** `UserError` that does not repeat it, if it cannot be a key.
        """
        key = os.environ.get(variable, "").strip()
        if not all("!" <= character <= "~" for character in key):
            # The HTTP library would complain too, and quote it.
            raise UserError(
                "holds what cannot be a key: other than printable ASCII characters",
                where=f"environment variable {variable}",
            )
        return cls(key or None)

    def __repr__(self) -> str:
        return "Secret(…)"

    def scrubbed(self, text: str) -> str:
        """Another's words as they may be shown: short, printable, without any part of the key."""
        if self.key is None:
            return shown(text, _LONGEST)
        text = re.sub(re.escape(self.key), "***", text[: 2 * _LONGEST], flags=re.IGNORECASE)
        read = html.unescape(unquote(unquote(text)))
        if any(self._told(_letters(each), _PART, _PART_RESPELT) for each in (text, read)):
            return "words that are not shown because they resemble the key"
        return shown(text, _LONGEST)

    def told_by(self, answer: str) -> bool:
        """Whether an answer holds the key or a large part of it."""
        return self._told(_letters(answer), _PART_OF_ANSWER, _PART_OF_ANSWER)

    def _told(self, letters: str, part: int, part_respelt: int) -> bool:
        if self.key is None or len(key := _letters(self.key)) < _SHORTEST_SECRET:
            return False
        return _common(letters, key, part) or any(
            _common(letters, _letters(spelling), part_respelt) for spelling in _respelt(self.key)
        )


def _respelt(key: str) -> Iterator[str]:
    """Spellings that gateways and their logs use, or that somebody might."""
    raw = key.encode()
    yield key[::-1]
    yield raw.hex()
    yield codecs.encode(key, "rot13")
    for before in range(3):  # what stands before the key moves its base64
        coded = base64.b64encode(bytes(before) + raw).decode()
        yield coded[4 if before else 0 : -4]


def _common(text: str, secret: str, part: int) -> bool:
    """Whether the text holds so many characters in a row of the secret, or all it has."""
    part = min(part, len(secret))
    return any(secret[i : i + part] in text for i in range(len(secret) - part + 1))


def _letters(text: str) -> str:
    """Letters and digits alone, in whatever case and width."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(character for character in folded if character.isalnum())
