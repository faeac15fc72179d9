"""The process that runs math-verify: ``[kind, left, right, cpu_seconds]`` as a JSON line in, ``true`` or ``false`` as a
line out. A comparison that takes more CPU time ends the process by SIGPROF.

Kinds: ``answers`` compares two LaTeX answers, ``texts`` the answers that math-verify finds in two texts (as stock
lm-eval's minerva tasks do), ``difference`` whether sympy simplifies left minus right to 0.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

MEMORY = 4 << 30
"""Address space in bytes: an answer such as 9^9^9^9 must not take the machine down."""
APART = 1e-2
"""math-verify compares six decimals, too few for small numbers: equal ones may differ by this share of the gold."""
NO_NEW_PRIVILEGES = 38
"""prctl's option, without which the kernel takes no filter."""


def questions() -> dict[str, Callable[[str, str], bool]]:
    """The kinds of question, with math-verify loaded."""
    from latex2sympy2_extended.latex2sympy2 import latex2sympy
    from math_verify import parse, verify
    from sympy import N, simplify

    # CPU time is limited here: math-verify's own limit would be of wall time. Golds are asked about again and again.
    read: Any = functools.lru_cache(4096)(functools.partial(parse, parsing_timeout=None))

    def texts(gold: str, text: str) -> bool:
        return bool(verify(read(gold), read(text), timeout_seconds=None))

    def answers(gold: str, answer: str) -> bool:
        gold, answer = f"\\boxed{{{gold}}}", f"\\boxed{{{answer}}}"
        return texts(gold, answer) and ("%" in gold + answer or not far_apart(read(gold), read(answer)))

    def far_apart(gold: Any, answer: Any) -> bool:
        """Whether both are numbers that only rounding to six decimals makes equal: 1/2**99 and 1/2**98."""
        left: Any
        right: Any
        left, right = (one[0] if one else None for one in (gold, answer))
        if not all(getattr(one, "is_number", False) and getattr(one, "is_finite", False) for one in (left, right)):
            return False
        left, right = N(left, 15), N(right, 15)
        return bool(abs(left - right) > APART * abs(left))

    def difference(left: str, right: str) -> bool:
        return bool(simplify(latex2sympy(left) - latex2sympy(right)) == 0)

    return {"answers": answers, "texts": texts, "difference": difference}


def limit_resources() -> None:
    """Limits memory to :data:`MEMORY`, or what holds already where that is lower, and written files to nothing."""
    for name, most in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(name)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        # macOS refuses any limit of the address space; the time limit holds there all the same.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(name, (least, least))


def isolate() -> None:
    """Takes away network, new processes and writing, through the sandbox's filter and Landlock, where the kernel can:
    math-verify needs none of them, and the limits above hold without."""
    from dasd_bench.sandbox.inside import kernel, seccomp

    if not kernel.supported():
        return
    with contextlib.suppress(OSError, KeyError):
        kernel.prctl(NO_NEW_PRIVILEGES, 1)
        if kernel.landlock_abi():
            kernel.landlock(kernel.landlock_rules(["/"], []))
        kernel.Filter(seccomp.program(own_pid=os.getpid(), forks=False)).install()


def main() -> None:
    """Answers until its input ends. Says ``ready`` first."""
    limit_resources()
    kinds = questions()
    # The first comparison loads grammars and tables; its time must not be counted against the first answer.
    kinds["answers"]("\\frac{1}{2}x", "x/2")
    isolate()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        kind, left, right, cpu_seconds = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
        try:
            same = kinds[kind](left, right)
        except MemoryError:
            raise
        except Exception:
            same = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.write(f"{json.dumps(same)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
