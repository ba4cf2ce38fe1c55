"""What a server that speaks the OpenAI chat completions protocol has replied."""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

# Ten times the longest answers and thoughts. Several may be held at a time.
_LARGEST = 2**23  # bytes


@dataclasses.dataclass(frozen=True)
class Message:
    """What the model said.

    - `text`: may be empty.
    - `cut_off`: it was stopped by a limit on its length.
    """

    text: str
    cut_off: bool


class Fault(Exception):
    """What is wrong with a reply."""


async def body_of(response: httpx2.Response) -> bytes:
    """The body of a reply that is still coming in. **Raises:** `Fault`."""
    # Nothing is decoded: a few bytes may stand for more than there is memory.
    if (coding := response.headers.get("Content-Encoding", "identity")) != "identity":
        raise Fault(f"is compressed ({coding}), which was not asked for")
    body = bytearray()
    async for part in response.aiter_raw():
        body += part
        if len(body) > _LARGEST:
            raise Fault(f"has more than {_LARGEST >> 20} MiB")
    return bytes(body)


def message_of(body: bytes) -> Message:
    """What the model said. **Raises:** `Fault`."""
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Fault("is not JSON") from error
    try:
        choice = reply["choices"][0]
        text = choice["message"]["content"]
    except (KeyError, IndexError, TypeError) as error:
        raise Fault("is not a chat completion") from error
    if isinstance(text, list):  # of parts, among which may be thoughts
        text = _joined(text)
    if not isinstance(text, str | None):  # null: a refusal
        raise Fault("has no text")
    # A lone surrogate is no text to train on, nor to write.
    text = (text or "").encode("utf-8", "replace").decode()
    return Message(text, cut_off=choice.get("finish_reason") == "length")


def _joined(parts: list[Any]) -> str:
    """The texts among the parts of a message."""
    written = [part for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    texts = [part["text"] for part in written if isinstance(part.get("text"), str)]
    if len(texts) < len(written):
        raise Fault("has no text")
    return "".join(texts)


def complaint_of(body: bytes) -> str:
    """What the body of a refusal says; nothing if that is not where servers say it."""
    try:
        error = json.loads(body)
        while isinstance(error, dict):
            error = next(error[name] for name in ("error", "message", "detail") if name in error)
        return error if isinstance(error, str) else ""
    except (ValueError, RecursionError, StopIteration):
        return ""


def retry_after(header: str | None) -> float:
    """Seconds to wait, from a number or a date; RFC 9110, section 10.2.3."""
    if header is None:
        return 0.0
    if re.fullmatch(r"\s*[0-9]{1,9}(\.[0-9]*)?\s*", header):
        return float(header)
    try:
        when = parsedate_to_datetime(header)
        return (when - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):  # a TypeError: a date without a zone
        return 0.0
