"""Programs that change what they are given, and tests that ask for it: the verdict is plain Python's."""

# ruff: noqa: E501 (programs and tests read better on one line)
from __future__ import annotations

import ast

import pytest

from dasd_bench.sandbox import Problem, Sample, Sandbox
from dasd_bench.sandbox.inside.changes import changes_may_decide
from dasd_bench.sandbox.inside.shared import JUDGE, PROGRAM, Shared, SharingDecoder, SharingEncoder
from dasd_bench.sandbox.inside.wire import WireError
from tests.sandbox.test_objects import in_plain_python

#: Tests, and programs that pass them or do not.
CASES: dict[str, tuple[str, list[str]]] = {
    'in place and returned 2': (
        'v = [3, 1]\nassert f(v) is v\nassert v == [1, 3]',
        ['def f(v):\n    v.sort()\n    return v', 'def f(v): return sorted(v)', 'def f(v): return v'],
    ),
    'orig kept': (
        'v = [3, 1]\norig = list(v)\nout = f(v)\nassert out is v\nassert out == sorted(orig)',
        ['def f(v):\n    v.sort()\n    return v', 'def f(v): return sorted(v)', 'def f(v):\n    v.clear()\n    return v'],
    ),
    'leetcode': (
        'v = [1, 1, 2]\nk = f(v)\nassert k == 2\nassert v[:k] == [1, 2]',
        ['def f(v):\n    s = sorted(set(v))\n    v[:len(s)] = s\n    return len(s)', 'def f(v): return len(set(v))'],
    ),
    'leetcode loop': (
        'for v, k, want in [([1, 1, 2], 2, [1, 2]), ([3], 1, [3])]:\n    assert f(v) == k\n    assert v[:k] == want',
        ['def f(v):\n    s = sorted(set(v))\n    v[:len(s)] = s\n    return len(s)', 'def f(v): return len(set(v))'],
    ),
    'dict changed and returned': (
        "d = {'a': 1}\nr = f(d)\nassert r is d\nassert d == {'a': 1, 'b': 2}",
        ["def f(d):\n    d['b'] = 2\n    return d", "def f(d): return {**d, 'b': 2}"],
    ),
    'pass twice': (
        'v = [1]\nassert f(v, v) == 2',
        ['def f(a, b):\n    a.append(1)\n    return len(b)', 'def f(a, b): return len(a) + 1', 'def f(a, b): return len(b)'],
    ),
    'pass twice is': (
        'v = [1]\nassert f(v, v) is True\nassert f(v, [1]) is False',
        ['def f(a, b): return a is b', 'def f(a, b): return a == b'],
    ),
    'rows aliased': (
        'assert f([[0] * 2] * 2) == [[1, 0], [1, 0]]',
        ['def f(m):\n    m[0][0] = 1\n    return m', 'def f(m): return [[1, 0], [1, 0]]', 'def f(m):\n    m = [list(r) for r in m]\n    m[0][0] = 1\n    return m'],
    ),
    'result holds arg': (
        "v = [1]\nout = f(v)\nassert out['x'] is v",
        ["def f(v): return {'x': v}", "def f(v): return {'x': list(v)}"],
    ),
    'result holds arg changed': (
        'v = [1]\nout = f(v)\nassert out[0] is v\nassert v == [1, 9]',
        ['def f(v):\n    v.append(9)\n    return [v]', 'def f(v): return [v]', 'def f(v): return [v + [9]]'],
    ),
    'arg stored in result, later change': (
        'v = [1]\nout = f(v)\nv.append(2)\nassert out == [[1, 2]]',
        ['def f(v): return [v]', 'def f(v): return [list(v)]'],
    ),
    'rows the same': (
        'm = f(2)\nassert m[0] is m[1]',
        ['def f(n): return [[0]] * n', 'def f(n): return [[0] for _ in range(n)]'],
    ),
    'cache': (
        'a = f(1)\nb = f(1)\nassert a is b',
        ['import functools\n@functools.lru_cache\ndef f(x): return [x]', 'def f(x): return [x]'],
    ),
    'default shared': (
        'a = f(1)\nb = f(2)\nassert a == [1, 2] and a is b',
        ['def f(x, seen=[]):\n    seen.append(x)\n    return seen', 'def f(x): return [x]'],
    ),
    'global read': (
        'f(1)\nf(2)\nassert SEEN == [1, 2]',
        ['SEEN = []\ndef f(x): SEEN.append(x)', 'SEEN = []\ndef f(x): pass'],
    ),
    'global rebound': (
        'assert COUNT == 0\nf()\nassert COUNT == 1',
        ['COUNT = 0\ndef f():\n    global COUNT\n    COUNT += 1', 'COUNT = 0\ndef f(): pass'],
    ),
    'global constant': (
        'assert f(LIMIT) == 10',
        ['LIMIT = 9\ndef f(x): return x + 1', 'LIMIT = 9\ndef f(x): return x'],
    ),
    'singleton': (
        'assert S() is S()',
        ['class S:\n    one = None\n    def __new__(cls):\n        if cls.one is None: cls.one = object.__new__(cls)\n        return cls.one\ndef f(): pass', 'class S: pass\ndef f(): pass'],
    ),
    'singleton 2': (
        'a = S()\nb = S()\nassert a is b\na.x = 1\nassert b.x == 1',
        ['class S:\n    one = None\n    def __new__(cls):\n        if cls.one is None: cls.one = object.__new__(cls)\n        return cls.one\ndef f(): pass', 'class S: pass\ndef f(): pass'],
    ),
    'fluent': (
        'b = B()\nassert b.add(1) is b\nassert b.add(2).items == [1, 2]',
        ['class B:\n    def __init__(self): self.items = []\n    def add(self, x):\n        self.items.append(x)\n        return self\ndef f(): pass', 'class B:\n    def __init__(self): self.items = []\n    def add(self, x):\n        n = B()\n        n.items = self.items + [x]\n        return n\ndef f(): pass'],
    ),
    'stack loads': (
        's = S()\nv = [1]\ns.load(v)\ns.push(2)\nassert v == [1, 2]',
        ['class S:\n    def load(self, v): self.v = v\n    def push(self, x): self.v.append(x)\ndef f(): pass', 'class S:\n    def load(self, v): self.v = list(v)\n    def push(self, x): self.v.append(x)\ndef f(): pass'],
    ),
    'stack copies': (
        's = S()\nv = [1]\ns.load(v)\nv.append(5)\nassert s.size() == 1',
        ['class S:\n    def load(self, v): self.v = v\n    def size(self): return len(self.v)\ndef f(): pass', 'class S:\n    def load(self, v): self.v = list(v)\n    def size(self): return len(self.v)\ndef f(): pass'],
    ),
    'exception after change wanted': (
        'v = [1]\ntry:\n    f(v)\nexcept ValueError:\n    pass\nassert v == [1, 2]',
        ['def f(v):\n    v.append(2)\n    raise ValueError', 'def f(v): raise ValueError'],
    ),
    'swap': (
        'a, b = [1], [2]\nr = f(a, b)\nassert r[0] is b and r[1] is a',
        ['def f(a, b): return b, a', 'def f(a, b): return list(b), list(a)'],
    ),
    'two args change': (
        'a, b = [1], [2]\nr = f(a, b)\nassert r == 2\nassert a == [1, 2] and b == []',
        ['def f(a, b):\n    a += b\n    b.clear()\n    return len(a)', 'def f(a, b): return 2'],
    ),
    'method returns': (
        'v = [[1, 2], [3]]\nassert f(v) is v[0]',
        ['def f(v): return max(v, key=len)', 'def f(v): return [1, 2]'],
    ),
    'tuple': (
        'v = (1, [2])\nr = f(v)\nassert r is v',
        ['def f(v): return v', 'def f(v): return (1, [2])'],
    ),
    'tuple inner': (
        'v = (1, [2])\nr = f(v)\nassert r[1] is v[1]\nassert v == (1, [2, 3])',
        ['def f(v):\n    v[1].append(3)\n    return v', 'def f(v): return v'],
    ),
    'generator aliased': (
        'v = [1, 2]\ng = f(v)\nassert next(g) == 1\nv.append(3)\nassert list(g) == [2, 3]',
        ['def f(v): yield from v', 'def f(v): return iter(list(v))'],
    ),
    'callback sees arg': (
        'v = [1]\nout = f(lambda x: x.append(2), v)\nassert v == [1, 2]\nassert out == 1',
        ['def f(g, v):\n    g(v)\n    return 1', 'def f(g, v):\n    g(list(v))\n    return 1'],
    ),
    'callback object': (
        'v = [1]\ngot = []\nf(got.append, v)\nassert got[0] is v',
        ['def f(g, v): g(v)', 'def f(g, v): g(list(v))'],
    ),
    'linked list reverse': (
        'class N:\n    def __init__(s, v, n=None): s.v, s.n = v, n\na = N(1); b = N(2, a)\nr = f(b)\nassert r is a\nassert a.n is b and b.n is None',
        ['def f(h):\n    p = None\n    while h: h.n, p, h = p, h, h.n\n    return p', 'def f(h): return h.n'],
    ),
    'chain': (
        'v = [3, 1]\nassert f(v) == v == [1, 3]',
        ['def f(v):\n    v.sort()\n    return v', 'def f(v): return sorted(v)'],
    ),
    'out eq v': (
        'v = [3, 1]\nout = f(v)\nassert out == v\nassert v == [1, 3]',
        ['def f(v):\n    v.sort()\n    return v', 'def f(v): return sorted(v)'],
    ),
    'id': (
        'v = [3, 1]\ni = id(v)\nassert id(f(v)) == i',
        ['def f(v):\n    v.sort()\n    return v', 'def f(v): return sorted(v)'],
    ),
    'bytearray': (
        "v = bytearray(b'a')\nout = f(v)\nassert out is v and v == b'ab'",
        ["def f(v):\n    v += b'b'\n    return v", "def f(v): return v + b'b'"],
    ),
    'deque': (
        'from collections import deque\nv = deque([1, 2])\nout = f(v)\nassert out is v and list(v) == [2, 1]',
        ['def f(v):\n    v.rotate(1)\n    return v', 'def f(v):\n    w = v.copy()\n    w.rotate(1)\n    return w'],
    ),
    'defaultdict': (
        'from collections import defaultdict\nv = defaultdict(list)\nout = f(v)\nassert out is v and v == {1: [2]}',
        ['def f(v):\n    v[1].append(2)\n    return v', 'def f(v): return {1: [2]}'],
    ),
    'matrix in place': (
        'm = [[1, 2], [3, 4]]\nrow = m[0]\nout = f(m)\nassert out is m\nassert m[0] is row\nassert m == [[1, 3], [2, 4]]',
        ['def f(m):\n    m[0][1], m[1][0] = m[1][0], m[0][1]\n    return m', 'def f(m):\n    m[:] = [list(r) for r in zip(*m)]\n    return m'],
    ),
    'star': (
        'args = ([1], [2])\nassert f(*args) is args[1]',
        ['def f(a, b): return b', 'def f(a, b): return [2]'],
    ),
    'in list': (
        'v = [1]\nassert any(x is v for x in f(v))',
        ['def f(v): return [0, v]', 'def f(v): return [0, [1]]'],
    ),
    'global list returned': (
        'a = f()\na.append(1)\nassert f() == [1]',
        ['L = []\ndef f(): return L', 'def f(): return []'],
    ),
    'remembers object': (
        "v = [1]\nf(v)\nassert f(v) == 'again'",
        ["L = []\ndef f(v):\n    if any(x is v for x in L): return 'again'\n    L.append(v)\n    return 'new'", "def f(v): return 'new'"],
    ),
    'returns defaultdict': (
        "r = f()\nassert r['x'] == []\nassert r == {'x': []}",
        ['from collections import defaultdict\ndef f(): return defaultdict(list)', "def f(): return {}"],
    ),
    'node same': (
        'class N:\n    def __init__(s, v): s.v = v\nn = N(1)\nassert f(n) is n\nassert n.v == 2',
        ['def f(n):\n    n.v += 1\n    return n', 'import copy\ndef f(n):\n    m = copy.copy(n)\n    m.v += 1\n    return m'],
    ),
    'nested deep': (
        "v = {'a': [{'b': [1]}]}\nr = f(v)\nassert r is v['a'][0]['b']\nassert v == {'a': [{'b': [1, 2]}]}",
        ["def f(v):\n    v['a'][0]['b'].append(2)\n    return v['a'][0]['b']", 'def f(v): return [1, 2]'],
    ),
    'twice in list': (
        'v = [1]\nr = f([v, v])\nassert r == 2\nassert v == [1, 5]',
        ['def f(p):\n    p[0].append(5)\n    return len(p[1])', 'def f(p): return 2'],
    ),
    'kw and pos': (
        'v = [1]\nassert f(v, b=v) == 2',
        ['def f(a, b):\n    a.append(1)\n    return len(b)', 'def f(a, b): return len(b)'],
    ),
    'results aliased': (
        'a, b = f()\na.append(1)\nassert b == [1]',
        ['def f():\n    x = []\n    return x, x', 'def f(): return [], []'],
    ),
    'result mutates later': (
        'log = f(1)\nf(2)\nassert log == [1, 2]',
        ['L = []\ndef f(x):\n    L.append(x)\n    return L', 'def f(x): return [x]'],
    ),
    'class keeps': (
        'v = [1]\ns = S(v)\nassert s.items is v',
        ['class S:\n    def __init__(self, v): self.items = v\ndef f(): pass', 'class S:\n    def __init__(self, v): self.items = list(v)\ndef f(): pass'],
    ),
    'tuple result': (
        'v = [2, 1]\nr, n = f(v)\nassert r is v and n == 2 and v == [1, 2]',
        ['def f(v):\n    v.sort()\n    return v, len(v)', 'def f(v): return sorted(v), len(v)'],
    ),
    'while': (
        'v = [1, 2, 3]\nn = 0\nwhile v:\n    f(v)\n    n += 1\n    if n > 5: break\nassert n == 3',
        ['def f(v): v.pop()', 'def f(v): return v[:-1]'],
    ),
    'while value': (
        'v = [3, 1, 2]\ngot = []\nwhile v:\n    got.append(f(v))\n    if len(got) > 5: break\nassert got == [1, 2, 3]',
        ['def f(v):\n    m = min(v)\n    v.remove(m)\n    return m', 'def f(v): return min(v)'],
    ),
    'memo arg': (
        'memo = {}\nassert f(5, memo) == 5\nassert memo[5] == 5\nassert len(memo) > 1',
        ['def f(n, memo):\n    if n < 2: return n\n    if n not in memo: memo[n] = f(n - 1, memo) + f(n - 2, memo)\n    return memo[n]', 'def f(n, memo):\n    memo[5] = 5\n    return 5', 'def f(n, memo): return 5'],
    ),
    'visited': (
        'seen = set()\nassert f({1: [2], 2: []}, 1, seen) == 2\nassert seen == {1, 2}',
        ['def f(g, n, seen):\n    seen.add(n)\n    for m in g[n]:\n        if m not in seen: f(g, m, seen)\n    return len(seen)', 'def f(g, n, seen): return 2'],
    ),
    'heap': (
        'import heapq\nh = [3, 1, 2]\nr = f(h)\nassert r == 1\nassert sorted(h) == [2, 3]',
        ['import heapq\ndef f(h):\n    heapq.heapify(h)\n    return heapq.heappop(h)', 'def f(h): return min(h)'],
    ),
    'unchanged via deepcopy': (
        'import copy\nv = [[3, 1]]\nbefore = copy.deepcopy(v)\nout = f(v)\nassert v == before\nassert out == [[1, 3]]',
        ['def f(v): return [sorted(x) for x in v]', 'def f(v):\n    for x in v: x.sort()\n    return v'],
    ),
    'global default obj tests': (
        "D = {'n': 0}\nassert f(D) == 1\nassert f(D) == 2\nassert D['n'] == 2",
        ["def f(d):\n    d['n'] += 1\n    return d['n']", 'N = 0\ndef f(d):\n    global N\n    N += 1\n    return N'],
    ),
    'lambda': (
        'v = [1]\ng = lambda: v\nassert f(v) == 1\nassert g() == [1, 2]',
        ['def f(v):\n    v.append(2)\n    return 1', 'def f(v): return 1'],
    ),
    'helper assert': (
        'def case(v, n, want):\n    assert f(v) == n\n    assert v == want\ncase([1, 1], 1, [1])\ncase([2, 1], 2, [1, 2])',
        ['def f(v):\n    v[:] = sorted(set(v))\n    return len(v)', 'def f(v): return len(set(v))'],
    ),
    'comprehension': (
        'vs = [[2, 1], [3]]\nassert [f(v) for v in vs] == [2, 1]\nassert vs == [[1, 2], [3]]',
        ['def f(v):\n    v.sort()\n    return len(v)', 'def f(v): return len(v)'],
    ),
    'str is': (
        "s = 'abc def'\nassert f(s) is s",
        ["def f(s): return s", "def f(s): return ''.join(list(s))"],
    ),
    'set const': (
        'assert LIMITS == (1, 2)\nassert MAXN > 3\nassert f(MAXN) == 5',
        ['LIMITS = (1, 2)\nMAXN = 4\ndef f(x): return x + 1', 'LIMITS = [1, 2]\nMAXN = 4\ndef f(x): return x + 1'],
    ),
    'iterate global': (
        'assert sum(x for x in DATA) == 3\nassert len(DATA) == 2 and DATA[0] == 1',
        ['DATA = [1, 2]\ndef f(): pass', 'DATA = [3]\ndef f(): pass'],
    ),
    'cycle free graph': (
        'class N:\n    def __init__(s, v): s.v, s.kids = v, []\na, b, c = N(1), N(2), N(3)\na.kids = [b, c]\nb.kids = [c]\nassert f(a) == 1\nassert c.v == 4',
        ['def f(n):\n    n.kids[0].kids[0].v += 1\n    return 1 if n.kids[1].v == 4 else 0', 'def f(n): return 1'],
    ),
    'merged into the first': (
        "a, b = {'x': 1}, {'y': 2}\nr = f(a, b)\nassert r is a\nassert a == {'x': 1, 'y': 2}\nassert b == {'y': 2}",
        ['def f(a, b):\n    a.update(b)\n    return a', 'def f(a, b): return {**a, **b}', 'def f(a, b):\n    a.update(b)\n    b.clear()\n    return a'],
    ),
    'one object twice, returned': (
        'v = [1]\nr = f(v, v)\nassert r is v\nassert v == [1, 2]',
        ['def f(a, b):\n    b.append(2)\n    return a', 'def f(a, b): return a + [2]'],
    ),
    'a part given out, then changed': (
        "m = {'a': []}\ninner = f(m)\ninner.append(1)\nassert m == {'a': [1]}",
        ["def f(m): return m['a']", "def f(m): return list(m['a'])"],
    ),
    'unittest': (
        "import unittest\nclass T(unittest.TestCase):\n    def test(self):\n        v = [2, 1]\n        self.assertIs(f(v), v)\n        self.assertEqual(v, [1, 2])\nT('test').debug()",
        ['def f(v):\n    v.sort()\n    return v', 'def f(v): return sorted(v)'],
    ),
    'a counter of the program': (
        'assert f() == 1\nassert f() == 2\nassert N == 2',
        ['N = 0\ndef f():\n    global N\n    N += 1\n    return N', 'N = 0\ndef f(L=[]):\n    L.append(1)\n    return len(L)'],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_verdict_is_plain_pythons(name: str, box: Sandbox) -> None:
    tests, programs = CASES[name]
    inner = "\n".join(f"    {line}" for line in tests.split("\n"))
    problems = [
        Problem("script", "mbpp", entry_point="f", test=tests),
        Problem("check", "humaneval", entry_point="f", test=f"def check(candidate):\n    f = candidate\n{inner}\n"),
    ]
    samples = [Sample(problem.task_id, program) for problem in problems for program in programs]
    results = box.run(samples, problems)
    expected = [in_plain_python(program, tests) for program in programs]
    assert [result.passed for result in results] == expected * 2
    assert {True, False} == set(expected)


#: Expected values made from what the program was passed, and changes on which they would come out as it likes.
EMPTIES = "def f(v):\n    v.clear()\n    return v"
FORGED = {
    "in one expression": ("v = [3, 1]\nassert f(v) == sorted(v)", EMPTIES),
    "one after the other": ("v = [3, 1]\nout = f(v)\nw = v\nassert out == sorted(w)", EMPTIES),
    "compared before the call": ("v = [3, 1]\nassert v == [3, 1]\nassert f(v) == sorted(v)", EMPTIES),
    "in a function of the tests": ("def same(a, b): return a == b\nv = [3, 1]\nassert same(f(v), sorted(v))", EMPTIES),
    "in a method": ("v = [3, 1]\nout = f(v)\nassert set(out).issubset(v) and len(out) == len(v)", EMPTIES),
    "in a library": ("import math\nv = [3, 1]\nassert math.isclose(len(f(v)), sum(v))", EMPTIES),
    "in a loop": ("for v in [[3, 1], [2]]:\n    assert f(v) == sorted(v)", EMPTIES),
    "as a difference": ("v = [3, 1]\nout = f(v)\nassert sum(out) - sum(v) == 0", EMPTIES),
    "by a reference": ("def ref(v): return sorted(v)\nfor c in [[3, 1], [2]]:\n    assert f(c) == ref(c)", EMPTIES),
    "of a part": ("inner = [1, 2]\nv = [inner]\nassert f(v) == sum(inner)", "def f(v):\n    v[0].clear()\n    return 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_changes_to_arguments_forge_nothing(name: str, box: Sandbox) -> None:
    tests, program = FORGED[name]
    assert in_plain_python(program, tests)
    assert not changes_may_decide(ast.parse(tests), {"f"})
    (result,) = box.run([Sample("t", program)], [Problem("t", "mbpp", entry_point="f", test=tests)])
    assert not result.passed


def test_a_program_reaches_only_objects_that_have_crossed() -> None:
    shared = Shared(JUDGE)
    passed, kept = [1], [[2]]
    encoder = SharingEncoder(lambda *_: None, 1 << 20, True, shared)
    encoder.start()
    frame = encoder.frame(["call", encoder.pack(passed)])
    number = shared.find(passed)
    assert f'"&{number}":[1]'.encode() in frame
    decoder = SharingDecoder({}, shared)
    assert decoder.message(f'["sync",{{"&{number}":[7]}}]'.encode())[1] is passed
    assert (passed, kept) == ([7], [[2]])
    for text in ('["v",{"=":99}]', '["v",{"=":"0"}]', '["v",{"&x":[1]}]', f'["v",{{"&{number}":[1],"=":0}}]'):
        with pytest.raises(WireError):
            decoder.message(text.encode())
    other = decoder.message(f'["v",{{"&{number}":{{"d":[1,2]}}}}]'.encode())[1]
    assert (other, passed) == ({1: 2}, [7])
    assert Shared(PROGRAM).number(kept) != Shared(JUDGE).number(kept)
