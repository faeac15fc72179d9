"""The process that runs math-verify: ``[gold, answer]`` as a JSON line in, ``true`` or ``false`` as a line out."""

from __future__ import annotations

import json
import resource
import sys

MEMORY = 4 << 30
"""Address space in bytes: an answer such as 9^9^9^9 must not take the machine down."""


def main() -> None:
    """Answers until its input ends. Says ``ready`` first."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    from math_verify import parse, verify

    # The first comparison loads grammars and tables; its time must not be counted against the first answer.
    verify(parse("\\boxed{\\frac{1}{2}x}"), parse("\\boxed{x/2}"))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        gold, answer = json.loads(line)
        try:
            # The caller keeps the time: math-verify's own limit would be a signal.
            parsed = [parse(f"\\boxed{{{text}}}", parsing_timeout=None, raise_on_error=True) for text in (gold, answer)]
            same = bool(verify(*parsed, timeout_seconds=None, raise_on_error=True))
        except MemoryError:
            raise
        except Exception:
            same = False
        sys.stdout.write(f"{json.dumps(same)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
