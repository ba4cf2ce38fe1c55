"""A server that speaks the OpenAI chat protocol, or misbehaves as it is told."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """What is sent back: `text` as a chat completion, unless there is a `body`."""

    text: str | None = "7"
    status: int = 200
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    finish_reason: str = "stop"

    def content(self) -> bytes:
        if self.body is not None:
            return self.body
        message = {"role": "assistant", "content": self.text}
        choice = {"index": 0, "message": message, "finish_reason": self.finish_reason}
        return json.dumps({"object": "chat.completion", "choices": [choice]}).encode()


class _Quiet(ThreadingHTTPServer):
    """A client that gives up on its requests leaves connections that break; that is no news."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class ChatServer:
    """Answers each question by `respond(question, number of times it was asked before)`."""

    def __init__(self) -> None:
        self.respond: Callable[[str, int], Reply] = lambda question, before: Reply()
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.at_once = self.most_at_once = 0
        self.ending = threading.Event()
        self._lock = threading.Lock()
        self._http = _Quiet(("127.0.0.1", 0), _handler(self))
        self.host = f"http://127.0.0.1:{self._http.server_port}"
        self.url = f"{self.host}/v1"

    @property
    def questions(self) -> list[str]:
        return [request["messages"][-1]["content"] for request in self.requests]

    @contextlib.contextmanager
    def running(self) -> Iterator[ChatServer]:
        thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            self.ending.set()
            self._http.shutdown()
            thread.join()
            self._http.server_close()

    def reply(self, path: str, headers: dict[str, str], body: bytes) -> Reply:
        request = json.loads(body)
        question = request["messages"][-1]["content"]
        with self._lock:
            before = self.questions.count(question)
            self.requests.append({"path": path, **request})
            self.headers.append(headers)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return self.respond(question, before)
        finally:
            with self._lock:
                self.at_once -= 1


def _handler(server: ChatServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            reply = server.reply(self.path, dict(self.headers), body)
            content = reply.content()
            # Who has stopped waiting does not listen.
            with contextlib.suppress(ConnectionError):
                self.send_response(reply.status)
                self.send_header("Content-Length", str(len(content)))
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler
