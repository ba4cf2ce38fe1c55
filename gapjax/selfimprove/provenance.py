"""With what a run was made: packages, interpreter, and the user's own git commit."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import subprocess
from typing import Any

from gapjax import __version__
from gapjax.paths import Path
from gapjax.selfimprove.recipe import Recipe

_PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "transformers",
    "tokenizers",
    "numpy",
)


def versions() -> dict[str, str]:
    """Versions of everything that results depend on."""
    packages = {package: importlib.metadata.version(package) for package in _PACKAGES}
    return {"python": platform.python_version(), "gapjax": __version__, **packages}


def digests(recipe: Recipe) -> dict[str, str]:
    """SHA-256 of the files that a recipe names."""
    paths = (recipe.task.file, recipe.task.held_out_file, recipe.external.file)
    return {
        path: hashlib.sha256(Path(path).read_bytes()).hexdigest()
        for path in paths
        if path is not None
    }


def git_state() -> dict[str, Any] | None:
    """The commit of the working directory's repository, and whether files differ from it.

    None outside a repository, before its first commit, without git, or if git takes too long.
    """
    try:
        commit = _git("rev-parse", "HEAD").strip()
        return {"commit": commit, "changed": bool(_git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], check=True, capture_output=True, text=True, timeout=10
    ).stdout
