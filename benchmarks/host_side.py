"""Memory of the host by the number of problems: a run's phases, and graded code.

    python -m benchmarks.host_side

Each figure is the peak of a process of its own, which samples, verifies and writes so many probe
and training problems with the embedded model, in parts as `gapjax train` does, or all at once.
Writes benchmarks/results/host_side.md.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "host_side.md"
PROBLEMS = (2500, 10_000)
PROGRAMS = (500, 1000, 2000)
MIB = 2**20


def run_phases(problems: int, *, whole: bool) -> dict[str, float]:
    """A probe, a round and a probe of so many problems; its peak of memory, bytes, and files."""
    from gapjax import models
    from gapjax.selfimprove import Measured, candidates, parse_recipe, self_improve
    from gapjax.selfimprove.run_folder import RunFolder

    if whole:
        candidates._MOST_PROBLEMS = problems
        candidates._MOST_TOKENS = sys.maxsize
    recipe = parse_recipe(
        {
            "model": "adder",
            "task": {"digits": 3, "template": "{a}+{b}=", "train": problems, "probe": problems},
            "sampling": {"n": 32, "max_new_tokens": 8, "sequences_at_once": 2048},
            "adapter": {"rank": 2},
            "train": {"epochs_per_round": 1, "measure_every": 1.0, "batch_size": 256},
        }
    )
    seconds = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder.create(Path(name) / "run", recipe, name="host_side")
        loaded = models.load("adder")
        for event in self_improve(loaded, recipe, kept=lambda: folder):
            began = time.perf_counter()
            folder.write(event)
            seconds += time.perf_counter() - began
            if isinstance(event, Measured):
                print(f"{problems}: epoch {event.epoch:g}", file=sys.stderr, flush=True)
        written = sum(p.stat().st_size for p in Path(name).glob("run/samples/*.jsonl"))
    return {"peak": _peak(resource.RUSAGE_SELF), "written": written, "writing": seconds}


def grade_programs(programs: int, *, whole: bool) -> dict[str, float]:
    """So many different programs, each run against a test in a process of its own."""
    del whole
    from gapjax.verifiers import grade_all

    texts = [f"def add(a, b):\n    return a + b + {i} - {i}\n" for i in range(programs)]
    tests = ["assert add(1, 2) == 3"] * programs
    began = time.perf_counter()
    grades = grade_all(texts, tests, "python", run_code=True)
    seconds = time.perf_counter() - began
    assert set(grades) == {"correct"}, set(grades)
    children = _peak(resource.RUSAGE_CHILDREN)
    return {"peak": _peak(resource.RUSAGE_SELF), "children": children, "seconds": seconds}


def _peak(who: int) -> int:
    return resource.getrusage(who).ru_maxrss * 1024


def _measure(what: str, count: int, *, whole: bool = False) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.host_side", what, str(count), str(int(whole))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def tables() -> Iterator[str]:
    """Both tables, line by line."""
    yield "# The host's memory by the number of problems\n"
    yield "Made by `python -m benchmarks.host_side`: peaks of resident memory, a process each.\n"
    yield "## Phases of a run\n"
    yield "A probe, a round and a probe of so many problems, 32 answers each; the embedded model.\n"
    yield "| problems | in parts | all at once | rows written | of which writing took |"
    yield "|---|---|---|---|---|"
    for problems in PROBLEMS:
        parts, whole = (_measure("phases", problems, whole=whole) for whole in (False, True))
        yield (
            f"| {problems} | {parts['peak'] / MIB:.0f} MiB | {whole['peak'] / MIB:.0f} MiB "
            f"| {parts['written'] / MIB:.0f} MiB | {parts['writing']:.1f} s |"
        )
    yield "\n## Graded code\n"
    yield "Different programs against a test each.\n"
    yield "| programs | this process | largest child | programs a second |"
    yield "|---|---|---|---|"
    for programs in PROGRAMS:
        found = _measure("programs", programs)
        yield (
            f"| {programs} | {found['peak'] / MIB:.0f} MiB | {found['children'] / MIB:.0f} MiB "
            f"| {programs / found['seconds']:.0f} |"
        )


def main() -> None:
    if len(sys.argv) > 1:
        what, count, whole = sys.argv[1:]
        measure = {"phases": run_phases, "programs": grade_programs}[what]
        print(json.dumps(measure(int(count), whole=bool(int(whole)))))
        return
    lines = list(tables())
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(RESULTS)


if __name__ == "__main__":
    main()
