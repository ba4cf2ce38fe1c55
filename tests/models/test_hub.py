"""Models from the hub: what is fetched, against a hub of our own on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gapjax.models.hub import is_hub_id

ADDER = Path(__file__).parents[2] / "gapjax" / "assets" / "adder"
COMMIT = "0123456789" * 4
LOAD = """
import sys
from gapjax import models
from gapjax.errors import UserError
try:
    print(models.load(sys.argv[1]).config.hidden_size)
except UserError as error:
    print(f"refused: {error}")
"""


@pytest.fixture
def hub():
    """A server that holds `org/adder`, also as a pickle, and a log of what was asked for."""
    files = {path.name: path.read_bytes() for path in ADDER.iterdir()}
    files |= {"pytorch_model.bin": b"pickled", "modeling.py": b"raise SystemExit", "x/a.json": b"1"}
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.partition("?")[0].removeprefix("/")
            asked.append(name)
            if name.startswith("api/models/org/adder/revision/"):
                self.reply(json.dumps({"id": "org/adder", "sha": COMMIT, "siblings": []}).encode())
            elif name.startswith("api/models/org/adder/tree/"):
                tree = [
                    {"type": "file", "path": path, "size": len(content), "oid": f"{path}-id"}
                    for path, content in files.items()
                ]
                self.reply(json.dumps(tree).encode())
            elif (path := name.removeprefix(f"org/adder/resolve/{COMMIT}/")) in files:
                self.reply(files[path], ETag=f'"{path}-id"', **{"X-Repo-Commit": COMMIT})
            else:
                self.send_error(404)

        do_HEAD = do_GET

        def reply(self, content: bytes, **headers: str) -> None:
            self.send_response(200)
            for key, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_safe_files_are_fetched_once_and_nothing_else(hub, tmp_path) -> None:
    address, asked = hub

    def load(name: str, **more: str) -> str:
        environment = os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path), **more}
        command = [sys.executable, "-c", LOAD, name]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip().splitlines()[-1]

    assert load("org/adder").isdigit()
    fetched = {name.rpartition("/")[2] for name in asked if "/resolve/" in name}
    assert fetched == {path.name for path in ADDER.iterdir()}
    asked.clear()
    assert load("org/adder", HF_HUB_OFFLINE="1").isdigit()  # from the cache
    assert not asked
    assert load("org/nothing").startswith("refused: org/nothing: no such folder, and not to be had")


@pytest.mark.fast
def test_what_looks_like_an_id() -> None:
    assert is_hub_id("HuggingFaceTB/SmolLM2-135M-Instruct")
    for name in ("smollm2", "./org/name", "/org/name", "org/name/more", "org/", "../name"):
        assert not is_hub_id(name)
