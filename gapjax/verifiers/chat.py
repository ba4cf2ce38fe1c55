"""Questions to a server that speaks the OpenAI chat completions protocol."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import random
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import anyio
import httpx2
from anyio.from_thread import start_blocking_portal

from gapjax.errors import UserError

_PASSING = frozenset({408, 425, 429})  # and 5xx: what may be over the next time
_LONGEST_BACKOFF = 30.0  # seconds
_LONGEST_WAIT = 600.0  # seconds; who asks for more patience ends the phase


@dataclasses.dataclass(frozen=True)
class Message:
    """What the model said.

    - `text`: may be empty.
    - `cut_off`: it was stopped by a limit on its length.
    """

    text: str
    cut_off: bool


class _Fault(Exception):
    """What is wrong with a reply."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chat:
    """A server and how to put questions to it.

    - `url`: without `/chat/completions`; `model`: its name there.
    - `key_variable`: the environment variable that may hold a key. The key is read when questions
        are put and kept nowhere.
    - `concurrency`: requests at a time. `timeout`: seconds for each, until its last byte.
    - `retries`: further attempts after what may pass: no connection, no reply in time,
        408, 425, 429, 5xx, or a body that is no chat completion. The pause before them doubles from
        half a second on, up to half of it left to chance; `Retry-After` is honoured.
    - `options`: further fields of the request; one that is None is left out, also
        `temperature`, which is 0 otherwise.
    - `sleep`: pauses for so many seconds.
    """

    url: str
    model: str
    key_variable: str
    concurrency: int
    timeout: float
    retries: int
    options: Mapping[str, Any]
    sleep: Callable[[float], Awaitable[None]]

    def ask(self, questions: Sequence[str], hear: Callable[[int, Message], None]) -> None:
        """Put all questions.

        **Arguments:**

        - `hear`: called with the index of a question and the reply as soon as it is there, from
            another thread but never twice at a time.

        **Raises:** `UserError` at the first question that is refused or has used up its attempts.
            Requests under way are dropped then, and on Ctrl-C.
        """
        if not questions:
            return
        # In a thread of its own, because a notebook's is already in an event loop.
        with start_blocking_portal() as portal:
            failure = portal.call(self._ask, questions, hear)
        if failure is not None:
            raise failure

    async def _ask(
        self, questions: Sequence[str], hear: Callable[[int, Message], None]
    ) -> UserError | None:
        failures: list[UserError] = []
        waiting = iter(enumerate(questions))
        key = self._key()
        client = httpx2.AsyncClient(
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
            verify=_tls(),
            timeout=None,  # ours is for the whole request
            limits=httpx2.Limits(max_connections=self.concurrency),
        )
        async with client, anyio.create_task_group() as workers:

            async def work() -> None:
                try:
                    for index, question in waiting:
                        hear(index, await self._put(client, question))
                except UserError as failure:
                    failures.append(failure)
                    workers.cancel_scope.cancel()

            for _ in range(min(self.concurrency, len(questions))):
                workers.start_soon(work)
        return failures[0] if failures else None

    async def _put(self, client: httpx2.AsyncClient, question: str) -> Message:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": question}],
            "temperature": 0,
            **self.options,
        }
        body = {name: value for name, value in body.items() if value is not None}
        # Not `json=`: its UTF-8 has no way to express a lone surrogate.
        content = json.dumps(body).encode()
        last, wait = "", 0.0
        for attempt in range(self.retries + 1):
            if attempt:
                await self.sleep(wait)
            wait = min(0.5 * 2**attempt, _LONGEST_BACKOFF) * random.uniform(0.5, 1.0)
            try:
                with anyio.fail_after(self.timeout):
                    # Redirects are not followed (httpx's default), so no key goes astray.
                    response = await client.post(
                        f"{self.url}/chat/completions",
                        content=content,
                        headers={"Content-Type": "application/json"},
                    )
            except TimeoutError:
                last = f"no reply within {self.timeout:g} s"
                continue
            except httpx2.HTTPError as error:
                last = f"{type(error).__name__}: {error}"
                continue
            status = response.status_code
            if response.is_success:
                try:
                    return _message(response.content)
                except _Fault as fault:
                    last = f"a reply that {fault}"
                    continue
            if status not in _PASSING and status < 500:
                raise self._refusal(response)
            last = f"HTTP {status}"
            wait = max(wait, _retry_after(response.headers.get("Retry-After")))
            if wait > _LONGEST_WAIT:
                last += f", to be tried again in {wait:.0f} s"
                break
        attempts = "1 attempt" if attempt == 0 else f"{attempt + 1} attempts"
        raise UserError(
            f"did not answer after {attempts} (last: {self._clean(last)})",
            where=f"endpoint {self.url}",
            hint="what was answered is kept, and --resume continues",
        )

    def _refusal(self, response: httpx2.Response) -> UserError:
        """The one line about a reply that no further attempt will change."""
        status, where = response.status_code, f"endpoint {self.url}"
        if response.is_redirect:
            location = self._clean(response.headers.get("Location", "nowhere"))
            return UserError(
                f"redirects to {location} (HTTP {status}), which is not followed",
                where=where,
                hint="name the right address",
            )
        if status in (401, 403):
            # Not the server's words: some repeat the key, or a part of it.
            if self._key() is None:
                what, hint = "wants a key", f"set the environment variable {self.key_variable}"
            else:
                what, hint = f"refuses the key in {self.key_variable}", "is it the right one?"
            return UserError(f"{what} (HTTP {status})", where=where, hint=hint)
        said = self._clean(_complaint(response))
        wrong = (
            f"is {self.model!r} the name of a model there? The options set what a request holds, "
            "or leave it out, as in external.options: {temperature: null}"
        )
        hints = {
            404: f"is the address right, and is {self.model!r} the name of a model there?",
            **dict.fromkeys((400, 422), wrong),
        }
        return UserError(
            f"refuses the request (HTTP {status}{': ' if said else ''}{said})",
            where=where,
            hint=hints.get(status),
        )

    def _key(self) -> str | None:
        key = os.environ.get(self.key_variable, "").strip()
        if not all("!" <= character <= "~" for character in key):
            # The HTTP library would complain too, and quote it.
            raise UserError(
                "holds what cannot be a key: other than printable ASCII characters",
                where=f"environment variable {self.key_variable}",
            )
        return key or None

    def _clean(self, text: str) -> str:
        """Another's words as they may be shown: short, printable, without the key."""
        if key := self._key():
            text = text.replace(key, "***")
        shown = "".join(c if c.isprintable() else " " for c in text)
        return shown if len(shown) <= 200 else f"{shown[:200]}…"


@functools.cache
def _tls() -> ssl.SSLContext:
    """The trusted authorities, which take longer to load than a reply from nearby."""
    return httpx2.create_ssl_context()


def _message(body: bytes) -> Message:
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _Fault("is not JSON") from error
    try:
        choice = reply["choices"][0]
        text = choice["message"]["content"]
    except (KeyError, IndexError, TypeError) as error:
        raise _Fault("is not a chat completion") from error
    if isinstance(text, list):  # of parts, among which may be thoughts
        text = _joined(text)
    if not isinstance(text, str | None):  # null: a refusal
        raise _Fault("has no text")
    # A lone surrogate is no text to train on, nor to write.
    text = (text or "").encode("utf-8", "replace").decode()
    return Message(text, cut_off=choice.get("finish_reason") == "length")


def _joined(parts: list[Any]) -> str:
    """The texts among the parts of a message."""
    written = [part for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    texts = [part["text"] for part in written if isinstance(part.get("text"), str)]
    if len(texts) < len(written):
        raise _Fault("has no text")
    return "".join(texts)


def _complaint(response: httpx2.Response) -> str:
    """What the body of a refusal says."""
    try:
        error = json.loads(response.content)
        while isinstance(error, dict):
            error = next(error[name] for name in ("error", "message", "detail") if name in error)
        return error if isinstance(error, str) else ""
    except (ValueError, RecursionError, StopIteration):
        return ""


def _retry_after(header: str | None) -> float:
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
