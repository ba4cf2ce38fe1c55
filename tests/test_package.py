"""What importing costs, and what the README promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.fast
def test_import_is_light() -> None:
    heavy = {"jax", "numpy", "pandas", "flax", "transformers", "matplotlib", "scipy"}
    assert not modules_after("import gapjax; import gapjax.cli.main") & heavy


@pytest.mark.fast
def test_the_theory_wing_never_imports_the_models_wing() -> None:
    modules = modules_after("import gapjax.dynamics, gapjax.posterior, gapjax.trajectories")
    assert not modules & {"transformers", "orbax", "flax", "gguf", "safetensors", "torch"}


@pytest.mark.fast
def test_sub_packages_are_reached_lazily() -> None:
    import gapjax

    assert callable(gapjax.trajectories.read)
    assert "trajectories" in dir(gapjax)
    with pytest.raises(AttributeError, match="nonsense"):
        gapjax.nonsense  # noqa: B018


@pytest.fixture
def workplace(tmp_path) -> Path:
    """A folder in which the pages' relative paths exist and nothing of ours is overwritten."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "data").symlink_to(ROOT / "docs" / "data")
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples_run_as_printed(page: Path, workplace: Path) -> None:
    examples = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert examples
    if page.name == "README.md":
        assert len([line for line in examples[0].splitlines() if line]) == 5
    for example in examples:
        done = subprocess.run(
            [sys.executable, "-c", example],
            cwd=workplace,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()


def test_links_within_the_repository_lead_somewhere() -> None:
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
