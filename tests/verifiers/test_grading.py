from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapjax.errors import UserError
from gapjax.tasks import read_problems
from gapjax.verifiers import grade, grade_all
from gapjax.workers import Crashed, TimedOut, WorkerPool

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k" / "train.jsonl"


@pytest.mark.parametrize(
    ("response", "answer", "expected"),
    [
        ("7", "7", "correct"),
        ("3 + 4 = 7.", "7", "correct"),
        ("The answer is 7, I think", "7", "correct"),
        ("7, no, 8", "7", "incorrect"),
        ("so it costs 1,234 dollars", "1234", "correct"),
        ("1,234", "1.234", "incorrect"),
        ("7.0", "7", "correct"),
        ("0.10", "0.1", "correct"),
        ("3-4", "4", "error"),
        ("3 - 4 = -1", "-1", "correct"),
        ("-1", "1", "incorrect"),
        ("#### 42\nThat took 3 steps", "42", "correct"),
        ("it is 5", "she has 3 left\n#### 5", "correct"),
        ("seven", "7", "incorrect"),
        ("", "7", "incorrect"),
        ("17", "7", "incorrect"),
        # thousands, currency, units, percent, signs
        ("$1,234.50 in all", "1234.5", "correct"),
        ("-$5", "-5", "correct"),
        ("$-5", "-5", "correct"),
        ("it fell by \u22125 degrees", "-5", "correct"),
        ("an area of 12 m^2", "12", "correct"),
        ("12 m2", "12 square metres", "correct"),
        ("3,4", "4", "error"),
        ("3,4", "34", "error"),
        ("1{,}000", "1,000", "correct"),
        ("50%", "50", "correct"),
        ("50%", "0.5", "correct"),
        ("50 \\%", "50%", "correct"),
        ("0.5%", "50%", "incorrect"),
        ("5", "500", "incorrect"),
        # fractions, decimals, exponents
        ("3/4 of it", "0.75", "correct"),
        ("1 1/2 cups", "1.5", "correct"),
        ("\\frac{3}{4}", ".75", "correct"),
        ("-1/2", "-0.5", "correct"),
        ("2/6", "1/3", "correct"),
        ("0.333", "1/3", "incorrect"),
        ("1.5e3", "1500", "correct"),
        ("7/0", "7", "error"),
        # the marked answer, wherever it stands
        ("\\boxed{12} as 3 + 9", "12", "correct"),
        ("#### 10 - 3 = 7", "7", "correct"),
        ("#### 7 apples in 2 bags", "7", "correct"),
        ("####\n5", "5", "correct"),
        # a reference that is not one number cannot be graded
        ("7", "seven", "error"),
        ("7", "the answer is 7", "error"),
        ("5 \\times 10^9", "3 \\times 10^8", "incorrect"),
        ("5\\sqrt{3}", "2\\sqrt{3}", "error"),
        ("3", "3\\pi", "error"),
        ("(7, 2)", "(1, 2)", "error"),
        ("4:30", "3:30", "error"),
        ("2^5", "2^10", "error"),
        ("99,\\!000", "10,\\!000", "incorrect"),
        # nor can what is not one number be the answer, right or wrong
        ("\\boxed{2^5}", "32", "error"),
        ("9" * 5000, "7", "error"),
        ("1e999999999", "7", "error"),
        # nothing is converted
        ("2 hours", "120 minutes", "error"),
        ("2 hours", "2 h", "correct"),
        ("2 hours", "2", "correct"),
        ("$5", "5 dollars", "correct"),
        ("$5", "5 euros", "error"),
        ("5 pounds", "£5", "correct"),
    ],
)
def test_numeric(response: str, answer: str, expected: str) -> None:
    assert grade(response, answer) == expected


def test_exact() -> None:
    assert grade(" (a + b)^2\n", "(a + b)^2", method="exact") == "correct"
    assert grade("(a + b)^2.", "(a + b)^2", method="exact") == "incorrect"
    assert grade("**Yes.**", "yes", method="exact") == "correct"


@pytest.mark.parametrize(
    ("method", "response", "answer", "expected"),
    [
        ("numeric", "so it is 7", "3 + 4 = 7.", "correct"),
        ("numeric", "7", "We get 2^10.", "error"),
        ("exact", "True", "The answer is: **true**.", "correct"),
        ("exact", "True", "false", "incorrect"),
    ],
)
def test_answers_that_are_responses(method, response, answer, expected) -> None:
    assert grade_all([response], [answer], method, free=True) == [expected]


@pytest.mark.fast
@settings(max_examples=200, deadline=None)
@given(st.integers(-(10**12), 10**12), st.sampled_from(["{}", "${}", "{} kg", "= {}.", "#### {}"]))
def test_whole_numbers_in_any_dress(number: int, dress: str) -> None:
    assert grade(dress.format(f"{number:,}"), str(number)) == "correct"
    assert grade(dress.format(f"{number:,}"), str(number + 1)) == "incorrect"


@pytest.mark.skipif(not GSM8K.exists(), reason="GSM8K is not there")
def test_the_solutions_of_gsm8k_are_right() -> None:
    solutions = [json.loads(line)["answer"] for line in GSM8K.read_text().splitlines()]
    answers = [problem.answer for problem in read_problems(GSM8K, "gsm8k")]
    assert set(grade_all(solutions, answers)) == {"correct"}
    assert set(grade_all([f"So it is ${a}." for a in answers], answers)) == {"correct"}


def test_mathematical_expressions() -> None:
    pytest.importorskip("math_verify")
    cases = [
        (r"So $x = \frac{1}{2}$.", "0.5", "correct"),
        (r"\boxed{\sqrt{8}}", r"2\sqrt{2}", "correct"),
        (r"\boxed{(x+1)^2}", "x^2+2x+1", "correct"),
        (r"\boxed{\{1, 2\}}", r"\{2, 1\}", "correct"),
        (r"\boxed{3}", "4", "incorrect"),
        ("I do not know", "4", "incorrect"),
        ("", "4", "incorrect"),
        # the last box, with braces or without
        (r"\boxed{5} or \boxed{6}", "6", "correct"),
        (r"\boxed{5} or \boxed{6}", "5", "incorrect"),
        (r"$\boxed 2$.", "2", "correct"),
        (r"$\boxed\frac12$.", "0.5", "correct"),
        (r"<think>\boxed{3}</think>\boxed{4}", "4", "correct"),
        (r"\boxed{1", "1", "error"),
        # references of several parts are compared whole
        (r"\boxed{4}", "3 or 4", "incorrect"),
        (r"\boxed{2}", "(1, 2)", "incorrect"),
        (r"\boxed{30}", "3:30", "incorrect"),
        (r"\boxed{20}", r"\text{June 20}", "incorrect"),
        (r"\boxed{2\sqrt{3}}", r"5\sqrt{3}", "incorrect"),
        (r"\boxed{10{,}000}", r"10,\!000", "correct"),
    ]
    responses, answers, expected = zip(*cases, strict=True)
    assert tuple(grade_all(responses, answers, "math")) == expected


def test_math_off_the_main_thread() -> None:
    pytest.importorskip("math_verify")
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(grade(r"$\frac24$", "1/2", "math")))
    thread.start()
    thread.join()
    assert outcome == ["correct"]


WORKER = """
import json, os, sys, time
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    order = json.loads(line)["do"]
    if order == "hang":
        time.sleep(60)
    if order == "crash":
        os.abort()
    if order == "babble":
        print("what?", flush=True)
        continue
    print(json.dumps({"pid": os.getpid()}), flush=True)
"""


def test_a_pool_survives_its_workers(tmp_path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    pool = WorkerPool(script, workers=1, timeout=1.0)
    first = pool.ask({"do": "work"})["pid"]
    assert pool.ask({"do": "work"})["pid"] == first
    for order, failure in (("hang", TimedOut), ("crash", Crashed), ("babble", Crashed)):
        with pytest.raises(failure):
            pool.ask({"do": order})
        again = pool.ask({"do": "work"})["pid"]
        assert again != first
        with pytest.raises(ProcessLookupError):
            os.kill(first, 0)  # the old worker is gone
        first = again
    replies = pool.ask_all([{"do": "work"}, {"do": "hang"}, {"do": "work"}])
    assert [type(reply) for reply in replies] == [dict, TimedOut, dict]
    pool.close()


TESTS = "assert add(1, 2) == 3\nassert add(0, 0) == 0"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def add(a, b): return a + b", "correct"),
        ("```python\ndef add(a, b):\n    print('x' * 10**6)\n    return a + b\n```", "correct"),
        ("def add(a, b): return a - b", "incorrect"),
        ("def add(a, b) return", "incorrect"),
        ("import sys; sys.exit(0)", "incorrect"),
        ("import os; os._exit(0)", "incorrect"),
        ("def add(a, b): return len(bytearray(1 << 33)) and a + b", "incorrect"),
    ],
)
def test_unit_tests(code: str, expected: str) -> None:
    assert grade(code, TESTS, "python", run_code=True) == expected


def test_the_network_is_out_of_reach() -> None:
    if subprocess.run(["unshare", "--user", "--net", "true"], check=False).returncode:
        pytest.skip("the kernel forbids user namespaces")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"import socket\nsocket.create_connection(('127.0.0.1', {port}), timeout=5)"
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        assert grade(code, "pass", "python", run_code=True) == "incorrect"


def test_an_endless_loop_times_out(monkeypatch) -> None:
    monkeypatch.setattr("gapjax.verifiers.grading._SECONDS", 1.0)
    assert grade("while True: pass", TESTS, "python", run_code=True) == "timeout"


def test_what_the_code_started_ends_with_it(tmp_path) -> None:
    # The child would write the file a second after its parent has ended.
    late = tmp_path / "late"
    code = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        f"    os.write(1, b'.'); time.sleep(1); open({str(late)!r}, 'w').close(); os._exit(0)"
    )
    grade(code, "assert True", "python", run_code=True)
    time.sleep(1.5)
    assert not late.exists()


def test_endless_output_fills_nothing(monkeypatch) -> None:
    monkeypatch.setattr("gapjax.verifiers.grading._SECONDS", 1.0)
    code = "import os\nwhile True: os.write(1, b'.' * 65536)"
    assert grade(code, TESTS, "python", run_code=True) == "timeout"


def test_code_is_not_run_unasked() -> None:
    with pytest.raises(UserError, match="no sandbox"):
        grade("def add(a, b): return a + b", TESTS, "python")
