"""Final answers found in text and compared: numbers, mathematics, choices. No torch, no lm-eval.

Each grader gives a :class:`~dasd_bench.types.Verdict`, so that a missing answer and a wrong one are never mixed.
"""

from dasd_bench.tasks.grading.choices import grade_choice, letters_shown
from dasd_bench.tasks.grading.declared import last_boxed
from dasd_bench.tasks.grading.mathematics import extract_math, grade_math
from dasd_bench.tasks.grading.numbers import (
    declares_answer,
    extract_number,
    grade_number,
    number_in,
    same_number,
    steps,
    strip_calculator_marks,
)
from dasd_bench.tasks.grading.verifier import Verifier, shared_verifier

__all__ = [
    "Verifier",
    "declares_answer",
    "extract_math",
    "extract_number",
    "grade_choice",
    "grade_math",
    "grade_number",
    "last_boxed",
    "letters_shown",
    "number_in",
    "same_number",
    "shared_verifier",
    "steps",
    "strip_calculator_marks",
]
