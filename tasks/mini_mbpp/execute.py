"""The score of ``mini_mbpp`` for stock lm-eval, with the standard library alone.

A plain subprocess with a time limit: not a sandbox, and the reason why the YAML says ``unsafe_code``. dasd-bench
replaces this by its own sandbox.
"""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

SECONDS = 5.0
FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """1 where the completion passes all asserts of the row."""
    blocks = FENCE.findall(results[0])
    code = blocks[-1] if blocks else results[0]
    done = "print('all asserts passed')"
    program = "\n".join([doc["test_setup_code"], code, *doc["test_list"], done])
    try:
        ran = subprocess.run(
            [sys.executable, "-I", "-c", program], capture_output=True, timeout=SECONDS, stdin=subprocess.DEVNULL
        )
    except (subprocess.TimeoutExpired, ValueError, OSError):
        return {"pass_at_1": 0.0}
    return {"pass_at_1": float(ran.returncode == 0 and b"all asserts passed" in ran.stdout)}
