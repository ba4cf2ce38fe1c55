"""Checkpoints that are written while the run goes on, here and in a bucket."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from gapjax.selfimprove.checkpoint import Checkpoints, Saved
from tests.faults import files_of_at_most

pytestmark = pytest.mark.fast


class State(NamedTuple):
    weights: jax.Array
    step: jax.Array


def make(step: int, size: int = 1000) -> Saved:
    weights = jax.random.normal(jax.random.key(step), (size,))  # cannot be compressed
    return Saved(State(weights, jnp.array(step)), 0, step)


def no_warning(text: str) -> None:
    raise AssertionError(text)


def newest(checkpoints: Checkpoints, warn=no_warning, size: int = 1000) -> int | None:
    """The step of the newest, whose arrays must be those of `make`."""
    saved = checkpoints.newest(make(99, size).state, warn)
    if saved is None:
        return None
    assert (saved.round, saved.steps) == (0, int(saved.state.step))
    np.testing.assert_array_equal(saved.state.weights, make(saved.steps, size).state.weights)
    return saved.steps


def test_the_state_may_be_donated_while_it_is_being_written(tmp_path) -> None:
    size = 2**23
    overwrite = jax.jit(lambda x: -x, donate_argnums=0)
    checkpoints = Checkpoints(tmp_path / "new", keep=1)
    saved = make(1, size)
    weights = saved.state.weights
    checkpoints.save(saved)
    assert checkpoints._open is not None
    assert checkpoints._open.is_saving_in_progress()
    after = [overwrite(weights)]
    for _ in range(3):
        after.append(overwrite(after[-1]))
    assert all(x.is_deleted() for x in after[:-1])  # donation is at work here
    assert newest(checkpoints, size=size) == 1


@pytest.mark.parametrize(
    "find_out",
    [
        lambda checkpoints: checkpoints.save(make(3, 2**18)),
        Checkpoints.wait,
        lambda checkpoints: newest(checkpoints, size=2**18),
    ],
    ids=["save", "wait", "newest"],
)
def test_a_full_disk_is_found_out_later_and_no_obstacle_when_it_is_empty(
    tmp_path, find_out
) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(make(1, 2**18))
    checkpoints.wait()
    with files_of_at_most(2**16):
        checkpoints.save(make(2, 2**18))
        with pytest.raises(OSError, match="File too large") as caught:
            find_out(checkpoints)
    assert caught.value.filename == str(tmp_path)
    assert newest(checkpoints, size=2**18) == 1
    checkpoints.save(make(4, 2**18))
    assert newest(checkpoints, size=2**18) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "4"]


def test_killed_while_writing(tmp_path) -> None:
    """The one before is left, or this one if it was quicker."""
    script = (
        "import os, sys\n"
        "from gapjax.selfimprove.checkpoint import Checkpoints\n"
        "from tests.selfimprove.test_checkpoint import make\n"
        "checkpoints = Checkpoints(sys.argv[1], keep=2)\n"
        "checkpoints.save(make(1, 2**20))\n"
        "checkpoints.save(make(2, 2**20))\n"
        f"os.kill(os.getpid(), {int(signal.SIGKILL)})\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == -signal.SIGKILL
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert newest(checkpoints, size=2**20) in (1, 2)
    checkpoints.save(make(3, 2**20))
    checkpoints.wait()
    assert all(path.name.isdecimal() for path in tmp_path.iterdir())


def test_in_a_bucket(bucket) -> None:
    folder = epath.Path(bucket) / "run" / "checkpoints"
    checkpoints = Checkpoints(folder, keep=2)
    assert newest(checkpoints) is None
    for step in (1, 2, 3):
        checkpoints.save(make(step))
    assert newest(checkpoints) == 3
    assert {path.name for path in folder.iterdir()} == {"2", "3"}
    metadata = folder / "3" / "_CHECKPOINT_METADATA"
    metadata.write_text(metadata.read_text().replace('"digest": "', '"digest": "0'))
    warnings: list[str] = []
    assert newest(checkpoints, warnings.append) == 2
    assert ["checkpoint 3 is damaged" in text for text in warnings] == [True]
    checkpoints.save(make(3))
    checkpoints.wait()
    assert newest(Checkpoints(str(folder), keep=2)) == 3


def test_a_bucket_that_is_not_there(bucket) -> None:
    checkpoints = Checkpoints("gs://no-bucket/checkpoints", keep=2)
    checkpoints.save(make(1))
    with pytest.raises(OSError, match="No such file") as caught:
        checkpoints.wait()
    assert caught.value.filename == "gs://no-bucket/checkpoints"


@pytest.mark.parametrize(
    ("raised", "errno_", "words"),
    [
        (FileNotFoundError("http://127.0.0.1:1/b/no-bucket/o"), errno.ENOENT, "No such file"),
        (PermissionError("gs://private"), errno.EACCES, "Permission denied"),
        (OSError("http://127.0.0.1:1/b"), errno.EIO, "Input/output error"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/disk/file"), errno.ENOSPC, "No space"),
    ],
)
def test_whichever_client_fails_first(tmp_path, monkeypatch, raised, errno_, words) -> None:
    """Some raise an address and no number; others say it all."""
    checkpoints = Checkpoints(tmp_path, keep=2)
    monkeypatch.setattr(checkpoints, "_checkpointer", Mock(side_effect=raised))
    with pytest.raises(OSError, match=words) as caught:
        checkpoints.save(make(1))
    assert caught.value.errno == errno_
    assert caught.value.filename in (str(tmp_path), "/disk/file")
