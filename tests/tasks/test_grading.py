"""Final answers found and compared as a person would."""

from __future__ import annotations

import subprocess
import sys
import threading
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dasd_bench.tasks.grading import (
    Verifier,
    declares_answer,
    extract_number,
    grade_choice,
    grade_math,
    grade_number,
    last_boxed,
    letters_shown,
    number_in,
    same_number,
    strip_calculator_marks,
)
from dasd_bench.types import Reason


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("1,000", "1000", True),
        ("5.0", "5", True),
        ("$7", "7.", True),
        ("50%", "50", True),
        ("-3", "−3", True),
        ("3/4", "0.75", True),
        ("\\frac{3}{4}", "0.75", True),
        ("-\\frac{1}{2}", "-0.5", True),
        ("\\frac12", "0.5", True),
        ("-\\dfrac1{20}", "-0.05", True),
        ("\\frac123", "0.5", False),
        ("$1,234.50", "1234.5", True),
        ("12", "1 2", False),
        ("7", "8", False),
        ("1,00", "100", False),
        ("five", "5", False),
        ("1/0", "1", False),
        ("", "0", False),
    ],
)
def test_same_number(a: str, b: str, same: bool) -> None:
    assert same_number(a, b) is same
    assert same_number(b, a) is same


@given(st.fractions(min_value=-(10**9), max_value=10**9, max_denominator=1000))
def test_every_decimal_is_read_back(value: Fraction) -> None:
    scaled = Fraction(int(value * 1000), 1000)
    assert number_in(f"{float(scaled):,.3f}") == scaled


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Step 1: 3 + 4 = 7\n#### 7", "7"),
        ("#### 1,200\nQuestion: 5 apples", "1,200"),
        ("So \\boxed{12} because 3 of 9", "12"),
        ("The answer is $18. That is for 3 days.", "18"),
        ("the final answer is: **-4**", "-4"),
        ("He has 3.5 and then 2 left", "2"),
        ("The answer is 18 + 24 = 42.", "42"),
        ("The answer is 18 + 24 = 42. Check: 42 - 24 = 18.", "42"),
        ("The answer is 18 apples + 24 apples = 42 apples", "42"),
        ("The answer is $6 \\times 7 = 42$.", "42"),
        ("The answer is 6 x 7 = $42", "42"),
        ("The answer is 18. The sum is 3 + 5 = 8", "18"),
        ("The answer is 18 - see above.", "18"),
        ("The answer is 4, no, the answer is 5 + 1 = 6", "6"),
        ("The result is 12 per day, so 36 in all.", "36"),
        ("result = 5 * 3 = 15", "15"),
        ("the answer is 1/2", "1/2"),
        ("The answer is $\\frac{1}{2}$.", "1/2"),
        ("The answer is \\(\\frac12\\)", "1/2"),
        ("so it is 3/4 at last", "3/4"),
        ("v2.0 then x3", None),
        ("no digits here", None),
        ("", None),
    ],
)
def test_extract_number(text: str, found: str | None) -> None:
    assert extract_number(text) == found


def test_four_verdicts_of_a_number() -> None:
    assert grade_number("#### 5.00", "5").correct
    assert grade_number("#### 6", "5").reason is Reason.WRONG
    assert grade_number("I do not know", "5").reason is Reason.NO_ANSWER


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("\\boxed{1} and \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\fbox{3}", "3"),
        ("$\\boxed 5$ done", "5"),
        ("\\boxed{unclosed", None),
        ("\\boxed{12} and again \\boxed{1", "12"),
        ("\\boxed{12} and \\boxed{}", "12"),
        ("\\boxed{12} and \\boxed", "12"),
        ("\\boxed{ } and \\boxed{1", ""),
        ("\\boxed{\\fbox{7}}", "7"),
        ("none", None),
    ],
)
def test_last_boxed(text: str, inside: str | None) -> None:
    assert last_boxed(text) == inside


def test_calculator_marks() -> None:
    assert strip_calculator_marks("48/2 = <<48/2=24>>24 clips") == "48/2 = 24 clips"


@pytest.mark.parametrize("text", ["\\boxed{3}", "#### 3", "The answer is 3", "final answer: $3"])
def test_declared(text: str) -> None:
    assert declares_answer(text)
    assert not declares_answer("3 apples and 4 pears")


CHOICES = ["sound", "a loud sound", "light", "heat"]


@pytest.mark.parametrize(
    ("text", "gold", "reason"),
    [
        ("It is light.", 2, Reason.CORRECT),
        ("It gives off a loud sound, of course", 1, Reason.CORRECT),
        ("a loud sound", 0, Reason.WRONG),
        ("light and heat", 2, Reason.NO_ANSWER),
        ("The answer is C", 2, Reason.CORRECT),
        ("(B) a loud sound", 1, Reason.CORRECT),
        ("The answer is D.", 2, Reason.WRONG),
        ("lightning", 2, Reason.NO_ANSWER),
        ("", 2, Reason.NO_ANSWER),
        ("A student would say heat", 3, Reason.CORRECT),
        ("The answer is a loud sound", 1, Reason.CORRECT),
        ("The answer is a candle", 0, Reason.NO_ANSWER),
        ("The answer is d.", 3, Reason.CORRECT),
        ("the answer is: (c)", 2, Reason.CORRECT),
        ("answer: b", 1, Reason.CORRECT),
    ],
)
def test_choice(text: str, gold: int, reason: Reason) -> None:
    assert grade_choice(text, CHOICES, ["A", "B", "C", "D"], gold).reason is reason


def test_a_number_in_the_answer_is_no_label() -> None:
    texts, labels = ["1 meter", "2 meters", "3 meters", "4 meters"], ["1", "2", "3", "4"]
    assert grade_choice("The answer is 4 meters", texts, ["1", "2", "4", "3"], 3).extracted == "4 meters"
    assert grade_choice("The answer is 3.", texts, labels, 2).correct


def test_words_go_first_where_the_question_showed_no_letters() -> None:
    text = "The answer is D, light."
    assert grade_choice(text, CHOICES, list("ABCD"), 2, lettered=False).correct
    assert not grade_choice(text, CHOICES, list("ABCD"), 2).correct
    assert grade_choice("The answer is C", CHOICES, list("ABCD"), 2, lettered=False).correct
    assert letters_shown("Which?\nA. sound\nB. a loud sound\nC. light", CHOICES, list("ABCD"))
    assert not letters_shown("Question: Which?\nAnswer:", CHOICES, list("ABCD"))


@given(st.text(alphabet="{}\\boxedf 7$", max_size=60))
def test_the_last_box_is_closed_and_not_empty(text: str) -> None:
    assert last_boxed(f"{text} \\boxed{{42}}") == "42"
    inside = last_boxed(text)
    assert inside is None or inside in text
    assert last_boxed(f"\\boxed{{1}} {text}")


@given(st.integers(4301, 9000), st.sampled_from(["{}", "-{}", "{}.5", "0.{}", "1/{}", "\\frac{{{}}}{{3}}"]))
def test_runaway_digits_are_no_number(digits: int, form: str) -> None:
    """Python refuses to read integers of more than 4300 digits."""
    long = form.format("7" * digits)
    assert number_in(long) is None
    assert grade_number(f"The answer is {long}", "7").reason is Reason.WRONG


@pytest.mark.parametrize(
    ("text", "gold", "reason"),
    [
        ("the answer is 1/2", "\\frac{1}{2}", Reason.CORRECT),
        ("the probability is $\\frac{1}{2}$", "\\frac12", Reason.CORRECT),
        ("so \\(P = \\frac{3}{6} = \\frac{1}{2}\\).", "\\frac{1}{2}", Reason.CORRECT),
        ("Hence\n\\[\n\\frac{1}{2}\n\\]", "\\frac{1}{2}", Reason.CORRECT),
        ("The final answer is\n\\[\nx + 1\n\\]", "x+1", Reason.CORRECT),
        ("so it is \\(x+1\\)", "x+1", Reason.CORRECT),
        ("There are $3$ boys and $4$ girls, so 12 pairs", "12", Reason.CORRECT),
        ("The answer is $18 per day, so $36", "18", Reason.CORRECT),
        ("#### 7, which is $\\frac{14}{2}$ of $3$", "7", Reason.CORRECT),
        ("so $\\frac{1}{2}$ of $n$", "2", Reason.WRONG),
        ("\\boxed{12}, that is \\boxed{1", "12", Reason.CORRECT),
        ("nothing", "12", Reason.NO_ANSWER),
    ],
)
def test_mathematical_answers_outside_a_box(text: str, gold: str, reason: Reason, verifier: Verifier) -> None:
    assert grade_math(text, gold, verifier).reason is reason


def test_the_worker_keeps_to_a_lower_limit() -> None:
    """Under a hard limit below its own, as on many clusters, the process starts and answers all the same."""
    import resource

    low = 3 << 30
    done = subprocess.run(
        [sys.executable, "-m", "dasd_bench.tasks.grading.verify_worker"],
        input=b'["answers", "1/2", "0.5", 9]\n',
        capture_output=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (low, low)),
    )
    assert done.stdout.split() == [b"ready", b"true"], done.stderr


@pytest.fixture(scope="module")
def verifier() -> Verifier:
    return Verifier()


def test_answers_are_compared_as_mathematics(verifier: Verifier) -> None:
    assert grade_math("so $\\boxed{2\\sqrt{3}}$", "\\sqrt{12}", verifier).correct
    assert grade_math("$\\boxed{(x+1)^2}$", "x^2+2x+1", verifier).correct
    assert grade_math("$\\boxed{(x+1)^2}$", "x^2+2x+2", verifier).reason is Reason.WRONG
    assert grade_math("no formula", "x", verifier).reason is Reason.NO_ANSWER


def test_time_limit_holds_in_a_thread_and_the_next_question_is_answered() -> None:
    """Signals, math-verify's own limit, would not work there."""
    quick = Verifier(cpu_seconds=1, workers=1)
    found: list[object] = []

    def work() -> None:
        found.append(quick.same("\\sqrt{12}", "2\\sqrt{3}"))
        found.append(grade_math("\\boxed{9^{9^{9^{9}}}}", "x+3", quick).reason)
        found.append(quick.same("\\sqrt{12}", "3\\sqrt{3}"))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(120)
    assert found == [Reason.CORRECT, Reason.TIMEOUT, Reason.WRONG]
    assert quick.kills == 1


def test_a_worker_killed_from_outside_is_replaced_and_says_nothing_of_the_answer() -> None:
    pool = Verifier(workers=1)
    assert pool.same("1", "2") is Reason.WRONG
    (worker,) = pool._idle
    worker.process.kill()
    worker.process.wait()
    assert pool.same("1", "1.0") is Reason.CORRECT
    assert pool.kills == 0


def test_questions_are_worked_on_side_by_side_and_remembered() -> None:
    pool = Verifier(workers=2)
    golds = [str(n) for n in range(40)] * 2
    assert pool.map(pool.same, golds, golds) == [Reason.CORRECT] * 80
    assert len(pool._known) == 40
    assert 1 <= len(pool._idle) <= 2


def test_the_worker_reaches_no_network_and_starts_no_process() -> None:
    """Where the kernel has no filter there is nothing to see."""
    from dasd_bench.sandbox.inside import kernel

    if not kernel.supported():
        pytest.skip("no seccomp here")
    code = (
        "from dasd_bench.tasks.grading.verify_worker import isolate\n"
        "import os, socket\n"
        "isolate()\n"
        "for work in (lambda: socket.socket(), os.fork, lambda: open('/tmp/x', 'w')):\n"
        "    try:\n"
        "        work()\n"
        "        print('allowed')\n"
        "    except OSError:\n"
        "        print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["refused"] * 3, done.stderr
