"""The process that runs math-verify: ``[kind, left, right]`` as a JSON line in, ``true`` or ``false`` as a line out.

Kinds: ``answers`` compares two LaTeX answers, ``texts`` the answers that math-verify finds in two texts (as stock
lm-eval's minerva tasks do), ``difference`` whether sympy simplifies left minus right to 0.
"""

from __future__ import annotations

import contextlib
import functools
import json
import resource
import sys
from collections.abc import Callable
from typing import Any

MEMORY = 4 << 30
"""Address space in bytes: an answer such as 9^9^9^9 must not take the machine down."""


def questions() -> dict[str, Callable[[str, str], bool]]:
    """The kinds of question, with math-verify loaded."""
    from latex2sympy2_extended.latex2sympy2 import latex2sympy
    from math_verify import parse, verify
    from sympy import simplify

    # The caller keeps the time: math-verify's own limit would be a signal. Golds are asked about again and again.
    read: Any = functools.lru_cache(4096)(functools.partial(parse, parsing_timeout=None))

    def texts(gold: str, text: str) -> bool:
        return bool(verify(read(gold), read(text), timeout_seconds=None))

    def answers(gold: str, answer: str) -> bool:
        return texts(f"\\boxed{{{gold}}}", f"\\boxed{{{answer}}}")

    def difference(left: str, right: str) -> bool:
        return bool(simplify(latex2sympy(left) - latex2sympy(right)) == 0)

    return {"answers": answers, "texts": texts, "difference": difference}


def limit_memory() -> None:
    """Sets the limit :data:`MEMORY`, or the one that holds already where that is lower."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    most = MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard)
    # macOS refuses any limit of the address space; the time limit holds there all the same.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main() -> None:
    """Answers until its input ends. Says ``ready`` first."""
    limit_memory()
    kinds = questions()
    # The first comparison loads grammars and tables; its time must not be counted against the first answer.
    kinds["answers"]("\\frac{1}{2}x", "x/2")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        kind, left, right = json.loads(line)
        try:
            same = kinds[kind](left, right)
        except MemoryError:
            raise
        except Exception:
            same = False
        sys.stdout.write(f"{json.dumps(same)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
