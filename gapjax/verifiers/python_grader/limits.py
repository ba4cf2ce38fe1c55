"""What a process may do: the kernel's limits, and namespaces where it allows them."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import resource
import signal
import sys

_NEW_USER, _NEW_PID, _NEW_NET = 0x10000000, 0x20000000, 0x40000000
_PDEATHSIG, _DUMPABLE, _SUBREAPER, _NO_NEW_PRIVILEGES = 1, 4, 36, 38
_CAPABILITIES_3 = 0x20080522
_FILE = 1 << 20  # bytes
LINUX = sys.platform == "linux"


def no_network() -> None:
    """An empty network for this process and its children, where the kernel allows it."""
    if not LINUX:
        return
    user, group = os.getuid(), os.getgid()
    if _unshare(_NEW_USER | _NEW_NET):
        # So that children can have user namespaces within this one.
        with contextlib.suppress(OSError):
            _write("/proc/self/setgroups", "deny")
            _write("/proc/self/gid_map", f"{group} {group} 1")
            _write("/proc/self/uid_map", f"{user} {user} 1")
    else:
        _unshare(_NEW_NET)


def own_processes() -> None:
    """The next child begins a PID namespace, which ends with it, where the kernel allows it."""
    if LINUX:
        _unshare(_NEW_PID)


def adopt() -> None:
    """Processes below this one whose parents have ended become its children."""
    _prctl(_SUBREAPER, 1)


def closed_to_others() -> None:
    """Processes of the same user cannot trace this one nor open its memory."""
    _prctl(_DUMPABLE, 0)


def end_with_parent() -> None:
    """This process is killed when its parent has ended."""
    _prctl(_PDEATHSIG, signal.SIGKILL)


def without_privileges() -> None:
    """No capabilities, now and in programs that are started, not even root's."""
    if not LINUX:
        return
    _unshare(_NEW_USER)
    _prctl(_NO_NEW_PRIVILEGES, 1)
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_3, 0)
    ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)())


def limit(seconds: float, memory: int, *, alone: bool) -> None:
    """Of time, memory and files; `alone`: no processes nor threads either, which root ignores.

    **Raises:** `OSError` or `ValueError` if a limit cannot be set.
    """
    whole = math.ceil(seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (whole, whole + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE, _FILE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if alone:
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def _unshare(what: int) -> bool:
    return ctypes.CDLL(None).unshare(what) == 0


def _prctl(option: int, value: int) -> None:
    if LINUX:
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _write(path: str, text: str) -> None:
    file = os.open(path, os.O_WRONLY)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)
