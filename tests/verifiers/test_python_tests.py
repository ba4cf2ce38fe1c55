"""Grading by unit tests: what is right is right, and only the tests decide."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from gapjax.verifiers import grade
from gapjax.verifiers.python_tests import run_tests

ADD = "def add(a, b):\n    return a + b\n"
TESTS = "assert add(1, 2) == 3"
NUMPY = "import numpy as np\ndef add(a, b):\n    return int(np.add(a, b))\n"


def pairs(name: str) -> list[object]:
    """Of a file: `=== name`, code, `---`, tests."""
    text = (Path(__file__).parent / "graded" / f"{name}.txt").read_text()
    found = []
    for each in text.split("=== ")[1:]:
        title, _, rest = each.partition("\n")
        code, _, tests = rest.partition("\n---\n")
        found.append(pytest.param(code, tests, id=title))
    return found


@pytest.mark.fast
@pytest.mark.parametrize(("code", "tests"), pairs("right"))
def test_right(code: str, tests: str) -> None:
    assert run_tests(code, tests) == "correct"


@pytest.mark.parametrize(("code", "tests"), [*pairs("wrong"), *pairs("forged")])
def test_wrong(code: str, tests: str) -> None:
    assert run_tests(code, tests) == "incorrect"


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


def test_installed_packages_where_they_are_allowed() -> None:
    assert grade(NUMPY, TESTS, "python", run_code=True) == "incorrect"
    assert grade(NUMPY, TESTS, "python", run_code=True, site_packages=True) == "correct"


@pytest.mark.parametrize(
    ("code", "tests", "expected"),
    [
        (
            "import numpy as np\ndef f(a):\n    a += 1\n    return a @ a, a.mean(), a > 2",
            "import numpy as np\na = np.arange(3.0)\nn, mean, above = f(a)\n"
            "assert n == 14 and isinstance(mean, np.float64) and mean == 2\n"
            "np.testing.assert_array_equal(a, [1, 2, 3])\n"
            "assert above.dtype == bool and above.tolist() == [False, False, True]",
            "correct",
        ),
        (
            "import numpy as np\ndef f(): return np.zeros((2, 0, 3), '<i2'), np.array(['a', 'bc'])",
            "import numpy as np\na, b = f()\nassert a.shape == (2, 0, 3) and a.dtype == np.int16\n"
            "assert list(b) == ['a', 'bc']",
            "correct",
        ),
        (
            "import numpy as np\ndef f(): return np.array([1.0, 2.0])",
            "import numpy as np\nassert np.allclose(f(), [1, 3])",
            "incorrect",
        ),
        (
            "import numpy as np\nclass A(np.ndarray):\n    __eq__ = lambda a, b: np.array(True)\n"
            "def f(): return np.zeros(2).view(A)",
            "assert (f() == [1, 2]).all()",
            "incorrect",
        ),
        (
            "import numpy as np\nclass A:\n    def __array_function__(self, *a): return True\n"
            "    def __array_ufunc__(self, *a, **k): return np.zeros(2)\n"
            "    __array_interface__ = {'shape': (2,), 'typestr': '<f8', 'data': (1, True)}\n"
            "def f(): return A()",
            "import numpy as np\nassert np.allclose(f(), [1, 2])",
            "incorrect",
        ),
        (
            "import numpy as np\ndef f(): return np.random.rand(2)",
            "import numpy as np\nnp.random.seed(0)\na = np.random.rand(2)\nnp.random.seed(0)\n"
            "assert (f() == a).all()",
            "correct",
        ),
        (
            "import pandas as pd\ndef f(xs): return pd.DataFrame({'a': xs})",
            "d = f([1, 2])\nassert d['a'].tolist() == [1, 2] and d.shape == (2, 1)\n"
            "assert d['a'].sum() == 3 and list(d.columns) == ['a']",
            "correct",
        ),
    ],
)
def test_arrays(code: str, tests: str, expected: str) -> None:
    assert run_tests(code, tests, memory=4 << 30, site_packages=True) == expected


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "def add(a, b):\n    while True: pass",
        "import time\ndef add(a, b): time.sleep(60)",
        "import gc\ndef add(a, b):\n    ends = [x._end for x in gc.get_objects() "
        "if type(x).__name__ == 'AnswerLink']\n    while True: ends[0].sendall(b'[')",
        "def add(a, b):\n    try:\n        while True: pass\n    finally:\n        return 3",
    ],
)
def test_what_does_not_end_times_out(code: str) -> None:
    tests = f"try:\n    ok = add(1, 2) == 3\nexcept BaseException:\n    ok = True\n{TESTS}"
    assert run_tests(code, tests, timeout=1.0) in ("timeout", "incorrect")
    assert run_tests(code, TESTS, timeout=1.0) in ("timeout", "incorrect")


def test_loops_of_answer_and_tests_are_timeouts() -> None:
    assert run_tests("while True: pass", TESTS, timeout=1.0) == "timeout"
    assert run_tests("def add(a, b):\n    while True: pass", TESTS, timeout=1.0) == "timeout"
    assert run_tests("import time\ntime.sleep(60)", TESTS, timeout=1.0) == "timeout"
    assert run_tests(ADD, "while True: add(1, 2)", timeout=1.0) == "timeout"
    assert run_tests(ADD, "while True: pass", timeout=1.0) == "timeout"


LATE = "time.sleep(1); open({late!r}, 'w').close(); os._exit(0)"


@pytest.mark.parametrize(
    "start",
    [
        "if os.fork() == 0:\n    {late}",
        "if os.fork() == 0:\n    os.setsid()\n    {late}",
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        {late}\n"
        "    os._exit(0)",
        "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {program!r}], "
        "start_new_session=True, stdin=-3, stdout=-3, stderr=-3)",
        "for _ in range(50):\n    if os.fork() == 0:\n        os.setsid()\n        "
        "for _ in range(3): os.fork()\n        {late}",
    ],
)
def test_nothing_outlives_the_grading(start: str, tmp_path) -> None:
    path = tmp_path / "late"
    late = LATE.format(late=str(path))
    code = "import os, time\n" + start.format(late=late, program=f"import os, time; {late}")
    run_tests(code + "\n" + ADD, TESTS)
    if os.geteuid() == 0:  # the limit on processes does not bind root: these have started
        assert run_tests(code + "\n" + ADD, TESTS) == "correct"
    time.sleep(1.5)
    assert not path.exists()


def test_nothing_is_left_in_the_temporary_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    deep = "import os\nfor _ in range(1500):\n    os.mkdir('a'); os.chdir('a')\n"
    own = "import tempfile\ntempfile.mkdtemp(); tempfile.mkstemp()\n"
    link = "import os\nhere = os.getcwd(); os.rename(here, here + 'x'); os.symlink('/', here)\n"
    for code in (deep, own, link):
        assert run_tests(code + ADD, TESTS) == "correct"
        assert list(tmp_path.iterdir()) == []


def test_the_environment_has_nothing_of_ours(monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    code = "import os\ndef names(): return set(os.environ)"
    assert run_tests(code, "assert names() <= {'TMPDIR', 'LC_CTYPE'}") == "correct"
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    tests = "assert all(name.endswith('_THREADS') for name in names() - {'TMPDIR', 'LC_CTYPE'})"
    assert run_tests(code, tests, site_packages=True) == "correct"


@pytest.mark.parametrize(
    "tests", ["assert add(1, 2) = 3", "def test_add(one): assert add(one, 2) == 3"]
)
def test_what_cannot_be_run_is_an_error(tests: str) -> None:
    assert run_tests(ADD, tests) == "error"


def test_interrupted_it_ends_what_it_started(tmp_path, monkeypatch) -> None:
    path = tmp_path / "late"
    code = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    " + LATE.format(
        late=str(path)
    )
    wait = subprocess.Popen.wait

    def interrupted(self, timeout=None):
        if timeout and timeout > 5:
            time.sleep(0.5)
            raise KeyboardInterrupt
        return wait(self, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_tests(code + "\n" + ADD, "import time\ntime.sleep(60)")
    time.sleep(1.5)
    assert not path.exists()
