# ruff: noqa: E501 (programs and payloads read better on one line)
"""What honest tests and honest programs do: mutation, generators, exceptions, classes, callbacks, odd values."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from dasd_bench.sandbox import (
    ExecResult,
    IsolationLevel,
    Limits,
    Outcome,
    Problem,
    Sample,
    Sandbox,
    pass_at_k,
    probe_isolation,
    problem_from_row,
)
from dasd_bench.sandbox.errors import ProblemError, SettingError


def run_check(box: Sandbox, check: str, program: str, prompt: str = "") -> ExecResult:
    lines = "".join(f"    {line}\n" for line in check.strip("\n").split("\n"))
    problem = Problem("t", "humaneval", prompt=prompt, entry_point="f", test=f"def check(candidate):\n{lines}")
    (result,) = box.run([Sample("t", program)], [problem])
    return result


GOOD = {
    "in place, value dropped": ("l = [3, 1, 2]\ncandidate(l)\nassert l == [1, 2, 3]", "def f(l):\n    l.sort(); return l"),
    "in place, None returned": ("l = [[3], [1]]\nassert candidate(l) is None\nassert l == [[3, 0], [1, 0]]",
                                "def f(l):\n    for x in l: x.append(0)"),
    "nested list keeps its identity": ("a = [1]\nl = [a]\ncandidate(l)\nassert a == [1, 2] and l[0] is a", "def f(l): l[0].append(2)"),
    "dict in place": ("d = {'a': 1}\ncandidate(d)\nassert d == {'b': 2}", "def f(d): d.clear(); d['b'] = 2"),
    "generator": ("from itertools import islice\nassert list(islice(candidate(), 3)) == [0, 1, 4]",
                  "import itertools\ndef f():\n    for i in itertools.count(): yield i * i"),
    "map object": ("assert list(candidate([1, 2])) == [2, 4]", "def f(l): return map(lambda x: 2 * x, l)"),
    "expected exception": ("try:\n    candidate(-1)\nexcept ValueError as e:\n    assert 'neg' in str(e)\nelse:\n    assert False",
                           "def f(x):\n    if x < 0: raise ValueError('negative')"),
    "own exception of a builtin kind": ("try:\n    candidate()\nexcept LookupError:\n    pass\nelse:\n    assert False",
                                        "class Mine(KeyError): pass\ndef f(): raise Mine('x')"),
    "class of the tests": ("class P:\n    def __init__(self, x): self.x = x\n    def __eq__(self, o): return self.x == o.x\n"
                           "assert candidate(P(1)) == P(2)\nq = P(5)\ncandidate(q)\nassert q.x == 6",
                           "def f(p):\n    p.x += 1\n    return p"),
    "callback": ("assert candidate(lambda x: x + 1, [1, 2]) == [2, 3]", "def f(g, l): return [g(x) for x in l]"),
    "callback with a keyword": ("assert candidate(lambda x, by=0: x + by, [1, 2]) == [6, 7]", "def f(g, l): return [g(x, by=5) for x in l]"),
    "ordered dict in another order": ("from collections import OrderedDict\nassert candidate() == OrderedDict([('b', 2), ('a', 1)])",
                                      "from collections import OrderedDict\ndef f():\n    d = OrderedDict(a=1, b=2)\n    d.move_to_end('a')\n    return d"),
    "objects as keys and in a set": ("d, s = candidate()\nassert sorted(d.values()) == [1, 2] and len(s) == 2",
                                     "from enum import Enum\nclass E(Enum): A = 1; B = 2\ndef f(): return {E.A: 1, E.B: 2}, {E.A, E.B}"),
    "callback that raises": ("def g(x): raise KeyError(x)\nassert candidate(g) == 'caught'",
                             "def f(g):\n    try: g(1)\n    except KeyError: return 'caught'"),
    "function returned": ("assert candidate(2)(3) == 6", "def f(a): return lambda b: a * b"),
    "object with methods": ("s = candidate()\ns.push(1)\ns.push(2)\nassert s.pop() == 2 and len(s) == 1 and s.items == [1]",
                            "class f:\n    def __init__(self): self.items = []\n    def push(self, x): self.items.append(x)\n"
                            "    def pop(self): return self.items.pop()\n    def __len__(self): return len(self.items)"),
    "keyword arguments": ("assert candidate(1, b=2) == 3", "def f(a, b): return a + b"),
    "builtin function as argument": ("assert candidate(max, [1, 3]) == 3", "def f(g, l): return g(l)"),
    "tuple keys": ("assert candidate() == {(1, 'a'): [None]}", "def f(): return {(1, 'a'): [None]}"),
    "containers": ("from collections import Counter, OrderedDict, deque, defaultdict\n"
                   "assert candidate() == [Counter('aab'), OrderedDict(x=1), deque([1]), defaultdict(int, a=1), {1}, frozenset([2])]",
                   "from collections import *\ndef f(): return [Counter('aab'), OrderedDict(x=1), deque([1]), defaultdict(int, a=1), {1}, frozenset([2])]"),
    "numbers": ("from fractions import Fraction\nfrom decimal import Decimal\n"
                "assert candidate() == [Fraction(1, 3), Decimal('1.10'), 1j, 10**30, float('inf'), -0.0]",
                "from fractions import Fraction\nfrom decimal import Decimal\n"
                "def f(): return [Fraction(1, 3), Decimal('1.10'), 1j, 10**30, float('inf'), -0.0]"),
    "bytes, dates, ranges": ("import datetime as d\nassert candidate() == [b'\\xff', d.date(2020, 1, 2), d.timedelta(1), range(3)]",
                             "import datetime as d\ndef f(): return [b'\\xff', d.date(2020, 1, 2), d.timedelta(1), range(3)]"),
    "named tuple": ("assert candidate() == (1, 2)", "from collections import namedtuple\nP = namedtuple('P', 'a b')\ndef f(): return P(1, 2)"),
    "enum of integers": ("assert candidate() == 2", "from enum import IntEnum\nclass E(IntEnum): A = 2\ndef f(): return E.A"),
    "dict views": ("assert list(candidate()) == ['a'] and len(candidate()) == 1", "def f(): return {'a': 1}.keys()"),
    "type as value": ("assert candidate(3) is int", "def f(x): return type(x)"),
    "long integer": ("assert candidate() == 7 ** 9000", "def f(): return 7 ** 9000"),
    "surrogates and NUL": ("assert candidate('\\ud800') == '\\ud800\\0'", "def f(s): return s + '\\0'"),
    "helper of the prompt": ("assert g(candidate(3)) == 8", "    return x * 2\n"),
    "import only in the tests": ("import math\nassert math.isclose(candidate(), math.pi)", "import math\ndef f(): return math.pi"),
    "stop iteration is an error": ("try:\n    candidate()\nexcept RuntimeError:\n    pass\nelse:\n    assert False",
                                   "def f(): raise StopIteration"),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_right_program_passes(name: str, box: Sandbox) -> None:
    check, program = GOOD[name]
    prompt = "def g(x):\n    return x + 2\n\ndef f(x):\n    '''doc'''\n" if name == "helper of the prompt" else ""
    result = run_check(box, check, program, prompt)
    assert result.outcome is Outcome.PASSED, result


BAD = {
    "changes its argument to fit": ("l = [3, 1]\nassert candidate(l) == sum(l)", "def f(l):\n    l.clear(); return 0"),
    "changes its argument and returns it": ("l = [3, 1]\nassert candidate(l) == sorted(l)", "def f(l):\n    l.clear(); return l"),
    "ends a map of the tests early": ("assert all(map(lambda i: candidate(i) == i, range(5)))", "def f(i): raise StopIteration"),
    "death hidden by a bare except": ("for i in range(3):\n    try: candidate(i)\n    except: pass",
                                      "import os\ndef f(i): os._exit(0)"),
    "truth of an object": ("assert candidate()", "class A: pass\ndef f(): return A()"),
    "shows what it contains": ("assert 3 in candidate()", "class A:\n    def __contains__(self, x): return True\n"
                               "    def __iter__(self): return iter([])\ndef f(): return A()"),
    "assertion error of its own": ("try:\n    assert candidate() == 1\nexcept AssertionError:\n    raise", "def f(): raise AssertionError"),
    "numpy infinity of a narrow type": ("assert candidate() == 100000", "import numpy as np\ndef f(): return np.array(np.inf, 'f2')"),
    "numpy protocol": ("import numpy as np\nassert np.allclose(candidate(), [1.0])",
                       "class A:\n    __array_interface__ = {'shape': (1,), 'typestr': '<f8', 'data': (0, False), 'version': 3}\n"
                       "    def __array__(self, *a): return 1\ndef f(): return A()"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_wrong_program_fails(name: str, box: Sandbox) -> None:
    if "numpy" in name:
        pytest.importorskip("numpy")
    result = run_check(box, *BAD[name])
    assert not result.passed
    assert result.outcome in (Outcome.WRONG_ANSWER, Outcome.EXCEPTION, Outcome.NO_RESULT), result


SPY = """
import gc
def f(*args):
    NEEDLE = int('112437'[::-1])
    codes = [o.__code__ for o in gc.get_objects() if hasattr(o, '__code__')]
    texts = [v for o in gc.get_objects() if type(o) is dict for v in list(o.values()) if type(v) in (str, int)]
    found = any(NEEDLE in c.co_consts for c in codes) or NEEDLE in texts or any(str(NEEDLE) in str(t) for t in texts)
    return 'found' if found else 'no'
"""


@pytest.mark.parametrize("argument", ["Case(1)", "1"])
def test_a_class_of_the_tests_does_not_carry_expected_values_over(argument: str, box: Sandbox) -> None:
    test = (
        "class Case:\n    'right: 734211'\n    limit = 734211\n    def __init__(self, x): self.x = x\n"
        "    def answer(self): return self.x + 734211\n"
        f"def check(candidate):\n    assert candidate({argument}) == 'no'\n"
    )
    problem = Problem("t", "humaneval", entry_point="f", test=test)
    (result,) = box.run([Sample("t", SPY)], [problem])
    assert result.passed, result


#: All that lies ready for a program, read or not.
SEEN = """
import os, re, socket, sys
def seen():
    frame, found = sys._getframe(), b''
    while frame:
        found += getattr(getattr(frame.f_locals.get('self'), '_channel', None), '_buffer', b'')
        frame = frame.f_back
    try: found += socket.socket(fileno=os.dup(3)).recv(9999, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except OSError: pass
    return found
"""


def test_no_question_sent_ahead_shows_an_answer(box: Sandbox) -> None:
    """The second question holds the right answer to the first. After right programs have passed, a program that looks
    at what lies ready on its channel must not find it."""
    checks = [
        "x = candidate(1)\n    assert x == 734211\n    assert candidate(x) == 1",
        "l = [1]\n    candidate(l)\n    assert l == [734211]\n    assert candidate(l) == 1",
        "got = []\n    for i in (1, 2): got.append(candidate(i))\n    assert candidate(got[-1]) == 1 and got[0] == 734211",
    ]
    right = "def f(x):\n    if type(x) is list and x == [1]: x[0] = 734211\n    return 1 if x == 734211 or type(x) is list else 734211"
    spy = (
        f"{SEEN}def f(x):\n"
        "    found = re.findall(rb'7342\\d+', seen())\n"
        "    if found and type(x) is list: x[0] = int(found[0])\n"
        "    return int(found[0]) if found else 1\n"
    )
    for check in checks:
        problem = Problem("t", "humaneval", entry_point="f", test=f"def check(candidate):\n    {check}\n")
        results = box.run([Sample("t", right)] * 4 + [Sample("t", spy)] * 2, [problem])
        assert [r.passed for r in results] == [True] * 4 + [False] * 2, check


def test_methods_of_a_class_of_the_tests_can_be_called(box: Sandbox) -> None:
    check = (
        "class P:\n    def __init__(self, x): self.x = x\n    def double(self): return self.x + self.x\n"
        "assert candidate(P(4)) == 8"
    )
    assert run_check(box, check, "def f(p): return p.double()").passed


def test_function_named_as_a_builtin(box: Sandbox) -> None:
    row = {
        "task_id": 126,
        "code": "def sum(a, b):\n    return a * b",
        "text": "",
        "test_list": ["assert sum(2, 3) == 6"],
    }
    problem = problem_from_row(row)
    assert problem.entry_point == "sum"
    assert problem_from_row({**row, "code": ""}).entry_point == "sum"
    right, wrong = box.run([Sample("126", str(row["code"])), Sample("126", "def sum(a, b): return 5")], [problem])
    assert (right.passed, wrong.passed) == (True, False)


def test_objects_made_by_the_program_as_arguments(box: Sandbox) -> None:
    row = {
        "task_id": 1, "code": "def total(ps): return 0", "text": "", "test_setup_code": "root = Node(1)\r\nroot.next = Node(2)\r\n",
        "test_list": ["assert total([Pair(1, 2), Pair(3, 4)]) == 10", "assert total([root]) == 3"],
    }  # fmt: skip
    program = (
        "class Pair:\n    def __init__(self, a, b): self.a, self.b = a, b\n    def value(self): return self.a + self.b\n"
        "class Node:\n    def __init__(self, v): self.v = v\n    def value(self): return self.v + self.next.v\n"
        "def total(ps): return sum(p.value() for p in ps)"
    )
    (result,) = box.run([Sample("1", program)], [problem_from_row(row)])
    assert result.passed, result


def deep(levels: int) -> str:
    return f"def nest():\n    v = []\n    for _ in range({levels}): v = [v]\n    return v\n"


RAISED = (
    "import gc, sys\nfor name, module in list(sys.modules.items()):\n"
    "    if name.endswith('inside.wire'): module.MAX_DEPTH = 10**6\n"
)


@pytest.mark.parametrize("levels", [151, 160, 250])
def test_an_answer_that_cannot_be_passed_back_is_no_fault_of_the_tests(levels: int, box: Sandbox) -> None:
    row = {
        "task_id": 601,
        "code": "def longest(pairs): return 0",
        "text": "",
        "test_list": ["assert longest([Pair(5, 24)]) == 3"],
    }
    program = f"{RAISED}{deep(levels)}def Pair(a, b): return nest()\ndef longest(pairs): return 3\n"
    results = box.run([Sample("601", program)], [problem_from_row(row)])
    assert results[0].outcome in (Outcome.WRONG_ANSWER, Outcome.NO_RESULT), results[0]
    # The deepest value that is plain data comes back and goes on.
    fits = f"{deep(148)}def Pair(a, b): return nest()\ndef longest(pairs): return 3\n"
    results = box.run([Sample("601", fits)], [problem_from_row(row)])
    assert results[0].passed, results[0]


def test_a_fault_of_the_tests_stays_one(box: Sandbox) -> None:
    tests = ("assert f(1) == 1", "assert f(type('Local', (), {})()) == 2")
    (result,) = box.run([Sample("p", "def f(x): return 1")], [Problem("p", "mbpp", entry_point="f", tests=tests)])
    assert result.outcome is Outcome.INFRASTRUCTURE_ERROR, result
    missing = Problem("m", "mbpp", entry_point="f", tests=("assert f(1) == 1\nimport no_such_module",))
    (result,) = box.run([Sample("m", "def f(x): return 1")], [missing])
    assert (result.outcome, "not installed" in result.detail) == (Outcome.INFRASTRUCTURE_ERROR, True), result


def test_questions_of_a_function_passed_as_a_value_are_not_sent_ahead(box: Sandbox) -> None:
    problem = Problem(
        "t",
        "mbpp",
        entry_point="f",
        tests=("from functools import reduce\nassert reduce(f, [1, 2, 734211]) == 734214",),
    )
    spy = f"{SEEN}def f(a, b):\n    found = re.findall(rb'\\[(\\d+),734211', seen())\n"
    spy += "    return int(found[0]) if found else a + b if b == 734211 else 1\n"
    results = box.run([Sample("t", "def f(a, b): return a + b")] * 3 + [Sample("t", spy)] * 2, [problem])
    assert [r.passed for r in results] == [True] * 3 + [False] * 2


# What it looks for is written, here and in each page that it copies, with every byte one higher: its own memory then
# holds the words themselves nowhere but where it plants them.
SCAN = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.sbrk.restype = ctypes.c_void_p
out, into = os.pipe()
NEXT = bytes((i + 1) % 256 for i in range(256))
def pages(address, step):
    \"\"\"The readable memory from an address on, in one direction, until there is a gap.\"\"\"
    while True:
        if libc.write(into, ctypes.c_void_p(address), 4096) != 4096: return
        yield os.read(out, 4096).translate(NEXT)
        address += step
def solve(x):
    planted = [bytes(c - 1 for c in b'qmboufe.') * 500 for _ in range(3)]
    found = set()
    places = [(libc.sbrk(0) - 4096) & -4096] + [id(o) & -4096 for o in (object(), planted[0], [None] * 9999)]
    for place in places:
        for step in (-4096, 4096):
            for page in pages(place, step):
                found |= {needle for needle in (b'TFDSFU.NBSL', b'qmboufe.') if needle in page}
    return sorted(found)
"""


def test_no_program_finds_the_text_or_prints_of_an_earlier_one(any_box: Sandbox) -> None:
    problem = Problem("p", "mbpp", entry_point="solve", tests=("assert solve(1) == [b'qmboufe.']",))
    first = "# SECRET-MARK\n" * 3000 + "print('SECRET-' + 'MARK' * 500)\ndef solve(x): return 0\n"
    small = "# SECRET-MARK\ndef solve(x): return 0\n"
    results = any_box.run([Sample("p", code) for code in (first, small, SCAN) * 2 + (SCAN,) * 2], [problem])
    assert [r.passed for r in results] == [False, False, True] * 2 + [True] * 2, results


def test_a_large_problem_waits_until_its_judge_is_idle() -> None:
    """Sent behind a running program it would keep the caller waiting for that program's end."""
    slow = Problem("slow", "mbpp", entry_point="f", tests=("assert f(1) == 1",))
    large = Problem("large", "mbpp", entry_point="f", tests=("assert f(1) == 1", f"x = {'1' * 800_000!r}"))
    sleeps = "import time\ntime.sleep(0.8)\ndef f(x): return 1"
    samples = [Sample("slow", sleeps)] + [Sample("large", "def f(x): return x")] * 5
    with Sandbox(1, Limits(2, 6), required_level="rlimits", allow_unsafe=True) as sandbox:
        judge = sandbox._slots[0].judge
        judge.control.settimeout(0.1)  # a caller that waits longer takes the judge for dead
        results = sandbox.run(samples, [slow, large])
        assert judge is sandbox._slots[0].judge
    assert [r.outcome for r in results] == [Outcome.PASSED] * 6


def test_a_program_that_the_machine_killed_gets_a_second_try() -> None:
    with Sandbox(1, Limits(2, 6), isolation="rlimits", required_level="rlimits", allow_unsafe=True) as sandbox:
        zygote = sandbox._slots[0].worker._popen.pid
        killed: list[int] = []

        def kill_first_program() -> None:
            while not killed:
                children = Path(f"/proc/{zygote}/task/{zygote}/children").read_text().split()
                if children:
                    os.kill(int(children[0]), signal.SIGKILL)
                    killed.append(int(children[0]))
                time.sleep(0.005)

        thread = threading.Thread(target=kill_first_program)
        thread.start()
        problem = Problem("p", "mbpp", entry_point="f", tests=("assert f(1) == 1",))
        (result,) = sandbox.run([Sample("p", "import time\ntime.sleep(0.5)\ndef f(x): return 1")], [problem])
        thread.join()
    assert killed
    assert result.passed, result


def test_results_keep_the_order_of_the_samples_and_are_reported_once(box: Sandbox) -> None:
    problem = Problem("p", "mbpp", entry_point="f", tests=("assert f() == 1",))
    codes = ["def f(): return 1", "def f(): return 2", "def f(", "import time; time.sleep(0.2)\ndef f(): return 1"] * 6
    seen: dict[int, ExecResult] = {}
    results = box.run([Sample("p", code) for code in codes], [problem], lambda i, r: seen.setdefault(i, r) and None)
    assert [r.outcome.value for r in results] == ["passed", "wrong_answer", "syntax_error", "passed"] * 6
    assert seen == dict(enumerate(results))
    assert all(r.wall_seconds > 0 for r in results)


def test_tests_whose_questions_depend_on_the_answers(box: Sandbox) -> None:
    """Calls are sent ahead as an earlier program's were; a program that is asked others is run anew, and rightly."""
    check = [
        "def check(candidate):",
        "    x = candidate(0)",
        "    for _ in range(3): x = candidate(x)",
        "    assert x % 5 == 0",
    ]
    problem = Problem("t", "humaneval", entry_point="f", test="\n".join(check))
    count = "n = 0\ndef f(x):\n    global n\n    n += 1\n    return 5 if n == 4 else x + {step}"
    programs = ["def f(x): return 0", "def f(x): return 5 * x + 5", count.format(step=1), "def f(x): return x + 2"] * 3
    results = box.run([Sample("t", program) for program in programs], [problem])
    assert [r.passed for r in results] == [True, True, True, False] * 3


def test_unknown_task_id_and_rows_without_tests_are_refused(box: Sandbox) -> None:
    with pytest.raises(ProblemError, match="names task_id 'x'"):
        box.run([Sample("x", "")], [])
    with pytest.raises(ProblemError, match="has no tests"):
        problem_from_row({"task_id": 1, "test_list": []})
    with pytest.raises(ProblemError, match="neither"):
        problem_from_row({"task_id": 1})


@pytest.mark.parametrize("tests", [("assert True",), ("assert f() ==",), ()])
def test_tests_that_test_nothing_are_an_infrastructure_error(tests: tuple[str, ...], box: Sandbox) -> None:
    (result,) = box.run([Sample("p", "def f(): return 1")], [Problem("p", "mbpp", entry_point="f", tests=tests)])
    assert result.outcome is Outcome.INFRASTRUCTURE_ERROR


def test_dead_processes_are_replaced_before_a_sample_meets_them(box: Sandbox) -> None:
    problem = Problem("p", "mbpp", entry_point="f", tests=("assert f() == 1",))
    for slot in box._slots:
        for process in (slot.worker._popen, slot.judge._popen):
            process.kill()
            process.wait()
    results = box.run([Sample("p", "def f(): return 1")] * 6, [problem])
    assert [r.passed for r in results] == [True] * 6


def test_a_slow_reference_raises_the_limit_of_its_problem_only() -> None:
    slow = "import time\ndef f(x):\n    end = time.process_time() + 0.6\n    while time.process_time() < end: pass\n    return x"
    hard = Problem("hard", "mbpp", entry_point="f", tests=("assert f(1) == 1",), reference=slow)
    easy = Problem("easy", "mbpp", entry_point="f", tests=("assert f(1) == 1",), reference="def f(x): return x")
    limits = Limits(cpu_seconds=0.3, wall_seconds=3)
    with Sandbox(1, limits, required_level="rlimits", allow_unsafe=True) as sandbox:
        results = sandbox.run([Sample("hard", slow), Sample("easy", slow)], [hard, easy])
        assert [r.outcome.value for r in results] == ["passed", "timeout"]
        assert set(sandbox.scales) == {"hard"}


def test_levels_are_probed_and_a_weak_one_is_refused() -> None:
    report = probe_isolation()
    assert report.level in report.available
    assert IsolationLevel.RLIMITS in report.available
    assert not IsolationLevel.RLIMITS.is_sandbox
    with pytest.raises(SettingError, match="allow-unsafe-code"), Sandbox(1, isolation="rlimits"):
        pass
    with pytest.raises(SettingError, match="Unknown isolation level"):
        Sandbox(1, required_level="bubble").__enter__()


@pytest.mark.parametrize("level", ["container", "namespaces", "landlock", "rlimits"])
def test_each_level_runs_programs_and_says_its_name(level: str) -> None:
    if IsolationLevel(level) not in probe_isolation().available:
        pytest.skip(f"{level} does not work here")
    problem = Problem("p", "mbpp", entry_point="f", tests=("assert f(2) == 4",))
    codes = [
        "def f(x): return x * x",
        "def f(x): return 5",
        "import os\ndef f(x):\n    os.mkdir('d'); return len(os.listdir('.'))*4",
    ]
    with Sandbox(1, Limits(2, 6), isolation=level, required_level="rlimits", allow_unsafe=True) as sandbox:
        results = sandbox.run([Sample("p", code) for code in codes * 2], [problem])
    assert [r.passed for r in results] == [True, False, True] * 2
    assert {r.isolation_level for r in results} == {level}


@pytest.mark.parametrize("field", ["cpu_seconds", "processes", "memory_gib"])
def test_limits_are_positive(field: str) -> None:
    with pytest.raises(SettingError, match=field):
        Limits(**{field: 0})


def test_pass_at_k_is_the_mean_over_all_draws() -> None:
    from itertools import combinations

    for n in range(1, 7):
        for c in range(n + 1):
            for k in range(1, n + 1):
                draws = list(combinations([True] * c + [False] * (n - c), k))
                assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws)) / len(draws))
    with pytest.raises(SettingError):
        pass_at_k(3, 1, 4)
