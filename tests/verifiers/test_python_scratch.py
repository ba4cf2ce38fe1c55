from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from gapjax.verifiers.python_scratch import scratch_folder

DEEP = """
for _ in range(1500):
    os.mkdir("a"); os.mkdir("b"); open("c", "w").close(); os.chdir("a")
"""
CLOSED = """
os.makedirs("a/b/c"); open("a/b/d", "w").close()
os.chmod("a/b/c", 0); os.chmod("a/b", 0o500); os.chmod("a", 0); os.chmod(".", 0)
"""
REPLACED = """
here = os.getcwd(); os.chdir("/"); os.rename(here, here + ".moved"); os.symlink(sys.argv[1], here)
"""
A_FILE = """
here = os.getcwd(); os.chdir("/"); os.rmdir(here); open(here, "w").close()
"""
ANOTHER = """
here = os.getcwd(); os.chdir("/"); os.rename(here, here + ".moved"); os.makedirs(here + "/a/b")
"""
LINKS = """
os.symlink(sys.argv[1], "a"); os.symlink(sys.argv[1] + "/kept", "b"); os.symlink("gone", "c")
os.mkfifo("d"); os.mkdir("e"); os.symlink("..", "e/f")
"""
GONE = "os.rmdir(os.getcwd())"


@pytest.mark.fast
@pytest.mark.parametrize("code", [DEEP, CLOSED, REPLACED, A_FILE, ANOTHER, LINKS, GONE])
def test_nothing_is_left_of_a_folder(code: str, tmp_path, monkeypatch) -> None:
    outside, temporary = tmp_path / "outside", tmp_path / "temporary"
    outside.mkdir(mode=0o755)
    temporary.mkdir()
    (outside / "kept").write_text("kept")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with scratch_folder() as folder:
        command = [sys.executable, "-c", f"import os, sys\n{code}", str(outside)]
        subprocess.run(command, cwd=folder, check=True)
    assert list(temporary.iterdir()) == []
    assert (outside / "kept").read_text() == "kept"
    assert outside.stat().st_mode & 0o777 == 0o755


@pytest.mark.fast
def test_a_fault_inside_is_raised_and_the_folder_goes() -> None:
    kept: list[Path] = []

    def fail() -> None:
        with scratch_folder() as folder:
            kept.append(folder)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not kept[0].exists()
