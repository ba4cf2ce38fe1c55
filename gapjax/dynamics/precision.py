"""Double precision on the CPU, for the length of a block.

The theory's numbers are few and want 64 bits; the language model beside them wants 32
and the accelerator.  Both live in one process, so nothing here is global.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import jax


@contextmanager
def float64_on_cpu() -> Iterator[None]:
    """Trace and run what is inside in float64 on this process's CPU."""
    with jax.enable_x64(True), jax.default_device(jax.local_devices(backend="cpu")[0]):
        yield
