"""Problem files: formats, faults that name the line, splits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapjax.errors import UserError
from gapjax.tasks import Problem, Splits, deal, read_problems
from gapjax.tasks.jsonl import last_boxed

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k" / "test.jsonl"


def write(path, *rows):
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows) + "\n")
    return path


def test_any_field_names_and_optional_answers(tmp_path) -> None:
    rows = [{"q": "1+1?", "a": 2}, {"q": "x\u2028y"}, "", {"q": "z", "a": None}]
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(json.dumps(r, ensure_ascii=False) if r else "" for r in rows))
    problems = read_problems(path, prompt_field="q", answer_field="a", template="Q: {prompt} {}")
    assert problems == (
        Problem("Q: 1+1? {}", "2"),
        Problem("Q: x\u2028y {}", None),
        Problem("Q: z {}", None),
    )


@pytest.mark.parametrize(
    ("format", "row", "prompt", "answer"),
    [
        ("gsm8k", {"question": "How many?", "answer": "1+1=2\n#### 1,002"}, "How many?", "1,002"),
        (
            "math",
            {"problem": "Half?", "solution": r"\boxed{1}, no: $\boxed{\frac{1}{2}}$."},
            "Half?",
            r"\frac{1}{2}",
        ),
        (
            "mbpp",
            {
                "text": "Write add.",
                "test_list": ["assert add(1, 2) == 3", "assert add(0, 0) == 0"],
                "test_setup_code": "import math",
                "challenge_test_list": ["assert add(9, 9) == 18"],
            },
            "Write add.\nYour code should pass these tests:\n\n"
            "assert add(1, 2) == 3\nassert add(0, 0) == 0\n",
            "import math\nassert add(1, 2) == 3\nassert add(0, 0) == 0",
        ),
        (
            "mbpp",
            {
                "prompt": "Area of a circle.",
                "test_imports": ["import math", "import re"],
                "test_list": ["assert math.isclose(circle(1), math.pi)"],
            },
            "Area of a circle.\nYour code should pass these tests:\n\n"
            "assert math.isclose(circle(1), math.pi)\n",
            "import math\nimport re\nassert math.isclose(circle(1), math.pi)",
        ),
        (
            "prontoqa",
            {"question": "Every cat is a pet.", "query": "True or false?", "answer": "True"},
            "Every cat is a pet.\nTrue or false?\nReply with one word: True or False.",
            "True",
        ),
    ],
)
def test_formats(format, row, prompt, answer, tmp_path) -> None:
    assert read_problems(write(tmp_path / "x.jsonl", row), format) == (Problem(prompt, answer),)


@pytest.mark.parametrize(
    ("format", "line", "complaint"),
    [
        ("jsonl", "{", "not JSON"),
        ("jsonl", "[1]", "not a JSON object"),
        ("jsonl", '{"question": "?"}', "no field 'prompt'; there are: 'question'"),
        ("jsonl", '{"prompt": ""}', "not a text"),
        ("jsonl", '{"prompt": 3}', "not a text"),
        ("jsonl", '{"prompt": "?", "answer": [1]}', "neither a text nor a number"),
        ("jsonl", '{"prompt": "?", "answer": NaN}', "NaN is no JSON value"),
        ("jsonl", '{"prompt": "?", "answer": 1e999}', "neither a text nor a number"),
        ("jsonl", '{"prompt": "\\ud800"}', "lone surrogate"),
        ("jsonl", '{"prompt": "?", "answer": "\\ud800"}', "lone surrogate"),
        ("gsm8k", '{"question": "?", "answer": "7"}', "####"),
        ("math", '{"problem": "?", "solution": "\\\\boxed{7"}', "boxed"),
        ("mbpp", '{"text": "?", "test_list": []}', "test_list"),
        ("mbpp", '{"text": "?", "test_list": "assert True"}', "not a list of texts"),
        ("mbpp", '{"text": "?", "test_list": [" "]}', "not a list of tests"),
        ("mbpp", '{"text": "?", "test_list": ["assert 1"], "test_imports": [3]}', "test_imports"),
        ("mbpp", '{"text": "?", "test_list": ["assert 1"], "plus_tests": []}', "would not be run"),
        ("prontoqa", '{"question": "?", "query": "?", "answer": "B"}', "neither 'True'"),
        ("jsonl", '{"prompt": "?", "answer": 1, "answer": 2}', "'answer' occurs twice"),
        ("jsonl", '{"prompt": "?", "answer": true}', "neither a text nor a number"),
        ("jsonl", '{"prompt": "?", "answer": ' + "9" * 5000 + "}", "not JSON (Exceeds the limit"),
        ("jsonl", "[" * 10**5, "nested too deeply"),
        ("jsonl", '{"prompt": ' + "[" * 900 + "]" * 900 + "}", "nested too deeply"),
        ("jsonl", '{"\\ud800\\u001b": 3}', r"there are: '\ud800\x1b'"),
        ("jsonl", "{" + ", ".join(f'"f{i}": 1' for i in range(10**4)) + "}", "and 9988 more"),
        ("jsonl", '\ufeff{"prompt": "?"}', "not JSON (Unexpected UTF-8 BOM"),
        ("jsonl", '{"prompt": "?"} {"prompt": "!"}', "not JSON (Extra data"),
        ("jsonl", '{"prompt": "\x00"}', "not JSON (Invalid control character"),
        ("jsonl", '{"prompt": "?", "answer": "False"}', "the prompt of line 1 with another answer"),
    ],
)
def test_faults_name_file_and_line(format, line, complaint, tmp_path) -> None:
    good = {
        "prompt": "?",
        "question": "?",
        "answer": "#### 7" if format == "gsm8k" else "True",
        "query": "?",
        "problem": "?",
        "solution": r"\boxed{7}",
        "text": "?",
        "test_list": ["assert True"],
    }
    path = write(tmp_path / "x.jsonl", good, "", line)
    with pytest.raises(UserError) as caught:
        read_problems(path, format)
    assert f"{path}, line 3: " in str(caught.value)
    assert complaint in str(caught.value)
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("grading", "answer", "complaint"),
    [
        ("numeric", "(1, 2)", "'(1, 2)' is not one number"),
        ("numeric", "3 or 4", "choose task.grading math or exact"),
        ("numeric", "assert f(1)", "not one number"),
        ("numeric", " ", "empty"),
        ("exact", "", "empty"),
        ("python", "42", "tests nothing"),
        ("python", "f(1) == ", "no Python code"),
        ("python", "(" * 10**4, "no Python code"),
        ("python", "assert f(1)\x00", "no Python code"),
    ],
)
def test_answers_that_cannot_be_graded_so(grading, answer, complaint, tmp_path) -> None:
    path = write(
        tmp_path / "x.jsonl",
        {"prompt": "Any?", "answer": None},
        {"prompt": "?", "answer": answer},
    )
    with pytest.raises(UserError) as caught:
        read_problems(path, grading=grading)
    assert f"{path}, line 2: " in str(caught.value)
    assert complaint in str(caught.value)
    assert len(read_problems(path)) == 2


@pytest.mark.parametrize(
    ("field", "complaint"),
    [
        ("anwser", "no line has the field 'anwser' of task.answer_field; did you mean 'answers'?"),
        ("reward.truth", "no line has the field 'reward.truth'"),
        ("gold", "there are: 'prompt', 'answers', 'reward_model'"),
    ],
)
def test_an_answer_field_that_no_line_has(field, complaint, tmp_path) -> None:
    row = {"prompt": "?", "answers": "4", "reward_model": {"ground_truth": "5", "a.b": 6}}
    path = write(tmp_path / "x.jsonl", row, {"prompt": "!"})
    with pytest.raises(UserError) as caught:
        read_problems(path, answer_field=field)
    assert complaint in str(caught.value)
    # The usual name may be absent, as in a file without answers; a similar one is a mistake.
    assert {problem.answer for problem in read_problems(path)} == {None}
    with pytest.raises(UserError, match="did you mean 'answers'"):
        read_problems(path, grading="numeric")
    nested = read_problems(path, answer_field="reward_model.ground_truth", grading="numeric")
    assert [problem.answer for problem in nested] == ["5", None]


def test_numbers_are_taken_as_they_are_written(tmp_path) -> None:
    lines = [f'{{"prompt": "{i}", "answer": {text}}}' for i, text in enumerate(WRITTEN)]
    problems = read_problems(write(tmp_path / "x.jsonl", *lines), grading="numeric")
    assert [problem.answer for problem in problems] == WRITTEN


WRITTEN = ["2.50", "12345678901234567890.25", "1e22", "-0.0", "7", "123456789012345678901234567890"]


def test_windows_files(tmp_path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "?", "answer": 4}\r\n\r\n{"prompt": "!"}\r\n')
    assert read_problems(path) == (Problem("?", "4"), Problem("!", None))


def test_files_that_hold_nothing(tmp_path) -> None:
    for path, complaint in (
        (tmp_path / "none.jsonl", "No such file"),
        (tmp_path, "cannot be read"),
        (write(tmp_path / "empty.jsonl", "", " "), "no problems"),
    ):
        with pytest.raises(UserError, match=complaint):
            read_problems(path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="UTF-8"):
        read_problems(tmp_path / "binary")
    with pytest.raises(UserError, match="lacks"):
        read_problems(tmp_path, template="no hole")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.data())
def test_splits_never_overlap_whatever_is_repeated(numbers, data) -> None:
    problems = [Problem(f"{n}?" + " " * (i % 2), str(i)) for i, n in enumerate(numbers)]
    distinct = len(set(numbers))
    sizes = {name: data.draw(st.integers(0, 12)) for name in ("train", "probe", "test")}
    seed = data.draw(st.integers(0, 99))
    if sum(sizes.values()) > distinct:
        with pytest.raises(UserError, match=f"{distinct} distinct"):
            deal(problems, **sizes, seed=seed)
        return
    splits = deal(problems, **sizes, seed=seed)
    parts = [{p.prompt.strip() for p in getattr(splits, n)} for n in (*sizes, "rest")]
    assert [len(part) for part in parts[:3]] == list(sizes.values())
    assert len(set().union(*parts)) == sum(map(len, parts)) == distinct


def test_what_is_held_out_is_never_trained_on() -> None:
    train = [Problem(f"{n}?") for n in range(20)]
    held_out = [Problem(f"{n}? ") for n in range(15, 30)]  # space at the ends is no difference
    splits = deal(train, train=15, probe=4, test=4, seed=0, held_out=held_out)
    assert {p.prompt for p in splits.train} == {f"{n}?" for n in range(15)}
    assert {p.prompt for p in (*splits.probe, *splits.test)} <= {p.prompt for p in held_out}
    with pytest.raises(UserError, match="15 distinct problems, fewer than the 16"):
        deal(train, train=16, probe=1, test=0, seed=0, held_out=held_out)


def test_overlapping_splits_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="twice"):
        Splits(train=(Problem("a"),), probe=(Problem("a", "1"),))


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        (r"\boxed{1} \boxed{\frac{a}{b}}", r"\frac{a}{b}"),
        (r"\fbox{ 3 }", "3"),
        (r"is $\boxed 2$.", "2"),
        (r"is $\boxed {2}$.", "2"),
        (r"is $\boxed\frac12$.", r"\frac12"),
        (r"is $\boxed12$", "12"),
        (r"is \boxed 2.", "2"),
        (r"is \(\boxed x\) so", "x"),
        ("is \\boxed 2\nand 3", "2"),
        (r"$\boxed{3}$, no $\boxed 4$", "4"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{1\right.}", r"\left\{1\right."),
        (r"\boxed{\boxed{3}}", "3"),
        (r"\boxed{\text{a}\}", ""),  # never closed
        (r"\boxed{}", ""),
        (r"\boxedness{3}", None),
        ("nothing", None),
    ],
)
def test_last_boxed(solution: str, answer: str | None) -> None:
    assert last_boxed(solution) == answer


@pytest.mark.skipif(not GSM8K.exists(), reason="GSM8K is not there")
def test_gsm8k_itself() -> None:
    problems = read_problems(GSM8K, "gsm8k")
    assert len(problems) == 1319
    assert problems[0].prompt.startswith("Janet’s ducks lay 16 eggs per day.")
    assert problems[0].answer == "18"
