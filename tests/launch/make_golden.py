"""Write the job files that reviews look at: `python -m tests.launch.make_golden`."""

from __future__ import annotations

from pathlib import Path

from gapjax.launch import TARGETS
from tests.launch.jobs import SUFFIXES, render_frame

if __name__ == "__main__":
    folder = Path(__file__).parent / "golden"
    folder.mkdir(exist_ok=True)
    for target in TARGETS:
        path = folder / f"{target}.{SUFFIXES[target]}"
        path.write_text(render_frame(target), encoding="utf-8")
