"""Starts checker and answer, waits for the checker, and ends whatever is left of either."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Collection

from . import answer, checker, limits
from .checker import FAILED, LOST, PASSED

TIMEOUT, NO_START = 44, 45  # exit statuses, beside the checker's own
_SLACK = 0.2  # seconds of CPU within which the kernel's limit has struck
_REPORT = 2.0  # seconds to learn what became of an answer that has ended
_FILES = 256
_LIFELINE = 0  # standard input: at its end nobody waits for the outcome


def main(code: int, job: int, milliseconds: int, memory: int, packages: int) -> None:
    """The process that starts the others; its exit status is the outcome.

    **Arguments:**

    - `code`, `job`: open files.
    - `milliseconds`: of CPU for either process; twice as many of wall time.
    - `memory`: bytes for either.
    - `packages`: whether installed packages can be imported.
    """
    seconds = milliseconds / 1000
    awake = _wakes_up()
    limits.adopt()
    limits.no_network()
    limits.closed_to_others()
    if packages:
        import site

        site.main()
    ours, theirs = socket.socketpair()

    def check() -> None:
        limits.limit(seconds, memory, alone=False)
        checker.main(ours, job, packages=bool(packages))

    def begin() -> None:
        def run() -> None:
            limits.without_privileges()
            limits.limit(seconds, memory, alone=True)
            answer.main(theirs, code, packages=bool(packages))

        process = _start(run, [theirs.fileno(), code])
        theirs.close()  # its end tells the checker that the answer has ended
        os.close(code)
        _watch(process, seconds)

    status = NO_START
    try:
        # The checker stays outside of the answer's namespace: it cannot be seen from there.
        tests = _start(check, [ours.fileno(), job], group=True)
        limits.own_processes()
        init = _start(begin, [theirs.fileno(), code], group=True)
        ours.close()
        theirs.close()
        status = _wait(tests, time.monotonic() + 2 * seconds, awake, seconds)
        if status == LOST:
            became = _wait(init, time.monotonic() + _REPORT, awake, None)
            status = TIMEOUT if became == TIMEOUT else FAILED
        _end_all([tests, init])
    finally:
        os._exit(status)


def _start(run: Callable[[], None], keep: Collection[int], *, group: bool = False) -> int:
    """Fork. The child has no other file than these, and never returns."""
    if pid := os.fork():
        return pid
    status = NO_START
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if group:
            os.setsid()
        limits.end_with_parent()
        empty = os.open(os.devnull, os.O_RDONLY)
        os.dup2(empty, _LIFELINE)
        begin = 3
        # The kernel hands out the lowest number: beyond these there is none.
        for end in (*sorted(keep), max(keep) + _FILES):
            os.closerange(begin, end)
            begin = end + 1
        run()
        status = FAILED
    finally:
        os._exit(status)


def _watch(answer: int, seconds: float) -> None:
    """The first process of the answer's namespace: tells what became of the answer."""
    while True:
        ended, _, usage = os.wait4(-1, 0)
        if ended == answer:
            late = usage.ru_utime + usage.ru_stime > seconds - _SLACK
            os._exit(TIMEOUT if late else FAILED)


def _wakes_up() -> int:
    """A pipe that is written to whenever a child has ended."""
    reading, writing = os.pipe()
    for end in (reading, writing):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return reading


def _wait(child: int, deadline: float, awake: int, seconds: float | None) -> int:
    """The exit status of a child; `FAILED` for one that was killed."""
    while True:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if ended:
            late = seconds is not None and usage.ru_utime + usage.ru_stime > seconds - _SLACK
            code = os.waitstatus_to_exitcode(status)
            if code in (PASSED, FAILED, LOST, TIMEOUT, NO_START):
                return code
            return TIMEOUT if late else FAILED
        left = deadline - time.monotonic()
        if left < 0:
            return TIMEOUT
        ready, _, _ = select.select([awake, _LIFELINE], [], [], left)
        if _LIFELINE in ready:
            return FAILED
        with contextlib.suppress(BlockingIOError):
            os.read(awake, 4096)


def _end_all(groups: Collection[int]) -> None:
    """To the last process below this one: those whose parents end become our own children."""
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    for group in groups:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(group, 0)
    with contextlib.suppress(ChildProcessError):  # there is none left
        os.waitpid(-1, os.WNOHANG)
        while True:
            for child in _children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            os.wait()


def _children() -> list[int]:
    """By Linux's table of processes; elsewhere there is none, and groups have to do."""
    own, found = os.getpid(), []
    if not limits.LINUX:
        return []
    with os.scandir("/proc") as processes:
        for process in processes:
            if process.name.isdigit():
                with contextlib.suppress(OSError):
                    file = os.open(f"/proc/{process.name}/stat", os.O_RDONLY)
                    try:
                        # After the name of the program, which may hold spaces and brackets.
                        parent = os.read(file, 4096).rpartition(b")")[2].split()[1]
                    finally:
                        os.close(file)
                    if int(parent) == own:
                        found.append(int(process.name))
    return found
