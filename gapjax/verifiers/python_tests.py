"""Unit tests on code that a model wrote.

**Not a sandbox.** The code runs as the current user in a process of its own with limits on time,
memory, file size and processes, without the network where the kernel allows that, in an empty
folder and with an empty environment. This protects against accidents such as endless
loops; it does not protect against hostile code, which can read and delete the user's files.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal

from gapjax.verifiers.python_scratch import scratch_folder

TestOutcome = Literal["correct", "incorrect", "timeout", "error"]

_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
_RUNNER = Path(__file__).with_name("python_runner.py")
_NO_START = 97  # the runner's exit status if it could not set its limits
_STARTING = 10.0  # seconds for the interpreter itself on a busy machine


def run_tests(
    code: str,
    tests: str,
    *,
    timeout: float = 5.0,
    memory: int = 1 << 30,
    site_packages: bool = False,
) -> TestOutcome:
    """Run `tests` after `code`, which has to run to its end as a module that is imported.

    What stands under `if __name__ == "__main__":` is not run, `unittest.main()` does nothing, and
    there is no input: code that calls `input()` where it is imported fails.

    **Arguments:**

    - `timeout`: seconds of CPU; twice as many of wall time.
    - `memory`: bytes.
    - `site_packages`: installed packages can be imported.

    **Returns:** `"correct"` if the tests ran to their end, `"incorrect"` if code or tests failed
    in whatever way (exiting before the end of the tests included), `"timeout"`, or `"error"`
    if the process could not be started.
    """
    # Proof that the end was reached: `sys.exit(0)` halfway must not pass for success.
    token = secrets.token_hex(16)
    program = f"{code}\n\n{tests}\n"
    # A file takes what is printed: its size is limited, a pipe would fill our own memory.
    with scratch_folder() as folder, tempfile.TemporaryFile() as printed:
        command = [sys.executable, "-I", *(() if site_packages else ("-S",)), str(_RUNNER)]
        # Threads of linear algebra take memory each, and their number is limited.
        environment = dict.fromkeys(_THREADS, "1") if site_packages else {}
        try:
            process = subprocess.Popen(
                [*command, token, str(timeout), str(memory)],
                stdin=subprocess.PIPE,
                stdout=printed,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env=environment | {"TMPDIR": str(folder)},
                start_new_session=True,
            )
        except OSError:
            return "error"
        try:
            source = program.encode("utf-8", "surrogatepass")
            process.communicate(source, timeout=2 * timeout + _STARTING)
        except subprocess.TimeoutExpired:
            return "timeout"
        finally:
            # What the code has started too: the limit on processes does not bind root.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        printed.seek(0)
        if process.returncode == 0 and token.encode() in printed.read():
            return "correct"
    if process.returncode == _NO_START:
        return "error"
    # SIGXCPU, or SIGKILL at the hard limit a second later.
    return "timeout" if process.returncode in (-24, -9) else "incorrect"
