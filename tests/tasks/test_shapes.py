r"""The fast path of mathematical grading: what it settles is what math-verify says."""

from __future__ import annotations

import contextlib
import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dasd_bench.tasks.exact import canonical
from dasd_bench.tasks.formula import Unreadable, evaluate
from dasd_bench.tasks.mathematics import settle

GOLDS = [
    "7",
    "-3",
    "1,000",
    "0.25",
    "\\frac{3}{4}",
    "-\\frac12",
    "2\\sqrt{3}",
    "\\frac{\\pi}{6}",
    "1\\frac{1}{2}",
    "90^\\circ",
    "15\\%",
    "1011_2",
    "x+2",
    "y = 2x + 3",
    "5x - 11y + z - 17 = 0",
    "3x^2-2x+1",
    "f(x)",
    "(3,4)",
    "[0,\\infty)",
    "(-\\infty,-2)\\cup(1,3)",
    "1,2,3",
    "\\{1,2\\}",
    "\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}",
    "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}",
    "\\text{Monday}",
    "\\text{(C)}",
    "12\\text{ cm}",
    "\\$18",
    "3:4",
    "\\sin 2x",
    "\\cos 30^\\circ",
    "2^{10}",
    "i",
    "a + b",
]


@pytest.fixture(scope="module")
def plain():
    """math-verify as its page uses it."""
    import logging

    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)
    parsed = {gold: parse(f"\\boxed{{{gold}}}") for gold in GOLDS}
    return lambda gold, answer: bool(verify(parsed[gold], parsed[answer]))


def test_every_settled_verdict_is_math_verifys(plain) -> None:
    """Every answer against every other is settled or not; a quarter of the verdicts is compared."""
    settled = 0
    for i, gold in enumerate(GOLDS):
        for j, answer in enumerate(GOLDS):
            verdict = settle(answer, gold)
            if verdict is not None:
                settled += 1
                if i == j or (i + j) % 4 == 0 or verdict:
                    assert verdict is plain(gold, answer), (gold, answer)
    assert settled > 0.8 * len(GOLDS) ** 2


@pytest.mark.parametrize(
    ("answer", "gold", "verdict"),
    [
        ("\\dfrac{3}{4}", "\\frac34", True),
        ("\\left( 3, 4 \\right)", "(3,4)", True),
        ("3,2,1", "1,2,3", True),
        ("(4,3)", "(3,4)", False),
        ("10,\\!000", "10000", True),
        ("2\\sqrt{3}", "3\\sqrt{3}", False),
        ("\\sqrt{12}", "2\\sqrt{3}", True),
        ("\\frac{6}{\\sqrt 3}", "2\\sqrt{3}", True),
        ("\\frac{15}{9}\\pi - 2\\sqrt{3}", "\\frac{5}{3}\\pi - \\sqrt{12}", True),
        ("(x+1)^2", "x^2+2x+1", True),
        ("y = \\frac{3}{6} x + 2", "y = \\frac{1}{2} x + 2", True),
        ("(\\sqrt{8}, 1)", "(2\\sqrt{2}, 1)", True),
        ("\\frac{2970}{21}^\\circ", "\\frac{990}{7}^\\circ", True),
        ("\\frac{6}{4}\\text{ days}", "\\frac{3}{2}\\text{ days}", True),
        ("\\frac{6}{4}\\text{ days}", "\\frac{3}{2}\\text{ weeks}", None),
        ("f(x+1)", "f(1+x)", None),
        ("1\\frac{1}{2}\\pi", "\\frac{3}{2}\\pi", None),
        ("0.5\\pi", "\\frac{\\pi}{2}", None),
        ("BA", "AB", None),
        ("(x+1)^{99}", "(1+x)^{99}", None),
        ("\\sqrt{100000000000000000003}", "1\\sqrt{100000000000000000003}", None),
        ("\\pi", "28\\%", False),
        ("\\frac{7}{25}", "28\\%", None),
        ("25\\text{ ft}", "25_6", None),
        ("32\\pi", "506_7", False),
        ("x+y=2", "2", None),
        ("x+y=0", "2", False),
        ("x+y=0", "(1,2)", False),
        ("\\text{(D)}", "x^2+1", False),
        ("\\text{(X)}", "x^2+1", None),
        ("(x+1)^2", "x^2+2x+2", False),
        ("2x-y=4", "4x-2y=8", None),
        ("2x-y=4", "2x-y=5", False),
        ("x = 7", "7", True),
        ("x = 7", "8", False),
        ("0.333333", "\\frac13", None),
        ("0.33", "\\frac13", False),
        ("15", "15\\%", True),
        ("16", "15\\%", False),
        ("\\text{monday}", "\\text{Monday}", True),
        ("\\text{Tuesday}", "\\text{Monday}", False),
        ("A,B", "\\text{B,A}", None),
        ("C", "\\text{(C)}", None),
        ("4", "\\text{(C)}", False),
        ("1011_3", "1011_2", None),
        ("1010_2", "1011_2", False),
        ("5.", "5", True),
        ("", "5", False),
        ("5", "", False),
        ("9^{9^{9^{9}}}", "x+3", None),
        ("\\frac{1}{0}", "1", None),
        ("{" * 300, "1", None),
        ("(" * 900 + "1" + ")" * 900, "1", None),
        ("(" * 400 + "1" + ")" * 400, "2", None),
        ("9" * 5000, "1", None),
    ],
)
def test_shapes(answer: str, gold: str, verdict: bool | None) -> None:
    assert settle(answer, gold) is verdict


@given(st.fractions(max_denominator=999), st.fractions(max_denominator=999))
def test_fractions_exactly(a: Fraction, b: Fraction) -> None:
    def latex(value: Fraction) -> str:
        sign = "-" if value < 0 else ""
        return f"{sign}\\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"

    assert evaluate(latex(a), 0) == a
    assert settle(latex(a), latex(a)) is True
    if abs(a - b) > Fraction(1, 10**9):
        assert settle(latex(a), latex(b)) is False


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(0, 60)), min_size=1, max_size=3),
    st.integers(1, 9),
    st.randoms(use_true_random=False),
)
def test_sums_of_roots_have_one_form(terms: list[tuple[int, int, int]], scale: int, order: random.Random) -> None:
    """Terms in another order, fractions widened, squares drawn under the root; and one more is another value."""
    plain = "+".join(f"\\frac{{{a}}}{{{b}}}\\sqrt{{{n}}}" for a, b, n in terms)
    order.shuffle(terms)
    other = "+".join(f"\\frac{{{a * scale}\\sqrt{{{n}}}}}{{\\sqrt{{{(b * scale) ** 2}}}}}" for a, b, n in terms)
    assert canonical(plain) == canonical(other)
    assert settle(other, plain) is True
    assert settle(f"{other}+1", plain) is False


@given(st.integers(-9, 9), st.integers(-9, 9), st.integers(-9, 9), st.sampled_from("xyn"))
def test_polynomials_have_one_form(a: int, b: int, c: int, x: str) -> None:
    assert canonical(f"({x}-{a})({x}-{b})+{c}") == canonical(f"{x}^2-{a + b}{x}+{a * b}+{c}".replace("--", "+"))
    assert canonical(f"({x}+{a})^3") != canonical(f"({x}+{a})^2({x}+{b})") or a == b


@settings(max_examples=300)
@given(st.text(alphabet="0123456789x+-*/^_{}()[],.=\\ %$cupfracsqrtinfty&:", max_size=30), st.sampled_from(GOLDS))
def test_any_text_gets_a_verdict_or_none(answer: str, gold: str) -> None:
    assert settle(answer, gold) in (True, False, None)
    if answer.strip():
        canonical(answer)
        with contextlib.suppress(Unreadable):
            evaluate(answer, 0)
