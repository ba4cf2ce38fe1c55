"""Problems for a model to solve, in splits that never overlap."""

from gapjax.tasks.arithmetic import arithmetic
from gapjax.tasks.problem import Problem, Splits

__all__ = ["Problem", "Splits", "arithmetic"]
