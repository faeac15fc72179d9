# ruff: noqa: E501 (answers read better on one line)
"""Chat answers that held a right program which was not found, or a wrong one which passed: kinds from public reports.

Each answer is executed as ``dasd-bench exec --extract`` does, so the verdict is what counts, not the extracted text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from dasd_bench.sandbox import Outcome, Problem, Sample, Sandbox, extract_code

ONE = Problem("one", "humaneval", entry_point="foo", test="def check(candidate):\n    assert candidate() == 1\n")
FOO = "def foo():\n    return 1\n"
USES_HELPER = "def foo():\n    return helper()\n"
HELPER = "def helper():\n    return 1\n"
WRONG = "def foo():\n    return 2\n"


def fenced(code: str, language: str = "python") -> str:
    return f"```{language}\n{code}```\n"


def quoted(text: str, mark: str = "> ") -> str:
    return "".join(f"{mark}{line}\n" for line in text.splitlines())


RIGHT = {
    # Cut off behind the program
    "cut in a call": f"Here:\n```python\n{FOO}\n# Example\nprint(foo(",
    "cut in a name": f"```python\n{FOO}\npri",
    "cut in a text": f'```python\n{FOO}\nprint("the res',
    "cut in an assignment": f"```python\n{FOO}\nresult = fo",
    "cut in an assertion": f"```python\n{FOO}\nassert foo() ==",
    "cut in a main block": f'```python\n{FOO}\nif __name__ == "__main__":\n    for i in range(',
    "cut in a test function": f"```python\n{FOO}\ndef test_foo():\n    assert foo(",
    "cut in a test class": f"```python\n{FOO}\nclass TestFoo:\n    def test(self):\n        x = [",
    "cut in a later version": f"{fenced(FOO)}Shorter:\n```python\ndef foo():\n    return (",
    "cut in a comment": f"```python\n{FOO}\n# Exam",
    "cut in an open text of three quotes": f'```python\n{FOO}\n"""\nExample: foo()',
    "an escape that warns": fenced(f'import re\nPATTERN = re.compile("\\d+")\n{FOO}'),
    "cut without a fence": f"{FOO}\nprint(foo(",
    # Prose in fences
    "prose in an open fence": f"```python\n{FOO}\nThis function returns one.",
    "prose in a closed fence": f"```python\n{FOO}\nThis function returns one.\n```",
    "prose before, in the fence": f"```python\nHere is the function:\n\n{FOO}```",
    "prose that starts with a keyword": f"```python\n{FOO}\nfor example, foo() is always one.\n\nif you call it twice, the same.\n```",
    "a list in the fence": f"```python\n{FOO}\nExplanation:\n1. It returns `1`.\n- That is all.\n```",
    "headings in the fence": f"```python\n{FOO}\n**Explanation**\n\nIt's O(1).\n```",
    "prose between two functions": f"```python\n{USES_HELPER}\nAnd the helper is this one.\n\n{HELPER}```",
    "one word": f"```python\n{FOO}\nExplanation\n```",
    "words that are Python": f"```python\n{FOO}\nNote: simple\nThis is it\nfast, simple\n```",
    "words that are Python, no fence": f"{FOO}\nDone\n",
    "prose of two lines": f"```python\n{FOO}\nThis returns one\nif it is called.\n```",
    # Stubs and signatures
    "signature with an ellipsis last": f"{fenced(FOO)}Signature:\n{fenced('def foo(): ...' + chr(10))}",
    "signature with pass last": f"{fenced(FOO)}{fenced('def foo():' + chr(10) + '    pass' + chr(10))}",
    "docstring alone last": f"{fenced(FOO)}{fenced('def foo():' + chr(10) + '    ' + chr(34) * 3 + 'One.' + chr(34) * 3 + chr(10))}",
    "not implemented last": f"{fenced(FOO)}{fenced('def foo():' + chr(10) + '    raise NotImplementedError' + chr(10))}",
    "signature without a body last": f"{fenced(FOO)}{fenced('def foo() -> int:' + chr(10))}",
    "stub first": f"{fenced('def foo(): ...' + chr(10))}{fenced(FOO)}",
    "stub in prose": f"{FOO}\nwith the signature\n\ndef foo(): ...\n",
    # Marks around it
    "quoted": quoted(fenced(FOO)),
    "quoted without a space": quoted(fenced(FOO), ">"),
    "quoted twice": quoted(quoted(fenced(FOO))),
    "quoted, prose around it": f"As asked:\n\n{quoted(fenced(FOO))}\nDone.",
    "quoted without a fence": quoted(FOO),
    "tildes": f"~~~python\n{FOO}~~~",
    "tildes around backticks": f"~~~~\n```python\n{FOO}```\n~~~~",
    "markdown around it": f"````markdown\n{fenced(FOO)}````",
    "indented": "1. So:\n\n" + "".join(f"    {line}\n" for line in fenced(FOO).splitlines()),
    "indented by a tab": "".join(f"\t{line}\n" for line in fenced(FOO).splitlines()),
    "fence in the docstring": '```python\ndef foo():\n    """One.\n\n    ```python\n    foo()\n    ```\n    """\n    return 1\n```',
    "fence in the docstring, cut": '```python\ndef foo():\n    """One.\n\n    ```\n    foo()\n    ```\n    """\n    return 1\n\nprint(fo',
    "examples in the docstring, cut": '```python\ndef foo():\n    """One.\n    >>> foo()\n    1\n    """\n    return 1\n\nprint(foo(',
    "codellama's marks": f"[PYTHON]\n{FOO}[/PYTHON]\n[TESTS]\nassert foo() == 1\n[/TESTS]",
    "tags on the program's lines": f"<pre><code>{FOO.rstrip()}</code></pre>\nDone.",
    "three quotes for a fence": f"Here:\n'''python\n{FOO}'''\nDone.",
    "tags": f"<code>\n{FOO}</code>",
    "one line between backticks": "Use `def foo(): return 1`.",
    "one line in a fence": "```python def foo(): return 1```",
    "a thought before": f"<think>\nPerhaps\n{fenced(WRONG)}but no.\n</think>\n{fenced(FOO)}",
    "windows lines": fenced(FOO).replace("\n", "\r\n"),
    # Languages
    **{
        f"language {name!r}": fenced(FOO, name)
        for name in ("", "Python", "python3", "python3.11", "py", "ipython", "{.python}", "{python}", " python",
                     "python:foo.py", 'python title="foo.py"', "python {linenos=true}", "text", "foo.py", "tool_code")
    },
    "language on a line of its own": f"```\npython\n{FOO}```",
    "another language's program last": f"{fenced(FOO)}{fenced('function foo() { return 1 }' + chr(10), 'js')}",
    "program in an unknown language, imports in Python": f"{fenced('import math' + chr(10))}{fenced(FOO, 'solution')}",
    # Notebooks and sessions
    "pip": fenced(f"!pip install numpy\n{FOO}"),
    "pip without a mark": fenced(f"pip install numpy\n{FOO}"),
    "magic": fenced(f"%matplotlib inline\n%%time\n{FOO}"),
    "commands behind it": fenced(f"{FOO}\n!python foo.py\n%timeit foo()\n"),
    "a command in a block": fenced(f"try:\n    import math\nexcept ImportError:\n    !pip install math\n{FOO}"),
    "pip without a fence": f"!pip install numpy\n\n{FOO}",
    "session": "```python\n>>> def foo():\n...     return 1\n...\n>>> foo()\n1\n```",
    "session without a fence": "So:\n\n>>> def foo():\n...     return 1\n...\n>>> foo()\n1\n",
    "session with an error": "```pycon\n>>> def foo():\n...     return 1\n>>> foo(1)\nTraceback (most recent call last):\nTypeError\n```",
    "notebook session": "```\nIn [1]: def foo():\n   ...:     return 1\n\nIn [2]: foo()\nOut[2]: 1\n```",
    # Several blocks
    "helper later": f"{fenced(USES_HELPER)}Helper:\n{fenced(HELPER)}",
    "helper later, with its usage": f"{fenced(USES_HELPER)}{fenced(HELPER + 'assert helper() == 2' + chr(10))}",
    "helper earlier, with its usage": f"{fenced(HELPER + 'assert helper() == 2' + chr(10))}{fenced(USES_HELPER)}",
    "helpers of helpers": f"{fenced(USES_HELPER)}{fenced('def helper():' + chr(10) + '    return deep()' + chr(10))}{fenced('def deep(): return 1' + chr(10))}",
    "import later": f"{fenced('def foo():' + chr(10) + '    return math.floor(1.5)' + chr(10))}{fenced('import math' + chr(10))}",
    "constant later": f"{fenced('def foo():' + chr(10) + '    return ONE' + chr(10))}{fenced('ONE = 1' + chr(10))}",
    "helper of a first version": f"{fenced(HELPER + WRONG)}{fenced(USES_HELPER)}",
    "last version wins": f"{fenced(WRONG)}Better:\n{fenced(FOO)}",
    "usage that imports it": f"{fenced(FOO)}{fenced('from foo import foo' + chr(10) + 'print(foo())' + chr(10))}",
    "a lambda": f"{fenced(WRONG)}or\n{fenced('foo = lambda: 1' + chr(10))}",
    "a class, and the function of it": f"{fenced('class Solution:' + chr(10) + '    def foo(self): return 1' + chr(10))}{fenced('foo = Solution().foo' + chr(10))}",
    "a class first": f"{fenced('class Solution:' + chr(10) + '    def foo(self): return 2' + chr(10))}{fenced(FOO)}",
    "tests last": f"{fenced(FOO)}{fenced('def test_foo():' + chr(10) + '    assert foo() == 1' + chr(10))}",
    # No fence
    "prose around it": f"Sure, here it is:\n\n{FOO}\nIt returns one, as asked.",
    "decorated": f"So:\n\nimport functools\n\n@functools.cache\n{FOO}\nThat's it!",
}  # fmt: skip

#: Answers to a prompt that ends in ``def bar():``.
BODIES = {
    "plain": "    return 1\n",
    "fenced": fenced("    return 1\n"),
    "cut behind it": "    return 1\n\nprint(bar(",
    "prose behind it": "    return 1\n\nIt returns one.",
    "helper later": f"{fenced('    return helper()' + chr(10))}{fenced(HELPER)}",
}

#: What must not pass: it is no program, or another one than what was written.
NOT_RIGHT = {
    "cut in the function": "```python\ndef foo():\n    if True:\n        return 1\n    for i in range(",
    "cut in the function, no fence": "def foo():\n    if True:\n        return 1\n    for i in range(",
    "cut in the function's list": "```python\ndef foo():\n    if True:\n        return 1\n    x = [\n        1,",
    "a line that is no Python in a closed fence": fenced(f"{FOO}\nprint(foo(\n"),
    "a wrong assignment in front": fenced(f"y = = 3\n{FOO}"),
    "a line that is no Python before the cut": f"```python\n{FOO}\ny = = 3\nprint(foo(",
    "a text without an end in a closed fence": fenced(f'{FOO}\nprint("some words\n'),
    "a name that is nowhere": f"```python\n{FOO}\nx == 1\n",
    "a statement that fails, not cut": f"{FOO}\nresult = foo(n)\n",
    "an unfinished block behind": fenced(f"{FOO}\nfor i in range(3):\n"),
    "only a stub": fenced("def foo(): ...\n"),
    "only a class": fenced("class Solution:\n    def foo(self):\n        return 1\n"),
    "the last version is wrong": fenced(FOO) + fenced(WRONG),
    "no program": "It returns 1.",
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(workers=1, required_level="rlimits", allow_unsafe=True) as started:
        yield started


def test_right_programs_are_found(sandbox: Sandbox) -> None:
    results = sandbox.run([Sample("one", extract_code(text, "foo")) for text in RIGHT.values()], [ONE])
    failed = {name: result.detail for name, result in zip(RIGHT, results, strict=True) if not result.passed}
    assert not failed


def test_bodies_of_functions_are_found(sandbox: Sandbox) -> None:
    problem = replace(ONE, prompt='def bar():\n    """One."""\n', entry_point="bar")
    results = sandbox.run([Sample("one", extract_code(text, "bar")) for text in BODIES.values()], [problem])
    assert [name for name, result in zip(BODIES, results, strict=True) if not result.passed] == []


def test_what_is_wrong_stays_wrong(sandbox: Sandbox) -> None:
    results = sandbox.run([Sample("one", extract_code(text, "foo")) for text in NOT_RIGHT.values()], [ONE])
    assert [name for name, result in zip(NOT_RIGHT, results, strict=True) if result.passed] == []
    assert all(result.outcome is not Outcome.INFRASTRUCTURE_ERROR for result in results)
