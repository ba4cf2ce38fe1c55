"""Unit tests on code that a model wrote.

**Not a sandbox.** The code runs as the current user in a process of its own with limits on time,
memory, file size and processes, without the network where the kernel allows that, in an empty
folder and with an empty environment. This protects against accidents such as endless
loops; it does not protect against hostile code, which can read and delete the user's files.
"""

from __future__ import annotations

import re
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal

TestOutcome = Literal["correct", "incorrect", "timeout", "error"]

_RUNNER = Path(__file__).with_name("python_runner.py")
_FENCED = re.compile(r"```(?:python|py)?[^\S\n]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
_MBPP = re.compile(r"\[BEGIN\](.*?)(?:\[DONE\]|\Z)", re.DOTALL)
_NO_START = 97  # the runner's exit status if it could not set its limits
_STARTING = 10.0  # seconds for the interpreter itself on a busy machine


def extract_code(response: str) -> str:
    """The last fenced block of an answer, else what `[BEGIN]` and `[DONE]` enclose, else all."""
    for pattern in (_FENCED, _MBPP):
        if blocks := pattern.findall(response):
            return blocks[-1]
    return response


def run_tests(code: str, tests: str, *, timeout: float = 5.0, memory: int = 1 << 30) -> TestOutcome:
    """Run `tests` after `code`.

    **Arguments:**

    - `timeout`: seconds of CPU; twice as many of wall time.
    - `memory`: bytes.

    **Returns:** `"correct"` if the tests ran to their end, `"incorrect"` if code or tests failed
    in whatever way (exiting before the end of the tests included), `"timeout"`, or `"error"`
    if the process could not be started.
    """
    # Proof that the end was reached: `sys.exit(0)` halfway must not pass for success.
    token = secrets.token_hex(16)
    program = f"{code}\n\n{tests}\n"
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-S", str(_RUNNER), token, str(timeout), str(memory)],
                input=program.encode("utf-8", "surrogatepass"),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env={},
                timeout=2 * timeout + _STARTING,
                start_new_session=True,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "timeout"
        except OSError:
            return "error"
    if done.returncode == 0 and token.encode() in done.stdout:
        return "correct"
    if done.returncode == _NO_START:
        return "error"
    # SIGXCPU, or SIGKILL at the hard limit a second later.
    return "timeout" if done.returncode in (-24, -9) else "incorrect"
