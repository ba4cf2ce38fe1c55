"""A process of a run, as `python -m tests.parallel.child OPTIONS ARGUMENTS…` starts it.

The arguments are those of `gapjax`. The options, as JSON: `signal` is what the process sends to
itself once it has written the `after`-th checkpoint; `stop`: the optimizer step after which it is
told to stop; `patience`: of the watch, in seconds;
`sharded`: the model counts as too large for one device to sample from it alone.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from gapjax.cli.main import main
from gapjax.parallel import join
from gapjax.selfimprove import Event, Trained, checkpoint, rounds
from gapjax.selfimprove.run_folder import RunFolder


def run(options: dict[str, Any], arguments: list[str]) -> int:
    save, written = checkpoint.Checkpoints.save, 0

    def save_and_die(self: checkpoint.Checkpoints, saved: checkpoint.Saved) -> None:
        nonlocal written
        save(self, saved)
        written += 1
        if written == options.get("after"):
            os.kill(os.getpid(), options["signal"])

    checkpoint.Checkpoints.save = save_and_die  # type: ignore[method-assign]
    write = RunFolder.write

    def write_and_stop(self: RunFolder, event: Event) -> None:
        write(self, event)
        if isinstance(event, Trained) and event.step == options.get("stop"):
            os.kill(os.getpid(), signal.SIGTERM)

    RunFolder.write = write_and_stop  # type: ignore[method-assign]
    if "patience" in options:
        defaults = join.join.__kwdefaults__
        assert defaults is not None
        defaults["patience"] = options["patience"]
    if options.get("sharded"):
        rounds._SMALL = 0
    return main(arguments)


if __name__ == "__main__":
    sys.exit(run(json.loads(sys.argv[1]), sys.argv[2:]))
