"""Unit tests on code that a model wrote.

**Not a sandbox.** Code and tests run as the current user, in two processes of their own with
limits on time, memory, file size and processes, in an empty folder and with an empty environment;
on Linux, where the kernel allows it, without network and out of reach of other processes. The
tests alone decide: no line of the code runs in their process. docs/training.md has a table of
what is protected; the user's files are not.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal

from gapjax.verifiers.python_code import analysed
from gapjax.verifiers.python_grader.supervisor import FAILED, PASSED, TIMEOUT
from gapjax.verifiers.python_scratch import scratch_folder

TestOutcome = Literal["correct", "incorrect", "timeout", "error"]

_OUTCOMES: dict[int, TestOutcome] = {PASSED: "correct", FAILED: "incorrect", TIMEOUT: "timeout"}
# Threads of linear algebra take memory each, and their number is limited.
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
_START = Path(__file__).parent / "python_grader" / "start.py"
_ENDING = 5.0
_STARTING = 10.0  # seconds for the interpreter itself on a busy machine


def run_tests(
    code: str,
    tests: str,
    *,
    timeout: float = 5.0,
    memory: int = 1 << 30,
    site_packages: bool = False,
) -> TestOutcome:
    """Run `tests` on `code`, which has to run to its end as a module that is imported.

    What stands under `if __name__ == "__main__":` is not run, `unittest.main()` does nothing, and
    there is no input: code that calls `input()` where it is imported fails.

    The tests have the names that the code defines and they do not, or import them from
    `solution`; the code has what they import, and their classes. Their assertions, cases of
    unittest and functions `test_…` are run. Data (numbers, texts, containers, dates, with
    `site_packages` arrays) passes between the processes as it is; objects of other classes stay
    where they are and are used from there. Such an object equals no data, but by what its class
    has from a class of data.

    **Arguments:**

    - `timeout`: seconds of CPU; twice as many of wall time.
    - `memory`: bytes, for either process.
    - `site_packages`: installed packages can be imported.

    **Returns:** `"correct"` if the tests ran to their end, `"incorrect"` if code or tests failed
    in whatever way (exiting before the end of the tests included), `"timeout"`, or `"error"`
    if the tests are no Python or need a framework that gives them arguments, or the processes
    could not be started or supervised.
    """
    try:
        job = {"tests": tests} | analysed(code, tests)
    except ValueError:
        return "error"
    with (
        scratch_folder() as folder,
        tempfile.TemporaryFile() as program,
        tempfile.TemporaryFile() as asked,
    ):
        program.write(code.encode("utf-8", "surrogatepass"))
        asked.write(json.dumps(job).encode())
        files = [program, asked]
        for file in files:
            file.seek(0)
        numbers = [f.fileno() for f in files] + [round(1000 * timeout), memory, int(site_packages)]
        environment = dict.fromkeys(_THREADS, "1") if site_packages else {}
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_START), *map(str, numbers)],
                stdin=subprocess.PIPE,  # its end tells that nobody waits any more
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env=environment | {"TMPDIR": str(folder)},
                pass_fds=[f.fileno() for f in files],
                start_new_session=True,
            )
        except OSError:
            return "error"
        try:
            status = process.wait(timeout=2 * timeout + _STARTING)
        except subprocess.TimeoutExpired:
            return "timeout"
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:  # it ends what it has started, also if we are interrupted
                process.wait(timeout=_ENDING)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return _OUTCOMES.get(status, "error")
