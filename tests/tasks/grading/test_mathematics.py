"""Which piece of a solution is its answer, and that the verdict on it is math-verify's."""

from __future__ import annotations

import logging

import pytest

from dasd_bench.tasks.grading import Verifier, extract_math, grade_math
from dasd_bench.types import Reason

RIGHT = [
    ("The final answer is $\\sqrt{5}$, because the square of it is 5.", "\\sqrt{5}"),
    ("Mark the result with \\boxed. So $x=9$.", "9"),
    ("I will write \\boxed{} at the end. So the answer is $9$.", "9"),
    ("The roots are \\boxed{3} and \\boxed{8}.", "3,8"),
    ("The final answer is $\\sqrt{2}$, since 2 is prime.", "\\sqrt{2}"),
    ("Put it in \\boxed{...}. So $x=7$.", "7"),
    ("\\boxed . So $x=7$", "7"),
    ("Use \\boxed to mark. So $x = 7$", "7"),
    ("I will use \\boxed{answer}. The answer is $7$.", "7"),
    ("\\boxed{\\boxed{7}}", "7"),
    ("\\boxed{ } The answer is 7", "7"),
    ("\\fbox{}\nThe answer is $x+1$.", "x+1"),
    ("The roots are \\boxed{5}, \\boxed{6}.", "5,6"),
    ("$x=\\boxed{5}$ or $x=\\boxed{6}$", "5,6"),
    ("The roots are $\\boxed{5}$ and $\\boxed{6}$.", "6,5"),
    ("First, $a = \\boxed{5}$. Second, $b = \\boxed{6}$.", "5,6"),
    ("\\boxed{5} \\text{ and } \\boxed{6}", "5\\text{ and }6"),
    ("\\boxed{5}, i.e. \\boxed{5,6}", "5,6"),
    ("We get \\boxed{4}; no: \\boxed{5}", "5"),
    ("so \\boxed{1}, \\boxed{2}, and \\boxed{3}", "1,2,3"),
    ("The answer is $x=5$ or $x=6$.", "5,6"),
    ("The final answer is $5$ and $6$.", "5,6"),
    ("The answer is 2x + 1.", "2x+1"),
    ("The answer is 2x+1, because 3", "2x+1"),
    ("Final Answer: The final answer is $\\frac{1}{2}$. I hope it is correct.", "\\frac12"),
    ("**Answer:** $\\frac{1}{2}$", "\\frac12"),
    ("**Final Answer**\n$$\\frac{1}{2}$$", "\\frac12"),
    ("The answer is:\n\\[ x^2 + 1 \\]\nsince $y$", "x^2+1"),
    ("The answer is the interval $(2,5)$.", "(2,5)"),
    ("The answer is east", "\\text{east}"),
    ("so \\boxed{3.}", "3"),
    ("\\boxed{−3}", "-3"),
    ("\\boxed{１２}", "12"),
    ("The answer is −3.", "-3"),
    ("answer: $x^2$", "x^2"),
    ("The answer is $6\\times7=42$.", "42"),
    ("The answer is $x = 7$.", "7"),
    ("The final answer is $\\boxed{7}$.", "7"),
    ("the answer is 1/2", "\\frac{1}{2}"),
    ("the probability is $\\frac{1}{2}$", "\\frac12"),
    ("so \\(P = \\frac{3}{6} = \\frac{1}{2}\\).", "\\frac{1}{2}"),
    ("Hence\n\\[\n\\frac{1}{2}\n\\]", "\\frac{1}{2}"),
    ("The final answer is\n\\[\nx + 1\n\\]", "x+1"),
    ("so it is \\(x+1\\)", "x+1"),
    ("There are $3$ boys and $4$ girls, so 12 pairs", "12"),
    ("The answer is $18 per day, so $36", "18"),
    ("#### 7, which is $\\frac{14}{2}$ of $3$", "7"),
    ("\\boxed{12}, that is \\boxed{1", "12"),
    ("\\boxed{18 \\text{ cm}^2}", "18"),
    ("The answer is $(1,2)$ and so on", "(1,2)"),
    ("\\boxed{x \\in \\{1,2\\}}", "\\{1,2\\}"),
    ("\\boxed 5", "5"),
    ("$\\boxed 5$", "5"),
    ("\\boxed\\frac12", "\\frac12"),
    ("The answer is 18 cm", "18"),
    ("The answer is 5 and 6", "5,6"),
    ("The area is $12\\pi$. The answer is therefore $12\\pi$", "12\\pi"),
    ("The answer is $\\$18$.", "18"),
    ("The answer is $28\\%$", "28\\%"),
    ("The final answer is 10,000", "10,000"),
]
WRONG = [
    ("The final answer is $\\sqrt{2}$, because the square of it is 2.", "2"),
    ("The roots are \\boxed{5} and \\boxed{6}", "6"),
    ("The roots are \\boxed{5} and \\boxed{6}", "5"),
    ("so $\\frac{1}{2}$ of $n$", "2"),
    ("The answer is $x=3$ or $x=5$.", "5"),
    ("\\boxed{5} and \\boxed{7}", "5,6"),
    ("I will write \\boxed{} at the end.", "7"),
    ("The answer is 3,5", "3"),
    ("The answer is $-3$.", "3"),
    ("\\boxed{−3}", "3"),
    ("The answer is 5 or 6", "6"),
]
PAIRS = [
    ("12 kg", "12"),
    ("7 apples", "7\\text{ apples}"),
    ("35 percent", "35\\%"),
    ("(3,+\\infty)", "(3,\\infty)"),
    ("+\\infty", "\\infty"),
    ("y=3x-2", "3x-y-2=0"),
    ("x=4", "x-4=0"),
    ("12345678", "12,\\! 345,\\! 678"),
    ("XYZ", "xyz"),
    ("\\sin 2x", "2\\sin x\\cos x"),
    ("6,5", "5,6"),
    ("2\\sqrt{3}", "\\sqrt{12}"),
    ("(x+1)^2", "x^2+2x+1"),
    ("90^\\circ", "90"),
    ("\\text{Monday}", "Monday"),
    ("7", "8"),
    ("(4,3)", "(3,4)"),
    ("2\\sqrt{3}", "3\\sqrt{3}"),
    ("x=3", "x-4=0"),
    ("+\\infty", "-\\infty"),
    ("\\text{Tuesday}", "\\text{Monday}"),
    ("(x+1)^2", "x^2+2x+2"),
    ("[2,3)", "(2,3)"),
    ("0.33", "\\frac13"),
]
"""Answers and golds; the verdict is asked of math-verify itself."""
MISTAKEN = [
    ("25_6", "25_7"),
    ("\\frac{1}{2^{98}}", "\\frac{1}{2^{99}}"),
    ("1, 3, 5, \\ldots, 2n-1", "1, 2, \\ldots, n"),
]
"""What math-verify takes for equal and is not: numbers of two bases, small ones at six decimals, rows with dots."""


@pytest.fixture(scope="module")
def verifier() -> Verifier:
    return Verifier()


@pytest.mark.parametrize(("text", "gold"), RIGHT)
def test_the_answer_of_a_solution(text: str, gold: str, verifier: Verifier) -> None:
    assert grade_math(text, gold, verifier).reason is Reason.CORRECT, extract_math(text, gold)


@pytest.mark.parametrize(("text", "gold"), WRONG)
def test_another_answer_stays_wrong(text: str, gold: str, verifier: Verifier) -> None:
    assert not grade_math(text, gold, verifier).correct


@pytest.mark.parametrize(("answer", "gold"), MISTAKEN)
def test_where_math_verify_is_mistaken(answer: str, gold: str, verifier: Verifier) -> None:
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)
    assert verify(parse(f"\\boxed{{{gold}}}"), parse(f"\\boxed{{{answer}}}"))
    assert not grade_math(f"\\boxed{{{answer}}}", gold, verifier).correct
    assert grade_math(f"\\boxed{{{gold}}}", gold, verifier).correct


@pytest.mark.parametrize(("answer", "gold"), PAIRS)
@pytest.mark.parametrize("form", ["\\boxed{{{}}}", "The answer is ${}$.", "{}"])
def test_the_verdict_is_math_verifys(answer: str, gold: str, form: str, verifier: Verifier) -> None:
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)
    right = verify(parse(f"\\boxed{{{gold}}}"), parse(f"\\boxed{{{answer}}}"))
    assert grade_math(form.format(answer), gold, verifier).correct is right
