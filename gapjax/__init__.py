"""gapjax: the solver-verifier gap of self-improving language models, in JAX.

The sub-packages are imported when they are first touched, so that `import gapjax`
costs nothing and a notebook that fits a CSV never loads a language model.
"""

from __future__ import annotations

import importlib
from types import ModuleType

__version__ = "0.1.0"

_SUBPACKAGES = (
    "dynamics",
    "errors",
    "generation",
    "launch",
    "models",
    "parallel",
    "posterior",
    "report",
    "selfimprove",
    "tasks",
    "trajectories",
    "verifiers",
)
__all__ = ["__version__", *_SUBPACKAGES]


def __getattr__(name: str) -> ModuleType:
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
