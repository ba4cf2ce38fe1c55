"""A server to ask, and an endpoint at it that does not wait between attempts."""

from __future__ import annotations

import pytest

from gapjax.verifiers import Endpoint
from tests.verifiers.chat_server import ChatServer

KEY = "sk-Sesame-open-42"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with ChatServer().running() as server:
        yield server


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


class Sleeps(list):
    """Remembers the pauses without making them."""

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def sleeps():
    return Sleeps()


@pytest.fixture
def ask(server, sleeps):
    """An endpoint at the server."""
    return lambda **options: Endpoint(server.url, "wise", sleep=sleeps, **options)
