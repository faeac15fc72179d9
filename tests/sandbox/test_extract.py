"""Regression table of chat answers."""

from __future__ import annotations

import pytest

from dasd_bench.sandbox import extract_code

F = "def f(x):\n    return x\n"
G = "def g(x):\n    return f(x)\n"

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
    "backticks inside a string": ('```python\ndef f(x):\n    return "``"\n```', 'def f(x):\n    return "``"\n'),
}


@pytest.mark.parametrize("name", CASES)
def test_extraction(name: str) -> None:
    text, code = CASES[name]
    assert extract_code(text, "f") == code


def test_the_entry_point_decides_between_blocks() -> None:
    text = f"```python\n{G}```\n```python\ndef h(): pass\n```"
    assert "def g" in extract_code(text, "g")
    assert extract_code(text, "g") == G
