"""Questions to a server that speaks the OpenAI chat completions protocol."""

from __future__ import annotations

import dataclasses
import functools
import json
import random
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio
import httpx2
from anyio.from_thread import start_blocking_portal

from gapjax.errors import UserError
from gapjax.verifiers.reply import Fault, Message, body_of, complaint_of, message_of, retry_after
from gapjax.verifiers.secret import Secret

_PASSING = frozenset({408, 425, 429})  # and 5xx: what may be over the next time
_HEADERS = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
_LONGEST_BACKOFF = 30.0  # seconds
_LONGEST_WAIT = 600.0  # seconds; who asks for more patience ends the phase


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
        key = self._secret().key
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
                    async with client.stream(
                        "POST", f"{self.url}/chat/completions", content=content, headers=_HEADERS
                    ) as response:
                        if response.is_success:
                            return self._message(await body_of(response))
                        status = response.status_code
                        if status not in _PASSING and status < 500:
                            raise await self._refusal(response)
            except TimeoutError:
                last = f"no reply within {self.timeout:g} s"
                continue
            except httpx2.HTTPError as error:
                last = f"{type(error).__name__}: {error}"
                continue
            except Fault as fault:
                last = f"a reply that {fault}"
                continue
            last = f"HTTP {status}"
            wait = max(wait, retry_after(response.headers.get("Retry-After")))
            if wait > _LONGEST_WAIT:
                last += f", to be tried again in {wait:.0f} s"
                break
        attempts = "1 attempt" if attempt == 0 else f"{attempt + 1} attempts"
        raise UserError(
            f"did not answer after {attempts} (last: {self._secret().scrubbed(last)})",
            where=f"endpoint {self.url}",
            hint="what was answered is kept, and --resume continues",
        )

    def _message(self, body: bytes) -> Message:
        message = message_of(body)
        if self._secret().told_by(message.text):  # which would be recorded, and learnt
            raise Fault("repeats the key")
        return message

    async def _refusal(self, response: httpx2.Response) -> UserError:
        """The one line about a reply that no further attempt will change."""
        status, where = response.status_code, f"endpoint {self.url}"
        if response.is_redirect:
            location = self._secret().scrubbed(response.headers.get("Location", "nowhere"))
            return UserError(
                f"redirects to {location} (HTTP {status}), which is not followed",
                where=where,
                hint="name the right address",
            )
        if status in (401, 403):
            # Not the server's words: some repeat the key, or a part of it.
            if self._secret().key is None:
                what, hint = "wants a key", f"set the environment variable {self.key_variable}"
            else:
                what, hint = f"refuses the key in {self.key_variable}", "is it the right one?"
            return UserError(f"{what} (HTTP {status})", where=where, hint=hint)
        try:
            said = self._secret().scrubbed(complaint_of(await body_of(response)))
        except Fault:
            said = ""
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

    def _secret(self) -> Secret:
        return Secret.of(self.key_variable)


@functools.cache
def _tls() -> ssl.SSLContext:
    """The trusted authorities, which take longer to load than a reply from nearby."""
    return httpx2.create_ssl_context()
