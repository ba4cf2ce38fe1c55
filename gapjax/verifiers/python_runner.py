"""Limits itself, then runs the program on its input; see `gapjax.verifiers.python_tests`."""

import contextlib
import ctypes
import io
import math
import os
import resource
import sys
import types
import unittest

_NEW_USER_AND_NETWORK = 0x10000000 | 0x40000000  # CLONE_NEWUSER | CLONE_NEWNET


def main(token: str, timeout: float, memory: int) -> None:
    program = sys.stdin.buffer.read()
    # As a module that is imported: what stands under `__name__ == "__main__"` is not run.
    module = types.ModuleType("solution")
    sys.modules["solution"] = module
    unittest.main = lambda *_, **__: None  # type: ignore[assignment]  # its own tests do not count
    try:
        if sys.platform == "linux":
            # An empty network of its own. Fails where the kernel forbids user namespaces.
            ctypes.CDLL(None).unshare(_NEW_USER_AND_NETWORK)
        seconds = math.ceil(timeout)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    except (OSError, ValueError, AttributeError):
        sys.exit(97)
    # What the program prints must not fill the file of the proof.
    out = os.dup(1)
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            exec(compile(program, "<answer>", "exec"), module.__dict__)
        except BaseException:  # `SystemExit` too: the tests were not reached
            os._exit(1)
    os.write(out, token.encode())
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
