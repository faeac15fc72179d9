"""Which tests ask questions that may hold an answer: theirs are never sent ahead."""

from __future__ import annotations

import pytest

from dasd_bench.sandbox.inside.judge import prepare

FREE = [
    "assert f(1) == 2\nassert f([3]) == f(4)",
    "for x, y in [(1, 2), (3, 4)]:\n    assert f(x) == y",
    "def close(a, b): return abs(a - b) < 1\nassert close(f(1), 2)\nassert close(f(2), 3)",
    "got = [f(x) for x in range(3)]\nassert got == [0, 1, 2]",
]
USING = [
    "assert f(f(1)) == 2",
    "from functools import reduce\nassert reduce(f, [1, 2, 3]) == 6",
    "assert list(map(f, map(f, [1]))) == [1]",
    "from itertools import accumulate\nassert list(accumulate([1, 2], f)) == [1, 3]",
    "from functools import reduce\nassert reduce(lambda a, b: f(a + b), [1, 2]) == 3",
    "from functools import reduce\ndef g(a, b): return f(a + b)\nassert reduce(g, [1, 2]) == 3",
    "match f(1):\n    case x:\n        assert f(x) == 2",
    "g = f\nassert g(g(1)) == 2",
    "class T:\n    def ask(self, x): return f(x)\nt = T()\nassert t.ask(t.ask(1)) == 2",
    "def twice(g):\n    return lambda x: g(g(x))\n@twice\ndef h(x): return f(x)\nassert h(1) == 2",
]


def uses_answers(text: str) -> bool:
    fields = {"kind": "mbpp", "prompt": "", "entry_point": "f", "tests": [text], "test": "", "imports": "", "setup": ""}
    return prepare(fields).questions_use_answers


@pytest.mark.parametrize("text", FREE)
def test_questions_without_answers_may_be_sent_ahead(text: str) -> None:
    assert not uses_answers(text)


@pytest.mark.parametrize("text", USING)
def test_questions_that_may_hold_an_answer_are_found(text: str) -> None:
    assert uses_answers(text)
