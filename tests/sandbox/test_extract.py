"""Regression table of chat answers."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dasd_bench.sandbox import extract_code

F = "def f(x):\n    return x\n"
G = "def g(x):\n    return f(x)\n"
H = "def h(): return 1\n"
B = "    return x\n"
USE = "```python\nassert f(1) == 1\n```"

CASES = {
    "plain code": (F, F),
    "python fence": (f"Here:\n```python\n{F}```\nThat is it.", F),
    "bare fence": (f"```\n{F}```", F),
    "capital language": (f"```Python\n{F}```", F),
    "py fence": (f"```py\n{F}```", F),
    "tilde fence": (f"~~~python\n{F}~~~", F),
    "four backticks": (f"````python\n{F}````", F),
    "windows line ends": (f"```python\r\n{F}```".replace("\n", "\r\n"), F),
    "first line is the def, in the fence's line": ("```def f(x): return x```", "def f(x): return x"),
    "first line starts with def, no language": (f"```\n{F}\n```\n", F),
    "only a closing fence (the opening was in the prompt)": (f"{F}```\nExplanation of def.", F),
    "unclosed fence": (f"Sure.\n```python\n{F}", F),
    "unclosed bare fence": (f"Sure.\n```\n{F}", F),
    "BEGIN DONE": (f"[BEGIN]\n{F}[DONE]\nmore", f"\n{F}"),
    "DONE only": (f"{F}[DONE]\n[BEGIN]\ndef h(): pass\n[DONE]", F),
    "BEGIN never done": (f"[BEGIN]\n{F}", f"\n{F}"),
    "fence within BEGIN": (f"[BEGIN]\n```python\n{F}```\n[DONE]", F),
    "prose before and after, no fence": (f"Sure, here you go:\n\n{F}\nThis returns x, as asked.", F),
    "example block after": (f"```python\n{F}```\nUse it:\n```python\nprint(f(1))\n```", F),
    "shell block before": (f"```bash\npip install x\n```\n```python\n{F}```", F),
    "output block after": (f"```python\n{F}```\nOutput:\n```\n1\n```", F),
    "draft, then the final answer": (f"```python\ndef f(x):\n    return 0\n```\nBetter:\n```python\n{F}```", F),
    "broken draft": (f"```python\n{F}```\n```python\ndef f(x)\n  return\n```", F),
    "imports in a block of their own": (f"```python\nimport math\n```\nthen\n```python\n{F}```", f"import math\n\n{F}"),
    "helper in a block of its own": (
        f"```python\ndef h(): return 1\n```\n```python\n{F}```",
        f"def h(): return 1\n\n{F}",
    ),
    "tests after, calling the function": (f"```python\n{F}```\n```python\nassert f(1) == 1\n```", F),
    "indented in a list": ("1. Do\n   ```python\n   def f(x):\n       return x\n   ```", F),
    "doctest session": ("```\n>>> def f(x):\n...     return x\n```", F),
    "function body only": ("    return x\n", "    return x\n"),
    "body with a blank first line": ("\n    return x\n", "\n    return x\n"),
    "byte order mark": (f"\ufeff{F}", F),
    "nothing like code": ("I cannot do that.", "I cannot do that."),
    "empty": ("", ""),
    "decorated, after prose": (f"Answer:\n@cache\n{F}", f"@cache\n{F}"),
    "closing fence of the prompt's, then an example": (f"{F}```\nExplanation\n{USE}", F),
    "closing fence of the prompt's, then two examples": (f"{F}```\nSee\n{USE}\nand\n```\nf(2)\n```", F),
    "closing fence of the prompt's, then a test": (f"{F}```\n```python\ndef test(): assert f(1)\n```", F),
    "body, closing fence, then an example": (f"{B}```\nExplanation\n{USE}", B),
    "body, closing fence, then a test": (f"{B}```\n```python\ndef test(): assert f(1)\n```", B),
    "body, closing fence on its line": ("    return x```\nIt returns x.", "    return x"),
    "body with a function in it, closing fence": (f"    def h(): return x\n    return h()\n```\n{USE}", None),
    "body, then prose": (f"{B}\nThis returns x, as asked.", B),
    "fenced body, then an example": (f"```python\n{B}```\n{USE}", B),
    "fenced body with a function in it": (
        "```python\n    def h(): return x\n    return h()\n```",
        "    def h(): return x\n    return h()\n",
    ),
    "prose, program, closing fence": (f"Sure, it's this:\n\n{F}```\nDone as asked.", F),
    "prose, program, closing fence, example": (f"Sure, it's this:\n\n{F}```\nUse:\n{USE}", F),
    "import without a fence, then a bare block": (f"import math\n```\n{F}```", F),
    "program begins on the fence's line": (f"```{F}```", F),
    "decorator on the fence's line": (f"```@cache\n{F}```", f"@cache\n{F}"),
    "import on the fence's line": (f"```from math import pi\n{F}```", f"from math import pi\n{F}"),
    "program behind the language": (f"```python {F}```", F),
    "fence at the end of a line": (f"Here's the code: ```python\n{F}```", F),
    "bare fence at the end of a line": (f"Here's the code: ```\n{F}```\nIt returns x.", F),
    "fence in a list": ("- ```python\n  def f(x):\n      return x\n  ```", F),
    "fence at the end of a line, none closed": (f"```python\n{F}\nUse it: ```python\nprint(f(1))\n```", F),
    "inline code in prose": (f"Call ```f(1)```\nas here:\n```python\n{F}```", F),
    "closing fence on the code's line": (f"```python\n{F.strip()}```", F),
    "closing fence on the code's line, then an example": (f"```python\n{F.strip()}```\nUse:\n{USE}", F),
    "closing fence on the code's line, then output": (f"```python\n{F.strip()}```\nIt gives\n```\n1\n```", F),
    "only a closing fence, on the code's line": (f"{F.strip()}```", F.strip()),
    "closing fence cut off": (f"```python\n{F}``", F),
    "closing fence at the code's margin": (f"```python\n{F}    ```\nIt returns x.", F),
    "fence in a docstring": (
        f'```python\ndef f(x):\n    """Doc.\n\n    ```\n    f(1)\n    ```\n    """\n    return x\n```\n{USE}',
        'def f(x):\n    """Doc.\n\n    ```\n    f(1)\n    ```\n    """\n    return x\n',
    ),
    "fence in a docstring, closing fence only": (
        f'def f(x):\n    """Doc.\n\n    ```python\n    f(1)\n    ```\n    """\n    return x\n```\n{USE}',
        'def f(x):\n    """Doc.\n\n    ```python\n    f(1)\n    ```\n    """\n    return x\n',
    ),
    "session in a docstring": (
        '```python\ndef f(x):\n    """\n>>> f(1)\n1\n"""\n    return x\n```',
        'def f(x):\n    """\n>>> f(1)\n1\n"""\n    return x\n',
    ),
    "BEGIN DONE, then an example": (f"[BEGIN]\n{F}[DONE]\nUse it:\n{USE}", f"\n{F}"),
    "BEGIN DONE after a mention": (f"It is between [BEGIN] and [DONE].\n[BEGIN]\n{F}[DONE]", f"\n{F}"),
    "BEGIN DONE mentioned, fence": (f"It is between [BEGIN] and [DONE].\n\n```python\n{F}```", F),
    "BEGIN DONE mentioned, no fence": (f"It is between [BEGIN] and [DONE]:\n\n{F}", F),
    "DONE mentioned": (f"I end with [DONE].\n```python\n{F}```\n[DONE]", F),
    "BEGIN DONE, then a next problem": (f"[BEGIN]\n{F}[DONE]\nNext:\n[BEGIN]\n{H}[DONE]", f"\n{F}"),
    "broken program in BEGIN DONE": ("[BEGIN]\ndef f(x)\n  return\n[DONE]", "\ndef f(x)\n  return\n"),
    "indented, a comment first": ("```\n   # c\n   def f(x):\n       return x\n```", f"# c\n{F}"),
    "indented, an assignment first": ("```\n   A = 1\n   def f(x):\n       return x\n```", f"A = 1\n{F}"),
    "helper, prose, main function": (f"{H}\nand the main one is\n\n{F}", f"{H}\n{F}"),
    "import, prose, main function": (f"import math\n\nand the main one is\n\n{F}", f"import math\n\n{F}"),
    "draft, prose, main function": (f"def f(x): return 0\n\nbut better is\n\n{F}", F),
    "main function, prose, another": (f"{F}\nand its test is\n\n{H}", F),
    "usage before the program": (f"The result is\n\ny = f(1)\n\nwhere it's this:\n\n{F}", F),
    "a constant, prose, main function": (f"N = 3\n\nand the main one is\n\n{F}", f"N = 3\n\n{F}"),
    "program outside, shell block": (f"```bash\npip install x\n```\nand then:\n\n{F}", F),
    "backticks inside a string": ('```python\ndef f(x):\n    return "``"\n```', 'def f(x):\n    return "``"\n'),
}


@pytest.mark.parametrize("name", CASES)
def test_extraction(name: str) -> None:
    text, code = CASES[name]
    if code is None:
        code = text.partition("```")[0]
    assert extract_code(text, "f") == code


def test_the_entry_point_decides_between_blocks() -> None:
    text = f"```python\n{G}```\n```python\ndef h(): pass\n```"
    assert "def g" in extract_code(text, "g")
    assert extract_code(text, "g") == G


NAMES = st.sampled_from(["a", "b2", "total", "_x"])
VALUES = st.sampled_from(["0", "'a`b'", "[x for x in range(3)]", "{'k': (1, 2)}", '"""two\nlines"""', "lambda v: v"])
TOP = st.one_of(
    st.sampled_from(["import math\n", "from math import (\n    pi,\n    e,\n)\n", "import os.path as p\n"]),
    st.builds("{} = {}\n".format, NAMES, VALUES),
    st.builds("class {}:\n    y: int = 1\n\n    def m(self):\n        return {}\n".format, NAMES, VALUES),
    st.builds("@staticmethod\ndef {}(x=1):\n\n    if x:\n        return {}\n    # c\n".format, NAMES, VALUES),
    st.builds("async def {}(x):\n\treturn x\n".format, NAMES),
)
MAIN = st.builds(
    'def f(x):\n    """{}"""\n    y = {}\n\n    return y, x\n'.format,
    st.sampled_from(
        ["Doc.", "Doc.\n\n    >>> f(1)\n    1\n    ", "It's `x`.", "Doc:\n\n    ```\n    f(1)\n    ```\n    "]
    ),
    VALUES,
)
PROGRAMS = st.builds(
    lambda before, main, after: "".join([*before, main, *after]),
    st.lists(TOP, max_size=3), MAIN, st.lists(TOP, max_size=2),
)  # fmt: skip
BEFORE = st.sampled_from(
    ["", "Sure!\n", "Here's the code:\n\n", "We use `f` and don't sort.\n1. One\n2. Two (so:\n", "It's so: "]
)
AFTER = st.sampled_from(
    [
        "",
        "\nThis returns x, as asked.",
        "\nIt's done; e.g. f(1) is 1\n",
        f"\nUse it:\n{USE}\n",
        "\nOutput:\n```\n1\n```\n",
    ]
)
LINES = st.sampled_from(["", "Sure!\n", "Here's the code:\n\n"])
PROSE = st.sampled_from(["", "\nThis returns x, as asked.", "\nIt's done; e.g. f(1) is 1\n"])
DRESSED = {
    "fence": st.tuples(BEFORE, st.sampled_from(["```python\n", "```\n", "```py\n", "````Python\n", "~~~\n"]), AFTER),
    "unclosed fence": st.tuples(BEFORE, st.sampled_from(["```python\n", "```\n"]), st.just(None)),
    "marks": st.tuples(BEFORE, st.just("[BEGIN]\n"), AFTER),
    "closing fence": st.tuples(LINES, st.just(""), AFTER),
    "prose": st.tuples(LINES, st.none(), PROSE),
}


@st.composite
def dressed(draw: st.DrawFn) -> tuple[str, str]:
    """A valid program and a chat answer that holds it."""
    program, way = draw(PROGRAMS), draw(st.sampled_from(sorted(DRESSED)))
    before, opening, after = draw(DRESSED[way])
    if opening == "~~~\n":
        before = before and f"{before.strip()}\n"  # tildes are a fence on a line of their own only
    marker = "".join(letter for letter in opening or "" if letter in "`~")
    closing = {"marks": "[DONE]", "prose": "", "closing fence": "```"}.get(way, marker)
    end = "" if after is None else f"{closing}{after}"
    return program, f"{before}{opening or ''}{program}{end}"


@given(dressed())
def test_a_program_in_any_dress_is_given_back(pair: tuple[str, str]) -> None:
    program, text = pair
    assert ast.dump(ast.parse(extract_code(text, "f"))) == ast.dump(ast.parse(program)), text


@given(st.lists(st.sampled_from([F, B, H, USE, "```", "```python\n", "[BEGIN]", "[DONE]", "It's", "x = (\n", "\n"])))
def test_any_text_gives_code_and_no_error(parts: list[str]) -> None:
    extract_code("".join(parts), "f")
    extract_code("\n".join(parts))


@pytest.mark.parametrize(
    "line",
    ["x = 1", "x = = 3", "x = this is prose", "@a", "def f(x):", "def f(x", "    x = (", "if x:", "```", "```python",
     "It's", "x = (```", "[BEGIN]", "[DONE]", "def g(): return 1```", "import the module", ">>> f(1)", "'\''"],
)  # fmt: skip
def test_a_runaway_answer_is_searched_in_bounded_work(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = 0
    parse = ast.parse

    def counted(source: str) -> ast.Module:
        nonlocal parsed
        parsed += len(source)
        return parse(source)

    monkeypatch.setattr(ast, "parse", counted)
    runaway = f"{line}\n" * 5000
    found = extract_code(f"{F}and so on it goes\n{runaway}", "f")
    assert found == F
    extract_code(runaway, "f")
    # Start times end times a parse of each would be a million times the text.
    assert parsed < 20 * (100_000 + 2 * len(runaway))
