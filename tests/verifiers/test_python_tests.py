"""Grading by unit tests: what is right is right, and only the tests decide."""

from __future__ import annotations

import tempfile

import pytest

from gapjax.verifiers import grade
from gapjax.verifiers.python_tests import run_tests

ADD = "def add(a, b):\n    return a + b\n"
TESTS = "assert add(1, 2) == 3"


@pytest.mark.fast
@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (ADD + "if __name__ == '__main__':\n    print(add(int(input()), 1))\n", "correct"),
        (ADD + "import unittest\nif __name__ == '__main__':\n    unittest.main()\n", "correct"),
        (ADD + "import unittest\nunittest.main()\n", "correct"),
        (ADD + "from unittest import main\nmain(exit=False)\n", "correct"),
        (ADD + "def main():\n    print(add(int(input()), 1))\n", "correct"),
        # there is no input: a module that asks for it where it is imported cannot be imported
        (ADD + "print(add(int(input()), 1))\n", "incorrect"),
        (ADD + "try:\n    add(int(input()), 1)\nexcept EOFError:\n    pass\n", "correct"),
        (ADD + "import sys\nsys.exit(0)\n", "incorrect"),
        # classes whose machinery looks their module up
        (
            "from __future__ import annotations\nimport dataclasses, typing\n"
            "@dataclasses.dataclass\nclass P:\n    x: int\n"
            "def add(a, b):\n    assert typing.get_type_hints(P) == {'x': int}\n"
            "    return P(a).x + b\n",
            "correct",
        ),
    ],
)
def test_answers_are_modules(code: str, expected: str) -> None:
    assert run_tests(code, TESTS) == expected


NUMPY = "import numpy as np\ndef add(a, b):\n    return int(np.add(a, b))\n"


def test_installed_packages_where_they_are_allowed() -> None:
    assert grade(NUMPY, TESTS, "python", run_code=True) == "incorrect"
    assert grade(NUMPY, TESTS, "python", run_code=True, site_packages=True) == "correct"


def test_nothing_is_left_in_the_temporary_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    deep = "import os\nfor _ in range(1500):\n    os.mkdir('a'); os.chdir('a')\n"
    own = "import tempfile\ntempfile.mkdtemp(); tempfile.mkstemp()\n"
    link = "import os\nhere = os.getcwd(); os.rename(here, here + 'x'); os.symlink('/', here)\n"
    for code in (deep, own, link):
        assert run_tests(code + ADD, TESTS) == "correct"
        assert list(tmp_path.iterdir()) == []
