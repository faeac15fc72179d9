"""What a busy neighbour costs: tokens per second alone, and beside a process that keeps one core busy.

``python -m benchmarks.busy [--spins 300000,2000,0] [--prompts 16]`` measures each setting of GOMP_SPINCOUNT in a
process of its own, alone and with the neighbour in turn, and prints the share of its own quiet speed that each keeps.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

NEIGHBOUR = "while True: pass"


def measure(prompts: int, new_tokens: int) -> float:
    """Generated tokens per second of this process, the better of two tries."""
    from benchmarks.common import load, rows
    from dasd_bench.engine.engine import Engine
    from dasd_bench.engine.requests import GenerateRequest

    model, tokenizer = load("fp32")
    texts = [row["question"] for row in rows(None, "gsm8k", "test", prompts)]
    asked = [GenerateRequest(tokenizer(text)["input_ids"], new_tokens, frozenset()) for text in texts]
    engine = Engine(model, tokenizer)
    engine.generate(asked[:2])
    best = 0.0
    for _ in range(2):
        started = time.perf_counter()
        made = engine.generate(asked)
        best = max(best, sum(len(one.token_ids) for one in made) / (time.perf_counter() - started))
    return best


def in_process(spins: str, prompts: int, new_tokens: int, *, busy: bool) -> float:
    """:func:`measure` in a process with that spin count, beside a busy neighbour or alone."""
    environment = {**os.environ, "GOMP_SPINCOUNT": spins}
    neighbour = subprocess.Popen(["taskset", "-c", "0", sys.executable, "-c", NEIGHBOUR]) if busy else None
    command = [sys.executable, "-m", "benchmarks.busy", "--one", "--prompts", str(prompts), "--new", str(new_tokens)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    finally:
        if neighbour is not None:
            neighbour.kill()
            neighbour.wait()
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spins", default="300000,2000,0")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--new", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--one", action="store_true")
    given = parser.parse_args()
    if given.one:
        print(measure(given.prompts, given.new))
        return
    settings = given.spins.split(",")
    found: dict[tuple[str, bool], list[float]] = {(one, busy): [] for one in settings for busy in (False, True)}
    for number in range(given.rounds):
        for one in settings if number % 2 == 0 else reversed(settings):
            for busy in (False, True):
                found[one, busy].append(in_process(one, given.prompts, given.new, busy=busy))
    for one in settings:
        quiet, beside = (statistics.median(found[one, busy]) for busy in (False, True))
        print(f"GOMP_SPINCOUNT={one}: {quiet:.0f} tok/s alone, {beside:.0f} beside a busy core ({beside / quiet:.2f})")


if __name__ == "__main__":
    main()
