"""How a process ends that is told to, and how one ends whose run has other processes."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator

from gapjax.errors import UserError

PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: all is saved, start again


class Termination:
    """What becomes of SIGTERM: the run ends with the status 75, and --resume goes on with it.

    In training it ends after the step, with a checkpoint (ask `asked`); elsewhere at once, as
    there is one already from before. A second signal ends it at once wherever it is.
    """

    def __init__(self) -> None:
        self.training = False  # for the loop to set
        self._asked = False

    def asked(self) -> bool:
        """Whether to end after this step."""
        return self._asked

    @contextlib.contextmanager
    def heeded(self) -> Iterator[None]:
        """Listen for the signal, if this is the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, self._hear)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _hear(self, *_: object) -> None:
        if self.training and not self._asked:
            self._asked = True
            return
        print("gapjax: told to stop; --resume goes on", file=sys.stderr, flush=True)
        if _others():
            os._exit(PREEMPTED)  # a normal end waits for the others
        sys.exit(PREEMPTED)


@contextlib.contextmanager
def bound_to_others() -> Iterator[None]:
    """End this process at once when it fails, if its run has others, who would wait for it.

    And when another one fails, say so. What all of them find out together is not meant: a
    `UserError`, or that they are `Preempted`.
    """
    from jax.errors import JaxRuntimeError

    from gapjax.selfimprove import Preempted

    try:
        yield
    except (UserError, Preempted, SystemExit):
        raise
    except JaxRuntimeError as error:
        if not _others():
            raise
        reason = str(error).splitlines()[0][:160]
        print(
            f"gapjax: a process or device of the run has failed ({reason}); "
            "start all processes again with --resume",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)
    except BaseException:
        if not _others():
            raise
        traceback.print_exc()
        print("gapjax: this process has failed, and ends the run", file=sys.stderr, flush=True)
        os._exit(1)


def _others() -> bool:
    import jax

    return jax.process_count() > 1
