"""Becoming one of the processes of a run, and noticing when another one is gone.

A process that waits for one that has died waits forever on some platforms; JAX's runtime ends it
after a while with a stack trace of its own. The watch here comes before, with one line.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

import jax

from gapjax.errors import UserError

# Environments in which JAX finds out by itself who the processes are, by its own names.
_CLUSTERS = ("gketpu", "gcetpu", "slurm", "ompi")
_PATIENCE = 30.0  # seconds without a sign of life
_LOST = 1  # exit status


def join(
    coordinator: str | None = None,
    processes: int | None = None,
    process_id: int | None = None,
    *,
    patience: float = _PATIENCE,
) -> None:
    """Join the other processes, if there are any; before anything is computed, and once.

    **Arguments:**

    - `coordinator`: host and port of the first process, `processes`: how many there are,
        `process_id`: which one this is. What is not given is found out from the environment:
        `JAX_COORDINATOR_ADDRESS`, TPU pods (GKE, TPU VMs), SLURM, Open MPI.
    - `patience`: seconds after which a silent process is taken for dead. This one then says so
        on standard error and ends with status 1, wherever it is.

    **Raises:** `UserError` if they cannot be joined.
    """
    given = (coordinator, processes, process_id)
    if given == (None, None, None) and not _in_a_cluster():
        return
    # Programs that wait for each other's processes must not overtake each other: on CPUs, which
    # share their threads, they come to a standstill.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    try:
        jax.distributed.initialize(
            *given,
            # Should the watch fail, JAX's runtime does what it does.
            heartbeat_timeout_seconds=max(10, round(3 * patience)),
            shutdown_timeout_seconds=max(10, round(2 * patience)),
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"the other processes cannot be joined ({reason})") from error
    if jax.process_count() > 1:
        _Watch(patience).start()


def expect(processes: int | None, devices: int | None) -> None:
    """Make sure that all are there, rather than train several copies apart.

    **Raises:** `UserError` if the number of processes or of all their devices is another.
    """
    for what, wanted, found in (
        ("process", processes, jax.process_count()),
        ("device", devices, jax.device_count()),
    ):
        if wanted is not None and wanted != found:
            raise UserError(
                f"{wanted} {what}{'es' if what == 'process' else 's'} are expected, and {found} "
                f"{'is' if found == 1 else 'are'} there",
                hint="was every host started, with the same command?",
            )


def _in_a_cluster() -> bool:
    if "JAX_COORDINATOR_ADDRESS" in os.environ:
        return True
    # JAX has no public way to ask without joining, and joining comes too late in a process
    # that has computed something.
    from jax._src.clusters import ClusterEnv

    for kind in ClusterEnv._cluster_types:
        if kind.name in _CLUSTERS and kind.is_env_present():
            return kind.get_process_count() > 1
    return False


class _Watch(threading.Thread):
    """Tells the others that this process lives, and looks whether they do."""

    def __init__(self, patience: float) -> None:
        super().__init__(name="gapjax-watch", daemon=True)
        from jax._src.distributed import global_state

        self._client: Any = global_state.client
        self._patience = patience
        self._me = f"gapjax/alive/{jax.process_index()}"

    def run(self) -> None:
        now = time.monotonic()
        heard = {f"gapjax/alive/{i}": ("", now) for i in range(jax.process_count())}
        beat = 0
        while True:
            beat += 1
            try:
                self._client.key_value_set(self._me, str(beat), allow_overwrite=True)
                signs = dict(self._client.key_value_dir_get("gapjax/alive/"))
            except Exception as error:  # of the runtime, which has none of its own
                if sys.is_finalizing() or threading.main_thread().is_alive() is False:
                    return
                _give_up(f"process 0 does not answer ({str(error).splitlines()[0][:100]})")
            now = time.monotonic()
            for key, sign in signs.items():
                if key in heard and heard[key][0] != sign:
                    heard[key] = sign, now
            for key, (_, at) in heard.items():
                if now - at > self._patience:
                    process = key.rpartition("/")[2]
                    _give_up(f"process {process} has been silent for {now - at:.0f} s")
            time.sleep(self._patience / 6)


def _give_up(what: str) -> None:
    """End at once: at a normal end the runtime would wait for the lost process."""
    print(
        f"gapjax: the run has lost a process: {what}; start all of them again with --resume",
        file=sys.stderr,
        flush=True,
    )
    os._exit(_LOST)
