"""`jax.jit` for programs that are compiled as often as they are run."""

from __future__ import annotations

from functools import partial

import jax

# LLVM's full effort more than doubles the compilation of these programs, many small scalar
# operations, and gains nothing measurable in running them.
quick_jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 1})
