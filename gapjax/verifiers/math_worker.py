"""Compares mathematical expressions; a worker of its own, see `gapjax.workers`.

Run as a script and on its own on purpose: it must start without JAX. SymPy can take for ever
on innocent input (a tower of powers), hence the process and its limits.
"""

from __future__ import annotations

import json
import math
import resource
import sys

_MEMORY = 4 * 2**30  # bytes of address space


def main(timeout: float) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    import logging

    # Its own timeouts are alarms, which we replace; it warns of their absence.
    logging.disable(logging.WARNING)
    from math_verify import parse, verify

    def correct(response: str, answer: str) -> bool:
        gold = parse(answer, parsing_timeout=None, raise_on_error=True)
        if not gold:
            raise ValueError("the reference answer cannot be parsed")
        found = parse(response, parsing_timeout=None, raise_on_error=True)
        return bool(verify(gold, found, timeout_seconds=None, raise_on_error=True))

    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        # Should the parent die meanwhile, the kernel ends a comparison that goes on for ever.
        used = resource.getrusage(resource.RUSAGE_SELF)
        seconds = math.ceil(used.ru_utime + used.ru_stime + timeout) + 5
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, hard))
        try:
            reply: dict[str, bool | str] = {"correct": correct(**request)}
        except Exception as error:  # whatever it is, it is this answer's outcome
            reply = {"error": f"{type(error).__name__}: {error}"[:500]}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]))
