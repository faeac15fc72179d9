"""Rows of the published sets as problems: HumanEval, HumanEval+, MBPP (full and sanitized), MBPP+."""

from __future__ import annotations

import ast
import builtins
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from .errors import ProblemError
from .model import Problem

#: HumanEval+ publishes this line for HumanEval/32; with any right answer it raises TypeError, and it accepts [[]].
_BROKEN_LINE = "assert _poly(*candidate(*inp), inp) <= 0.0001"
_BROKEN = "the published test of this HumanEval+ problem fails every correct answer, so no answer passes"


def problem_from_row(row: Mapping[str, Any], *, challenge: bool = False) -> Problem:
    """The problem of a row, recognised by its columns. ``challenge`` adds MBPP's ``challenge_test_list``.
    Raises ProblemError for a row that is none of the known sets', or has no tests."""
    task_id = str(row.get("task_id", ""))
    if not task_id:
        raise ProblemError("A problem row has no task_id.")
    if "entry_point" in row and "prompt" in row:
        test = _text(row, "test")
        if "def check" not in test:
            raise ProblemError(f"Problem {task_id}: its test defines no function check(candidate).")
        bad = _BROKEN if _BROKEN_LINE in test else ""
        return Problem(
            task_id,
            "humaneval",
            _text(row, "prompt"),
            _text(row, "entry_point"),
            test=test,
            known_bad=bad,
            reference=_reference(row),
        )
    if "test_list" not in row:
        raise ProblemError(f"Problem {task_id} has neither an entry_point (HumanEval) nor a test_list (MBPP).")
    tests = _texts(row, "test_list") + (_texts(row, "challenge_test_list") if challenge else ())
    script = _script(str(row.get("test") or ""))
    if not tests and not script:
        raise ProblemError(f"Problem {task_id} has no tests.")
    entry = _entry_point(task_id, tests, str(row.get("code") or ""), script)
    imports = "\n".join(_texts(row, "test_imports"))
    setup = _setup(row)
    return Problem(
        task_id, "mbpp", str(row.get("text") or row.get("prompt") or ""), entry,
        # MBPP+ repeats the list's cases in its script.
        () if script else tests, script, imports, setup, reference=_reference(row),
    )  # fmt: skip


_ASSERTION = re.compile(r"^def assertion\(out, exp, atol\):\n(?:[ \t]+.*\n|\n)+", re.MULTILINE)


def _script(test: str) -> str:
    """The published script; where its ``assertion`` compares and then asserts nothing (MBPP+ 787), so that every answer
    would pass, what it compared is asserted."""
    found = _ASSERTION.search(test)
    if found is None or "assert" in found.group().partition("\n")[2] or "exact_match = " not in found.group():
        return test
    return test[: found.start()] + found.group().rstrip() + "\n    assert exact_match\n\n" + test[found.end() :]


def _reference(row: Mapping[str, Any]) -> str:
    return str(row.get("canonical_solution") or row.get("code") or row.get("solution") or "")


def gold_program(row: Mapping[str, Any]) -> str:
    """The reference solution of a row, as a completion. Raises ProblemError where the row has none."""
    for column in ("canonical_solution", "code", "solution"):
        if isinstance(row.get(column), str):
            return str(row[column])
    raise ProblemError(f"Problem {row.get('task_id')} has no reference solution.")


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    if not isinstance(value, str):
        raise ProblemError(f"Problem {row.get('task_id')}: column '{column}' must be text.")
    return value


def _texts(row: Mapping[str, Any], column: str) -> tuple[str, ...]:
    value = row.get(column) or []
    if not isinstance(value, (list, tuple)) or any(not isinstance(item, str) for item in value):
        raise ProblemError(f"Problem {row.get('task_id')}: column '{column}' must be a list of texts.")
    return tuple(value)


def _setup(row: Mapping[str, Any]) -> str:
    return str(row.get("test_setup_code") or "").replace("\r\n", "\n")


def _entry_point(task_id: str, tests: tuple[str, ...], code: str, script: str) -> str:
    """The function that the tests call. MBPP rows do not name it: it is the one called in every test that the
    reference solution defines or, without one, that is no built-in (some are called ``sum`` or ``max``)."""
    try:
        called = [_called(ast.parse(test)) for test in (tests or (script,))]
    except (SyntaxError, ValueError) as error:
        raise ProblemError(f"Problem {task_id}: a test is not valid Python ({error}).") from None
    counts = Counter(name for names in called for name in dict.fromkeys(names))
    if not counts:
        raise ProblemError(f"Problem {task_id}: its tests call no function.")
    try:
        defined = {node.name for node in ast.walk(ast.parse(code)) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    except (SyntaxError, ValueError):
        defined = set()
    candidates = [name for name in counts if name in defined] or [
        name for name in counts if not hasattr(builtins, name)
    ] or list(counts)  # fmt: skip
    return max(candidates, key=lambda name: counts[name])


def _called(tree: ast.AST) -> list[str]:
    """Names called, in the order of the text."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    calls.sort(key=lambda node: (node.lineno, node.col_offset))
    return [node.func.id for node in calls if isinstance(node.func, ast.Name)]
