"""Damaged and hostile files give results or one line, within bounded time and memory.

A few of each in the suite; `make fuzz` takes `FUZZ_EXAMPLES` of each, from `FUZZ_SEED`.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from gapjax.errors import UserError
from tests.fuzz.limits import limits
from tests.fuzz.mutations import damaged
from tests.fuzz.readers import READERS, checkpoint_files, read_checkpoint

_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "6"))
_SEED = int(os.environ.get("FUZZ_SEED", "0"))
# Far beyond what reading takes, even where somebody else is at work.
_LIMITS = {"cpu_seconds": 20.0, "more_bytes": 3 * 2**30}

fuzzed = settings(
    max_examples=_EXAMPLES,
    deadline=None,  # of wall time
    database=None,
    # Making an example smaller would wait for each that takes too long.
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)


def reads(read, folder: Path) -> None:
    """Read a folder; nothing but a result or one line may come of it."""
    with limits(**_LIMITS):
        try:
            read(folder)
        except UserError as error:
            line = str(error)
            assert line.isprintable()
            assert len(line) < 4000


@pytest.mark.parametrize("name", READERS)
def test_a_foreign_file_gives_a_result_or_one_line(name: str, tmp_path) -> None:
    reader, folder = READERS[name], tmp_path / "case"
    folder.mkdir()
    reader.make(folder)
    path = folder / reader.file
    valid = path.read_bytes()
    reader.read(folder)

    @seed(_SEED)
    @settings(fuzzed, max_examples=max(2, _EXAMPLES // 10 if reader.slow else _EXAMPLES))
    @given(reader.foreign(valid))
    def run(content: bytes) -> None:
        path.write_bytes(content)
        reads(reader.read, folder)

    run()


def test_a_damaged_checkpoint_is_passed_over(tmp_path) -> None:
    files = checkpoint_files(tmp_path / "valid")
    assert read_checkpoint(tmp_path / "valid") is not None

    @seed(_SEED)
    @settings(fuzzed, max_examples=max(2, _EXAMPLES // 3))
    @given(st.data())
    def run(data: st.DataObject) -> None:
        folder = tmp_path / "case"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "valid", folder)
        path = folder / data.draw(st.sampled_from(files))
        path.write_bytes(data.draw(damaged(path.read_bytes())))
        reads(read_checkpoint, folder)

    run()
