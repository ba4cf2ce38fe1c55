"""What importing costs, and what the README promises."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


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


def test_the_readmes_example_runs_as_printed(tmp_path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    assert len(example.strip().splitlines()) <= 5
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
