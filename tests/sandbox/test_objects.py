"""Tests that look at their own arguments, or ask for another object, get the verdict that plain Python gives."""

# ruff: noqa: E501 (programs and tests read better on one line)
from __future__ import annotations

import contextlib
from typing import Any

import pytest

from dasd_bench.sandbox import Outcome, Problem, Sample, Sandbox
from dasd_bench.sandbox.inside.judge import prepare

NODE = "class Node:\n    def __init__(self, value, next=None):\n        self.value, self.next = value, next\n"
#: Tests, and programs that pass them or do not.
CASES: dict[str, tuple[str, list[str]]] = {
    "keeps its argument": (
        "v = [3, 1, 2]\nassert f(v) == [1, 2, 3]\nassert v == [3, 1, 2]",
        ["def f(v): return sorted(v)", "def f(v):\n    v.sort()\n    return v", "def f(v):\n    r = sorted(v)\n    v.clear()\n    return r"],
    ),
    "keeps what its argument holds": (
        "v = {'a': [1], 'b': {2}}\nassert f(v) == 2\nassert v == {'a': [1], 'b': {2}}",
        ["def f(v): return len(v)", "def f(v):\n    v['a'].append(2)\n    return 2", "def f(v):\n    v['b'].discard(2)\n    return 2"],
    ),
    "another object": (
        "v = [1]\nout = f(v)\nassert out == v\nassert out is not v",
        ["def f(v): return list(v)", "def f(v): return v"],
    ),
    "the same object": (
        "v = [1]\nout = f(v)\nassert out is v",
        ["def f(v): return v", "def f(v): return list(v)"],
    ),
    "a deep copy": (
        "v = [[1]]\nout = f(v)\nassert out == v and out[0] is not v[0]",
        ["import copy\ndef f(v): return copy.deepcopy(v)", "def f(v): return list(v)"],
    ),
    "a copy that stays apart": (
        "v = [[1]]\nout = f(v)\nv[0].append(2)\nassert out == [[1]]",
        ["import copy\ndef f(v): return copy.deepcopy(v)", "def f(v): return v[:]", "def f(v): return v"],
    ),
    "answers of two calls": (
        "a = f(1)\nb = f(2)\nassert a == [1]\nassert b == [2]",
        ["def f(x): return [x]", "def f(x, seen=[]):\n    seen.append(x)\n    return seen[-1:]",
         "def f(x, seen=[]):\n    seen.clear()\n    seen.append(x)\n    return seen"],
    ),
    "two objects in one assertion": (
        "assert f() is not f()",
        ["def f(): return []", "EMPTY = []\ndef f(): return EMPTY"],
    ),
    "rows of their own": (
        "m = f(2)\nm[0][0] = 5\nassert m == [[5, 0], [0, 0]]",
        ["def f(n): return [[0] * n for _ in range(n)]", "def f(n): return [[0] * n] * n"],
    ),
    "called twice with one argument": (
        "v = [1, 2]\nassert f(v) == 2\nassert f(v) == 2",
        ["def f(v): return v[-1]", "def f(v): return v.pop()"],
    ),
    "called in a loop with one argument": (
        "v = [1, 2]\nfor _ in range(2):\n    assert f(v) == 2",
        ["def f(v): return v[-1]", "def f(v): return v.pop()"],
    ),
    "cases used twice": (
        "cases = [[1, 2], [3]]\nfor c in cases:\n    assert f(c) == c[-1]\nassert cases == [[1, 2], [3]]",
        ["def f(v): return v[-1]", "def f(v): return v.pop()"],
    ),
    "one list in two places": (
        "a = [1]\nv = [a, a]\nassert f(v) == 1\nassert a == [1]",
        ["def f(v): return v[0][0]", "def f(v):\n    v[1].append(3)\n    return 1"],
    ),
    "an argument by name": (
        "v = {1: 2}\nassert f(d=v) == 1\nassert v == {1: 2}",
        ["def f(d): return len(d)", "def f(d):\n    n = len(d)\n    d.clear()\n    return n"],
    ),
    "objects of the tests": (
        f"{NODE}n = Node(1, Node(2))\nassert f(n) == 2\nassert n.next.value == 2",
        ["def f(n): return n.next.value", "def f(n):\n    n.next.value = 0\n    return 2", "def f(n):\n    n.next = None\n    return 2"],
    ),
    "a function with a memory": (
        "seen = []\nassert f(seen.append, [1, 2]) == 2\nassert seen == [1, 2]",
        ["def f(g, v):\n    for x in v: g(x)\n    return len(v)", "def f(g, v): return len(v)"],
    ),
    "a generator that shares its item": (
        "out = list(f(2))\nassert out == [[0], [1]]",
        ["def f(n):\n    for i in range(n): yield [i]", "def f(n):\n    r = [0]\n    for i in range(n):\n        r[0] = i\n        yield r"],
    ),
    "changed in place, as asked": (
        "v = [3, 1]\nf(v)\nassert v == [1, 3]",
        ["def f(v): v.sort()", "def f(v): return sorted(v)"],
    ),
}  # fmt: skip


def in_plain_python(program: str, tests: str) -> bool:
    space: dict[str, Any] = {}
    with contextlib.suppress(Exception):
        exec(f"{program}\n{tests}", space)
        return True
    return False


@pytest.mark.parametrize("name", CASES)
def test_the_verdict_is_plain_pythons(name: str, box: Sandbox) -> None:
    tests, programs = CASES[name]
    inner = "\n".join(f"    {line}" for line in tests.split("\n"))
    problems = [
        Problem("script", "mbpp", entry_point="f", test=tests),
        Problem("check", "humaneval", entry_point="f", test=f"def check(candidate):\n    f = candidate\n{inner}\n"),
    ]
    for problem in problems:
        results = box.run([Sample(problem.task_id, program) for program in programs], [problem])
        expected = [in_plain_python(program, tests) for program in programs]
        assert [result.passed for result in results] == expected, problem.task_id
        assert all(result.outcome in (Outcome.PASSED, Outcome.WRONG_ANSWER, Outcome.EXCEPTION) for result in results)


def test_what_the_tests_import_is_there_in_the_second_run_too(box: Sandbox) -> None:
    tests = "v = [4.0]\nassert m.isclose(f(v), sqrt(4))\nassert v == [4.0]"
    problem = Problem("t", "mbpp", entry_point="f", test=tests, imports="import math as m\nfrom math import sqrt")
    programs = ["def f(v): return m.sqrt(v[0])", "def f(v): return v.pop() / 2"]
    results = box.run([Sample("t", program) for program in programs], [problem])
    assert [result.passed for result in results] == [True, False]


#: What would pass in plain Python, and is a forgery: the program rewrites what its answer is checked against.
FORGED = {
    "the input": ("v = [3, 1]\nassert f(v) == sorted(v)", "def f(v):\n    v.clear()\n    return []"),
    "the comparison": (
        "v = [3, 1]\nassert f(v) == [1, 3]\nassert v == [3, 1]",
        "class E(list):\n    def __eq__(self, other): return True\ndef f(v): return E()",
    ),
    "the tests, once they are there": (
        "v = [1]\nassert f(v) == 1\nassert v == [1]",
        "import builtins\nbuiltins.exec = lambda *a: None\nbuiltins.compile = lambda *a, **k: None\ndef f(v): return 0",
    ),
}


@pytest.mark.parametrize("name", FORGED)
def test_nothing_is_forged(name: str, box: Sandbox) -> None:
    tests, program = FORGED[name]
    (result,) = box.run([Sample("t", program)], [Problem("t", "mbpp", entry_point="f", test=tests)])
    assert not result.passed


def test_a_program_that_will_not_run_the_tests_has_passed_them_before(box: Sandbox) -> None:
    """Ending, hanging or lying in the second run gives it nothing that it did not have."""
    tests = "v = [1]\nassert f(v) == 1\nassert v == [1]"
    for act in ("os._exit(1)", "os.kill(os.getpid(), 9)", "sys.exit()", "time.sleep(60)"):
        program = (
            "import gc, os, sys, time\ndef f(v):\n"
            f"    if any('assert f(v)' in str(o) for o in sys._getframe(2).f_locals.values()): {act}\n    return len(v)"
        )
        (result,) = box.run([Sample("t", program)], [Problem("t", "mbpp", entry_point="f", test=tests)])
        assert result.passed, act


BLIND = [
    "assert f([1]) == 2\nassert f([3], x={1: 2}) == 4",
    "import math\nassert f(math.pi) == 1, 'message'",
    "cases = [([1], 2), ([3], 4)]\nfor x, y in cases:\n    assert f(x) == y",
    "inputs = [[1], [2]]\nresults = [1, 2]\nfor i, (inp, exp) in enumerate(zip(inputs, results)):\n    assert f(*inp) == exp",
    "def close(a, b): return abs(a - b) < 1\nassert close(f([1]), 2)",
    "try:\n    assert f([1]) is None\nexcept ValueError:\n    pass",
]
SEEING = [
    "v = [1]\nassert f(v) == 1\nassert v == [1]",
    "v = [1]\nfor i in range(2):\n    assert f(v) == 1",
    "a = [1]\nv = [a]\nassert f(v) == 1\nassert a == [1]",
    "out = f([1])\nassert out == 1",
    "assert f([1]) == f([2])",
    "assert f() is not f()",
    "cases = [[1]]\nfor c in cases:\n    assert f(c) == 1\nprint(cases)",
    "def twice(v):\n    assert f(v) == f(v)\ntwice([1])",
    "assert all(f(x) for x in [[1], [2]])",
    "assert list(map(f, [[1]])) == [1]",
    "g = f\nassert g([1]) == 1",
    "assert f(lambda x: x) == 1",
]


@pytest.mark.parametrize("text", [*BLIND, *SEEING])
def test_which_tests_see_objects(text: str) -> None:
    fields = {"kind": "mbpp", "prompt": "", "entry_point": "f", "tests": [text], "test": "", "imports": "", "setup": ""}
    assert prepare(fields).sees_objects == (text in SEEING)
