"""`gapjax train --profile N`: a trace of a few steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gapjax.selfimprove.events import Event


def traced(events: Iterator[Event], count: int, folder: Path) -> Iterator[Event]:
    """Pass events on; what the `count` phases do that follow the first step is written down.

    A phase is an optimizer step, sampling, a measurement or a selection. The first step is left
    out, since it compiles. `folder` then holds what XProf and TensorBoard read, and beside it
    `perfetto_trace.json.gz`, which https://ui.perfetto.dev opens.
    """
    import jax

    from gapjax.selfimprove.events import Measured, Sampled, Selected, Trained

    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # every Python call would hide what the devices do
    running, left = False, count
    try:
        for event in events:
            if running and isinstance(event, Trained | Sampled | Measured | Selected):
                left -= 1
                if left == 0:
                    jax.profiler.stop_trace()
                    running = False
            elif not running and left == count and isinstance(event, Trained):
                jax.profiler.start_trace(
                    folder, create_perfetto_trace=True, profiler_options=options
                )
                running = True
            yield event
    finally:
        if running:
            jax.profiler.stop_trace()
