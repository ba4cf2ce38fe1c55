"""Starts the supervisor: `python -I -S start.py …`. A script, so that gapjax is not imported."""

import importlib
import sys
import types

if __name__ == "__main__":
    package = types.ModuleType("python_grader")
    package.__path__ = [__file__.rpartition("/")[0]]
    sys.modules["python_grader"] = package
    importlib.import_module("python_grader.supervisor").main(*map(int, sys.argv[1:]))
