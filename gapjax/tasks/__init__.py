"""Problems for a model to solve, in splits that never overlap."""

from gapjax.tasks.arithmetic import arithmetic
from gapjax.tasks.jsonl import GRADING, read_problems
from gapjax.tasks.problem import Grading, Problem, Splits, deal

__all__ = ["GRADING", "Grading", "Problem", "Splits", "arithmetic", "deal", "read_problems"]
