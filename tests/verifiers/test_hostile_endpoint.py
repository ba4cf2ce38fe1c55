"""A server that wants the key shown, or this process ended."""

from __future__ import annotations

import base64
import gzip
import json
import resource
import socket
import threading
import zlib
from urllib.parse import quote

import pytest

from gapjax.errors import UserError
from gapjax.verifiers import Endpoint
from gapjax.verifiers.secret import Secret
from tests.verifiers.chat_server import Reply

KEY = "sk-proj-Q7wZr2Tn9VbXk4LmPd81HsGy"


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def _gzip_bomb() -> bytes:
    packer, zeros = zlib.compressobj(9, wbits=31), bytes(2**20)
    return b"".join([packer.compress(zeros) for _ in range(300)]) + packer.flush()


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "x-nonsense"])
def test_compressed_bodies_are_not_unpacked(server, ask, coding) -> None:
    bomb = _gzip_bomb()
    bomb = gzip.compress(bomb) if "," in coding else bomb
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for status in (200, 400):
        server.respond = lambda *_, status=status: Reply(
            status=status, body=bomb, headers={"Content-Encoding": coding}
        )
        with pytest.raises(UserError, match="endpoint http") as error:
            ask(retries=1).answers(["?"])
        if status == 200:
            assert f"compressed ({coding})" in str(error.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 100 * 2**10  # KiB
    assert all(headers["Accept-Encoding"] == "identity" for headers in server.headers)


def test_large_bodies_are_not_held(server, ask) -> None:
    server.respond = lambda *_: Reply(body=b" " * (2**23 + 1))
    with pytest.raises(UserError, match="a reply that has more than 8 MiB"):
        ask(retries=0).answers(["?"])


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 10**6,
        b'{"a":' * 10**5 + b"1" + b"}" * 10**5,
        b'{"choices": ' + b"9" * 10**5 + b"}",
        b'{"choices": {"0": 1}}',
        b'{"choices": [[1]]}',
        b'{"choices": [{"message": "text"}]}',
        b'{"choices": [{"message": {"content": 7}}]}',
        b'{"choices": [{"message": {"content": {"text": "7"}}}]}',
        b"\xff\xfe\x00",
        b"null",
        b"",
        b"data: {}\n\n",
    ],
)
def test_bodies_of_other_shapes_are_one_line(server, ask, body) -> None:
    for status in (200, 400):
        server.respond = lambda *_, status=status: Reply(status=status, body=body)
        with pytest.raises(UserError, match=r"^endpoint http"):
            ask(retries=0).answers(["?"])


@pytest.mark.parametrize("endless", [b"X: y\r\n", b"a" * 1000])
def test_headers_without_end(endless, monkeypatch, sleeps) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def flood() -> None:
            connection, _ = listening.accept()
            with connection:
                try:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                    while True:
                        connection.sendall(endless)
                except OSError:
                    pass  # nobody listens any more

        thread = threading.Thread(target=flood)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(UserError, match=r"endpoint http.* did not answer after 1 attempt"):
            Endpoint(url, "wise", sleep=sleeps, retries=0, timeout=30).answers(["?"])
        thread.join()


RESPELT = {
    "whole": KEY,
    "upper": KEY.upper(),
    "first half": KEY[: len(KEY) // 2],
    "second half": KEY[len(KEY) // 2 :],
    "its end, as many servers show": f"{KEY[:3]}***{KEY[-4:]}",
    "base64": base64.b64encode(KEY.encode()).decode(),
    "base64 of the header": base64.b64encode(f"Bearer {KEY}".encode()).decode(),
    "base64, an odd beginning": base64.b64encode(f"x={KEY}".encode()).decode(),
    "hex": KEY.encode().hex(),
    "spelt": " ".join(KEY),
    "reversed": KEY[::-1],
    "percent": "".join(f"%{ord(c):02X}" for c in KEY),
    "quoted": quote(KEY, safe=""),
    "wide": "".join(chr(ord(c) + 0xFEE0) for c in KEY),
    "interleaved with zero widths": "\u200b".join(KEY),
    "rot13": KEY.translate(
        str.maketrans(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
            "NOPQRSTUVWXYZABCDEFGHIJKLMnopqrstuvwxyzabcdefghijklm",
        )
    ),
}


@pytest.mark.parametrize("spelling", RESPELT.values(), ids=RESPELT.keys())
def test_no_spelling_of_the_key_is_shown(server, ask, key, spelling) -> None:
    for body in (
        {"error": {"message": f"no such key: {spelling}"}},
        {"error": spelling},
        {"detail": f"{'x' * 150} {spelling}"},
    ):
        server.respond = lambda *_, body=body: Reply(status=400, body=json.dumps(body).encode())
        with pytest.raises(UserError, match="refuses the request") as error:
            ask().answers(["?"])
        line = str(error.value)
        assert spelling not in line
        assert spelling[:8] not in line
        assert spelling[-4:] not in line


@pytest.mark.parametrize("spelling", RESPELT.values(), ids=RESPELT.keys())
def test_no_spelling_of_the_key_in_a_redirect(server, ask, key, spelling) -> None:
    headers = {"Location": f"http://elsewhere/?k={quote(spelling)}"}
    server.respond = lambda *_: Reply(status=302, headers=headers)
    with pytest.raises(UserError, match="which is not followed") as error:
        ask().answers(["?"])
    assert quote(spelling)[-4:] not in str(error.value)


@pytest.mark.parametrize("name", ["whole", "first half", "second half", "base64", "hex"])
def test_the_key_is_not_recorded(server, ask, key, tmp_path, name) -> None:
    record = tmp_path / "replies.jsonl"
    server.respond = lambda *_: Reply(f"I was asked with {RESPELT[name]}.")
    with pytest.raises(UserError, match="a reply that repeats the key"):
        ask(record=record, retries=1).answers(["?"])
    assert not record.exists()


def test_words_that_do_not_resemble_the_key_are_shown(server, ask, key) -> None:
    complaint = {"error": {"message": "Unsupported value:\r 'temperature'\x1b[2J"}}
    server.respond = lambda *_: Reply(status=400, body=json.dumps(complaint).encode())
    with pytest.raises(UserError, match="Unsupported value:␍ 'temperature'␛"):
        ask().answers(["?"])


@pytest.mark.parametrize("dummy", ["EMPTY", "x", "none", "-", "--------"])
def test_what_stands_for_no_key_hides_nothing(dummy) -> None:
    secret = Secret(dummy)
    assert secret.scrubbed("a model of that name, please!") == "a model of that name, please!"
    assert not secret.told_by(f"the list is {dummy}")
