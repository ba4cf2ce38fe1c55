"""The final number of a response: what is read, what is left unread, what is none."""

from __future__ import annotations

import resource
import subprocess
import sys
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapjax.tasks.numbers import Number
from gapjax.verifiers import grade
from gapjax.verifiers.numbers import Unread, final_number

READ = [
    # where the answer is
    ("7, no, 8", "8"),
    ("3 + 4 = 7.", "7"),
    ("3 - 4 = -1", "-1"),
    ("3+4 -> 7", "7"),
    ("$$x = 42$$", "42"),
    ("So $x=42$.", "42"),
    ("The answer is 7. It took 3 steps", "7"),
    ("The answer is: **42**. There are 3 more", "42"),
    ("**Answer:** 42 (of 50)", "42"),
    ("Final Answer: 12 cm, see 3", "12"),
    ("the answer is x = 5 for 3 of them", "5"),
    ("The answer is 7. Wait, 3 is wrong. The answer is 8.", "8"),
    ("The answer is not 7 but 8", "8"),
    ("#### 42\nThat took 3 steps", "42"),
    ("#### 42\n\nQuestion: 3+4?\n#### 7", "42"),
    ("#### 10 - 3 = 7", "7"),
    ("#### x = 7", "7"),
    ("#### 7 apples in 2 bags", "7"),
    ("#### $\\boxed{42}$", "42"),
    ("#### **1,080**", "1080"),
    ("####\n5", "5"),
    ("\\boxed{12} as 3 + 9", "12"),
    ("\\boxed{1}, no, \\boxed{x = 2}", "2"),
    ("\\boxed{42 \\text{ apples}}", "42"),
    ("\\boxed 2", "2"),
    ("<think>is it 9?</think>5", "5"),
    ("<answer>5</answer>", "5"),
    # headings are no marks
    ("#### Step 1: add 3 and 4\n3+4=7\nThe answer is 7.", "7"),
    ("#### Step 1: add 3 and 4\n#### 7", "7"),
    ("#### 1. Add 3 and 4\nThat is 7", "7"),
    ("#### **1) Add**\nThat is 7", "7"),
    ("#### Final Answer\n42", "42"),
    ("##### 3\n### 4\n42", "42"),
    ("#### Answer: 42", "42"),
    # as people write them
    ("\\boxed{1\\,080}", "1080"),
    ("10,\\!000", "10000"),
    ("3 \\times 10^8", "300000000"),
    ("\\boxed{2\\frac{1}{2}}", "5/2"),
    ("\\frac12", "1/2"),
    ("2½", "5/2"),
    ("The answer is 1 000 000.", "1000000"),
    ("$1.5 million", "1500000"),
    ("about $2M in all", "2000000"),
    ("1 080 000 people", "1080000"),
    ("it costs 1,080 dollars", "1080"),
    ("\\$42", "42"),
    ("`42`", "42"),
    ("_42_", "42"),
    ("she has 3*4=<<3*4=12>>12 left", "12"),
    ("| 42 |", "42"),
    # signs
    ("–5", "-5"),
    ("it fell by −5 degrees", "-5"),
    ("x = - 5", "-5"),
    ("negative 42", "-42"),
    ("minus 42", "-42"),
    ("-$5", "-5"),
    # words around it
    ("It is 42!", "42"),
    ("the total (42)", "42"),
    ("5 (five)", "5"),
    ("a 5-minute walk", "5"),
    ("5 – because", "5"),
    ("on the 5th", "5"),
    ("$5/hour", "5"),
    ("it weighs 5kg", "5"),
    ("3k", "3000"),
    ("an area of 12 m^2", "12"),
    ("12 m2", "12"),
    ("5 CO2 units of H2O", "5"),
    ("3 times 4 is 12", "12"),
    ("3 and 4 make 7", "7"),
    ("5 apples and pears", "5"),
    ("x ≈ 5", "5"),
    ("1) add\n2) 14", "14"),
]

UNREAD = [
    # several numbers
    *("(7, 2)", "[1, 2]", "\\{1, 2\\}", "(1; 2)", "(1,080)", "3,4", "3 or 4", "1/2 or 3/4", "3-4"),
    *("3–5", "from 3 to 5", "between 3 and 5", "$5-$6", "x=3, y=4", "x = 3 and y = 4", "±5"),
    *("3 apples and 4 pears", "The answer is 3 or 4.", "The answer is 3 apples and 4 pears"),
    *("\\boxed{3 \\text{ or } 4}", "\\boxed{1 hour 20 minutes}", "3 out of 4", "#### 3 or 4"),
    *("2 h 30 min", "5 ft 10 in", "it took 2 hours and 30 minutes", "1 million 200 thousand"),
    *("at 3:30", "#### 3:30", "12/25/2020", "3 : 4"),
    # expressions
    *(
        "2^10",
        "\\boxed{2^5}",
        "e^2",
        "5\\sqrt{3}",
        "√2",
        "\\boxed{3\\pi}",
        "3π",
        "3 pi",
        "5x",
        "2x+3",
    ),
    *(
        "x + 3",
        "x - 3",
        "f(2)",
        "sqrt(3)",
        "log 3",
        "the square root of 16",
        "3(4)",
        "3 + 4",
        "7/0",
    ),
    *("\\boxed{5!}", "10!/3!", "5 times 3", "5 plus 3", "7 minus 5", "5×3", "5 x 3", "4x4", "5i"),
    *(
        "5 squared",
        "5 dozen",
        "5 half",
        "2**10",
        "\\frac{\\sqrt3}{2}",
        "\\boxed{x^2+1}",
        "5 = \\pi",
    ),
    # bounds and approximations
    *("x > 5", "x <= 5", "x \\neq 5", "5+", "0.333...", "0.\\overline{3}"),
    # separators, long and huge numbers
    *("1,5", "1.2.3", "12,34,567", "1.234,56", "9" * 1001, "1e999999999", "10^99999", "5M", "0x10"),
    # a dash or a sign; a list's number or an answer; cut off
    *("- 5", "it is - 5", "COVID-19", "1. Add\n2. Subtract", "#### Step 3:", "\\boxed{12"),
]

NOTHING = ["", "seven", "true", "x", "\\boxed{x}", "H2O", "m^2", "#### seven", "<think>it is 5"]


@pytest.mark.fast
@pytest.mark.parametrize(("text", "value"), READ)
def test_what_is_read(text: str, value: str) -> None:
    number = final_number(text)
    assert isinstance(number, Number)
    assert number.value == Fraction(value)


@pytest.mark.fast
@pytest.mark.parametrize("text", UNREAD)
def test_what_is_left_unread_is_an_error(text: str) -> None:
    assert isinstance(final_number(text), Unread)
    assert grade(text, "5") == grade(text, "3") == "error"


@pytest.mark.fast
@pytest.mark.parametrize("text", NOTHING)
def test_no_number_is_wrong(text: str) -> None:
    assert final_number(text) is None
    assert grade(text, "5") == "incorrect"


@pytest.mark.fast
@settings(max_examples=300, deadline=None)
@given(
    st.integers(-(10**15), 10**15),
    st.sampled_from(["{:,}", "{}", "{:_}", "${:,}$", "**{:,}**", r"\boxed{{{:,}}}", "{:,} kg"]),
    st.sampled_from(
        ["{}", "The answer is {}.", "2 + 2 is {}", "#### {}\nso 3", "It's {}, I think"]
    ),
)
def test_whole_numbers_wherever_they_stand(number: int, dress: str, place: str) -> None:
    found = final_number(place.format(dress.format(number)))
    assert isinstance(found, Number)
    assert found.value == number


LIMITED = """
import sys
from gapjax.tasks.numbers import read_number
from gapjax.verifiers.numbers import final_number
from gapjax.verifiers.words import compare_words
for piece in sys.argv[1:]:
    piece = piece.encode().decode("unicode_escape")
    for end in ("", " 7"):
        text = piece * (60_000 // len(piece)) + end
        final_number(text), read_number(text), compare_words(text, "true")
"""


def test_hostile_texts_take_time_in_proportion_to_their_length() -> None:
    pieces = ["9", "123,", "1, ", " ", "-", "*", "_", "$", "$1 ", r"####\n", r"#### a\n"]
    pieces += ["answer: ", "answer is 1. ", r"\\boxed{", r"\\frac1", r"\\text{", "x1 ", "m^2 ", "("]
    pieces += [
        "{",
        "1=",
        "<<",
        "<a",
        r"\xb2",
        r"\xbd",
        "apple ",
        ".1",
        "^",
        " 000",
        "1e",
        r"\\",
        "'",
    ]
    # What is quadratic takes minutes.
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *pieces],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (60, 60)),
        check=False,
    )
    assert done.returncode == 0
