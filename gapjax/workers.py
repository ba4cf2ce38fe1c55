"""Processes that answer questions in JSON lines, with a hard limit on the time of each.

For code that may hang, crash or eat memory: a worker that does not answer in time is
killed and replaced. Plain subprocesses rather than `multiprocessing`: JAX's threads forbid
forking, and spawning would run the user's main module again.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import queue
import selectors
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

_STARTING = 120.0  # seconds that a worker may take to import what it needs


class TimedOut(Exception):
    """The worker did not answer in time."""


class Crashed(Exception):
    """The worker ended, or answered what is not JSON."""


class WorkerPool:
    """Runs a script in a few processes; may be used from several threads.

    The script prints `{"ready": true}` once, then reads requests from its input and prints
    one reply to each, all of them one JSON object a line.

    **Arguments:**

    - `script`: the file.
    - `workers`: processes at most; they start when they are needed.
    - `timeout`: seconds for each request.
    """

    def __init__(self, script: Path, *, workers: int, timeout: float) -> None:
        self._command = [sys.executable, "-I", str(script), str(timeout)]
        self._timeout = timeout
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(workers):
            self._idle.put(None)
        self._workers = workers
        atexit.register(self.close)

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """One request. **Raises:** `TimedOut` or `Crashed`, after which the pool goes on."""
        worker = self._idle.get()
        try:
            if worker is None:
                worker = _Worker(self._command)
            return worker.ask(request, self._timeout)
        except BaseException:
            if worker is not None:
                worker.kill()
                worker = None
            raise
        finally:
            self._idle.put(worker)

    def ask_all(
        self, requests: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any] | TimedOut | Crashed]:
        """The replies to many requests, in their order; failures in place of replies."""

        def attempt(request: Mapping[str, Any]) -> dict[str, Any] | TimedOut | Crashed:
            try:
                return self.ask(request)
            except (TimedOut, Crashed) as failure:
                return failure

        with ThreadPoolExecutor(self._workers) as threads:
            return list(threads.map(attempt, requests))

    def close(self) -> None:
        """End the idle workers."""
        with contextlib.suppress(queue.Empty):
            while True:
                worker = self._idle.get_nowait()
                if worker is not None:
                    worker.kill()


class _Worker:
    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the run, which then ends its workers
        )
        assert self._process.stdout is not None
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        try:
            self._reply(time.monotonic() + _STARTING)
        except BaseException:
            self.kill()
            raise

    def ask(self, request: Mapping[str, Any], timeout: float) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise Crashed("the worker has ended") from error
        return self._reply(time.monotonic() + timeout)

    def _reply(self, deadline: float) -> dict[str, Any]:
        line = b""
        while not line.endswith(b"\n"):
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                raise TimedOut
            assert self._process.stdout is not None
            # `read1`: what is there, without waiting for a whole line.
            chunk = self._process.stdout.read1(65536)  # type: ignore[attr-defined]
            if not chunk:
                raise Crashed("the worker ended")
            line += chunk
        try:
            return json.loads(line)
        except ValueError as error:
            raise Crashed("the worker's reply is not JSON") from error

    def kill(self) -> None:
        self._selector.close()
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):  # unsent bytes of a dead worker's input
                stream.close()
