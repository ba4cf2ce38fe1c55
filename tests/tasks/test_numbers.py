"""The grammar of one number: what it takes, exactly, and what it leaves."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapjax.tasks.notation import normalised
from gapjax.tasks.numbers import Number, read_number

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k"

# By value, as Python's own Fraction reads it.
WRITTEN = {
    "1080": [
        "1080",
        "1,080",
        "1 080",
        r"1\,080",
        r"1\ 080",
        "1{,}080",
        r"1,\!080",
        "1_080",
        "1'080",
        "1’080",
        "1\u202f080",
        "1\u00a0080",
        "1\u2009080",
        "1080.",
        "1,080.00",
        "$1,080$",
        r"\(1080\)",
        "**1,080**",
        r"\text{1080}",
        r"\mathbf{1080}",
        '"1080"',
        "(1080)",
        "{1080}",
        "١٠٨٠",
        "１０８０",
        "𝟏𝟎𝟖𝟎",
        "1\u200b080",
        "+1080",
        "01080",
        "1.08e3",
        "1.08E+3",
        r"1.08 \times 10^3",
        "1.08×10³",
        "1.08*10**3",
        "108 x 10^1",
        r"10800 \cdot 10^{-1}",
        "1.08 thousand",
        "1.08k",
        "$1,080",
        r"\$1080",
        "US$1,080",
        "1080 dollars",
        "€1.08k",
        "1080 €",
        "1080 cm",
        "1080cm",
        r"1080\text{ cm}",
        r"1080\,\mathrm{m}^2",
        "1080 m²",
        "1080 square feet",
        "1080 km/h",
        "1080 miles per hour",
        "$1080/hour",
        "1080°",
        r"1080^\circ",
        "1080 (apples)",
        "#### 1,080",
        "3 * 360 = 1080\n#### 1080",
        r"so \boxed{1080}",
        r"$\boxed 1080$",
    ],
    "-7": ["-7", "−7", "–7", "- 7", "-7.0", "-$7", "$-7", r"$-7$"],
    "1/2": [
        "1/2",
        ".5",
        "0.50",
        "½",
        r"\frac12",
        r"\frac{1}{2}",
        r"\dfrac12",
        r"\tfrac{1}2",
        "1⁄2",
    ],
    "-1/2": ["-1/2", "−½", r"-\frac12", r"\frac{-1}{2}", "-.5"],
    "5/2": ["2 1/2", "2½", r"2\frac{1}{2}", r"2 \frac12", "2.5", "5/2", "10/4"],
    "1500000": ["1.5 million", "$1.5 million", "$1.5M", "1.5e6", "15 hundred thousand"],
    "10000000000": ["10^10", "10^{10}", "10¹⁰", "10**10", "1e10", "10 billion", "$10B"],
    "3/100000000": [r"3 \times 10^{-8}", "3e-8", "3×10⁻⁸"],
}

NO_NUMBER = [
    *("", " ", "seven", "II", "x", r"\boxed{}", r"\boxed{5", "####", "$", "-", ".", "%"),
    # several
    *("(1, 2)", "(1,2)", "[1,2]", "{1, 2}", r"\{1, 2\}", "(1,080)", "3, 4", "3;4", "5 5", "3\n4"),
    *("3 or 4", "1/2 or 3/4", "3 and 4", "3 to 5", "3-5", "3–5", "x=3, y=4", "±5", r"\pm 5"),
    # times, dates, compounds, ratios
    *("3:30", "3:1", "12/25/2020", "2020-01-02", "5 ft 10 in", "5'10", "2 h 30 min", "5 am"),
    # expressions
    *("2^10", "5²", "e^2", r"\sqrt{3}", r"5\sqrt{3}", "√2", r"3\pi", "3π", "3 pi", "5!", "2+3"),
    *("2*3", "2 x 3", "2(3)", "-(5)", "--5", "5i", "5x", "x = 3", "x^2", r"\log 3", "log 3", "7/0"),
    *(r"\frac{\sqrt3}{2}", r"\frac{x}{2}", r"\frac{1}{0}", r"2\frac{3}{2}", "2-1/2", "1/2/3"),
    *("5 squared", "5 dozen", "5 half", "101_2", "3_2", "0x10", r"\binom{5}{2}", "0.5 1/2"),
    # approximations and bounds
    *("<5", ">5", "~5", "≈5", "about 5", "5 or more", "0.3...", "0.333…", r"0.\overline{3}", "5+"),
    # separators that may mean two things, or nothing
    *("1,5", "0,123", "1,08", "1,0800", "1.2.3", "1.000,5", "12,34,567", "1_0_0", "1'5", "1 08"),
    # what nobody listed
    *("5 apples", "the answer is 5", "No. 5", "#5", "3rd", "5M", "300K", "5%%", "5e", "5 5%"),
    *("1e999999999", "10^99999", "9" * 1001, "1" + ",000" * 400),
]


@pytest.mark.fast
@pytest.mark.parametrize(
    ("value", "text"), [(value, text) for value, texts in WRITTEN.items() for text in texts]
)
def test_as_people_write_them(value: str, text: str) -> None:
    number = read_number(text)
    assert number is not None
    assert number.value == Fraction(value)


@pytest.mark.fast
@pytest.mark.parametrize("text", NO_NUMBER)
def test_what_is_not_one_number(text: str) -> None:
    assert read_number(text) is None


@pytest.mark.fast
def test_percent_is_a_unit_or_a_hundredth() -> None:
    percent = read_number("50%")
    assert (
        percent == read_number(r"50\%") == read_number("50 percent") == Number(Fraction(50), True)
    )
    assert percent.agrees_with(Number(Fraction(50)))
    assert percent.agrees_with(Number(Fraction(1, 2)))
    assert not percent.agrees_with(Number(Fraction(1, 2), True))


@pytest.mark.fast
@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("2 hours", "2 hrs", True),
        ("5 m^2", "5 square metres", True),
        ("60 km/h", "60 kilometers per hour", True),
        ("$5", "5 USD", True),
        ("5 mg", "5 milligrams", True),
        ("5 MW", "5 mW", None),
        ("2 hours", "120 minutes", None),
        ("5 m", "5 m^2", None),
        ("$5", "€5", None),
        ("5 lb", "5 kg", True),  # or money: no unit at all
        ("5 kg", "6 kg", False),
        ("5", "5 kg", True),
    ],
)
def test_units_are_compared_and_never_converted(one, other, expected) -> None:
    assert read_number(one).agrees_with(read_number(other)) is expected


@pytest.mark.fast
@settings(max_examples=300, deadline=None)
@given(
    st.fractions(-(10**9), 10**9, max_denominator=999),
    st.sampled_from(["{}", "${}$", "**{}**", "({})", "{}.", " {} ", r"\text{{{}}}", "#### {}"]),
)
def test_any_fraction_in_any_dress(value: Fraction, dress: str) -> None:
    sign, whole = "-" * (value < 0), abs(value) // 1
    rest = abs(value) - whole
    spellings = [str(value), rf"{sign}\frac{{{abs(value).numerator}}}{{{value.denominator}}}"]
    if rest:
        spellings += [
            f"{sign}{whole} {rest}",
            rf"{sign}{whole}\frac{{{rest.numerator}}}{{{rest.denominator}}}",
        ]
    for text in spellings:
        assert read_number(dress.format(text)).value == value


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from(" 0123456789.,-+$%/*^_{}[]()\\×=:;!#'xe\n½²٣−"), max_size=30))
def test_no_text_is_a_fault(text: str) -> None:
    read_number(text)
    assert normalised(text) is not None


@pytest.mark.skipif(not GSM8K.exists(), reason="GSM8K is not there")
def test_every_reference_of_gsm8k_is_the_number_it_says() -> None:
    count = 0
    for file in ("train.jsonl", "test.jsonl"):
        for line in (GSM8K / file).read_text().splitlines():
            answer = json.loads(line)["answer"].rpartition("####")[2].strip()
            assert read_number(answer) == Number(Fraction(answer.replace(",", "")))
            count += 1
    assert count == 7473 + 1319
