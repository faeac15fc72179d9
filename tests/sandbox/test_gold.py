"""Reference solutions of the published sets pass, and fail as soon as what they return is changed."""

from __future__ import annotations

from typing import Any

import pytest

from dasd_bench.sandbox import Outcome, Problem, Sample, Sandbox, problem_from_row, self_test

from .conftest import Rows

SETS = ["mbpp/prompt", "mbpp/train", "mbpp/validation", "mbpp/test", "mbpp_sanitized/prompt", "mbpp_sanitized/train",
        "mbpp_sanitized/validation", "mbpp_sanitized/test", "humaneval/test"]  # fmt: skip
PLUS = ["mbppplus/test", "humanevalplus/test"]
#: Many rows, each slow: every so many of them is enough for the tests (the closing figures take all).
PLUS_STEP = 6

PERTURB = """
def _perturb(v):
    if v is None: return "~"
    if type(v) is bool: return not v
    if isinstance(v, float) and v - v != 0: return 0.5
    if isinstance(v, (int, float, complex)): return v + 1
    if isinstance(v, str): return v + "~"
    if isinstance(v, list): return v + ["~"]
    if isinstance(v, tuple): return (*v, "~")
    if isinstance(v, dict): return {**v, "~": 1}
    if isinstance(v, (set, frozenset)): return v | {"~"}
    return None
"""


def perturbed(row: dict[str, Any], problem: Problem) -> str:
    """The reference solution with its result changed on the way out."""
    name = problem.entry_point
    gold = problem.prompt + problem.reference if problem.kind == "humaneval" else problem.reference
    return (
        ("    pass\n" if problem.kind == "humaneval" else "")
        + f"{PERTURB}\n_space = {{'__name__': 'gold'}}\nexec({gold!r}, _space)\n"
        f"globals().update({{k: v for k, v in _space.items() if not k.startswith('__') and k != {name!r}}})\n"
        f"def {name}(*args, **kwargs):\n    return _perturb(_space[{name!r}](*args, **kwargs))\n"
    )


@pytest.mark.parametrize("name", SETS)
def test_gold_passes_and_perturbed_gold_fails(name: str, rows: Rows, gold_box: Sandbox) -> None:
    problems = [problem_from_row(row) for row in rows(name)]
    found = self_test(gold_box, problems)
    assert found.passed == found.total == len(problems), found.failed
    samples = [Sample(p.task_id, perturbed({}, p)) for p in problems]
    wrong = gold_box.run(samples, problems)
    assert [result for result in wrong if result.passed] == []
    odd = [r for r in wrong if r.outcome not in (Outcome.WRONG_ANSWER, Outcome.EXCEPTION)]
    assert odd == []


@pytest.mark.parametrize("name", PLUS)
def test_gold_of_the_extended_sets(name: str, rows: Rows, gold_box: Sandbox) -> None:
    pytest.importorskip("numpy")
    heavy = {"255", "599", "HumanEval/130", "HumanEval/15", "HumanEval/83"}
    chosen = [row for row in rows(name)[::PLUS_STEP] if str(row["task_id"]) not in heavy]
    problems = [problem_from_row(row) for row in chosen]
    found = self_test(gold_box, problems)
    assert found.failed == ()
    usable = [p for p in problems if not p.known_bad]
    wrong = gold_box.run([Sample(p.task_id, perturbed({}, p)) for p in usable], usable)
    assert [result for result in wrong if result.passed] == []


def test_the_broken_published_test_passes_nothing(rows: Rows, gold_box: Sandbox) -> None:
    row = next(row for row in rows("humanevalplus/test") if row["task_id"] == "HumanEval/32")
    problem = problem_from_row(row)
    samples = [Sample(problem.task_id, problem.reference), Sample(problem.task_id, "    return [[]]\n")]
    assert [result.passed for result in gold_box.run(samples, [problem])] == [False, False]


def test_a_published_test_that_asserts_nothing_is_mended(rows: Rows, gold_box: Sandbox) -> None:
    row = next(row for row in rows("mbppplus/test") if row["task_id"] == 787)
    problem = problem_from_row(row)
    samples = [Sample("787", problem.reference), Sample("787", "def text_match_three(text): return 'anything'\n")]
    assert [result.passed for result in gold_box.run(samples, [problem])] == [True, False]


@pytest.mark.parametrize(
    "value", ["[]", "True", "[[]]", "float('nan')", "0", "''", "None", "{}", "__import__('numpy').array([])"]
)
def test_constants_pass_no_extended_problem(value: str, rows: Rows, gold_box: Sandbox) -> None:
    """numpy.allclose([], x) is true for any number: a program that returns an empty list must not profit."""
    pytest.importorskip("numpy")
    problems = [problem_from_row(row) for row in rows("mbppplus/test")[::12]]
    samples = [Sample(p.task_id, f"def {p.entry_point}(*a, **k):\n    return {value}\n") for p in problems]
    assert [result for result in gold_box.run(samples, problems) if result.passed] == []
