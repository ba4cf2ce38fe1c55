"""The tools of others that say whether a job file is any good."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def tool(name: str) -> str:
    """The path of a command, or the test is skipped."""
    beside_python = Path(sys.executable).parent
    path = shutil.which(name, path=f"{beside_python}{os.pathsep}{os.environ['PATH']}")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def run(*command: str, **options) -> str:
    """What a command writes to standard output; the test fails if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_script(path: Path) -> None:
    """Fail the test if bash or ShellCheck has anything to say about a script."""
    run("bash", "-n", str(path))
    run(tool("shellcheck"), str(path))


def stand_in(folder: Path, name: str, script: str) -> None:
    """Put a command of this name and content into a folder."""
    path = folder / name
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o755)
