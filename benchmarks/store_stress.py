"""Many processes on one store, killed at random: nothing is lost, nothing is wrong, nobody waits for the dead.

``python benchmarks/store_stress.py --processes 4 --seconds 60 [--damage] [--seed 0] [--store DIR]``

Every worker walks the same chains of stages in a random order (a stage in shards, one made of it, one with shards of
its own) and checks each result against what it must be. The parent kills workers with SIGKILL at random moments and
starts others in their place, prunes entries under their feet, and with ``--damage`` also cuts, flips and removes files.
At the end one undisturbed worker goes through all stages. Prints the counts as JSON; the exit code is 1 where any
result was wrong or any worker failed.
Several hosts: start it on each with the same ``--store``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from dasd_bench.console import Console
from dasd_bench.errors import StoreError
from dasd_bench.run.sharded import run_sharded
from dasd_bench.store.journal import RunJournal
from dasd_bench.store.store import Entry, EntryShards, Row, Store, stage_key
from dasd_bench.store.usage import prune, scan
from dasd_bench.types import TokenScores

CHAINS = 12
ITEMS = 24


def scores(chain: int, index: int) -> TokenScores:
    """The scores that item ``index`` of a chain must have."""
    values = np.sqrt(np.arange(1 + index % 7, dtype=np.float32) + chain)
    return TokenScores(values, values + 1, values + 2, np.arange(len(values), dtype=np.int32))


class Worker:
    """One process at work; ``counts`` says what it did."""

    def __init__(self, root: Path, number: int) -> None:
        self.store = Store(root, RunJournal(root, root.parent / f"run-{number}"))
        self.console = Console(quiet=True)
        self.counts: Counter[str] = Counter()
        self.console.notice = self.tell  # type: ignore[method-assign]

    def tell(self, text: str) -> None:
        """Counts what a user would be told."""
        self.counts["waits" if "Waiting" in text else "mended"] += 1

    def scored(self, chain: int) -> list[TokenScores]:
        """A stage in shards."""

        def compute(indices: Any, _report: Any) -> list[TokenScores]:
            time.sleep(0.01)
            self.counts["shards computed"] += 1
            return [scores(chain, i) for i in indices]

        lengths = [1 + i % 7 for i in range(ITEMS)]
        key = stage_key("score", "stress", chain)
        return run_sharded(
            self.store, self.console, "score", key, TokenScores, lengths, compute, shard_size=4, label="score"
        )[0]

    def chain(self, chain: int) -> bool:
        """One chain of stages; False where a result is not what it must be."""

        def targets(entry: Entry) -> Row:
            data = b"".join(one.logp.tobytes() for one in self.scored(chain))
            entry.put("targets", data)
            return {"sha256": hashlib.sha256(data).hexdigest()}

        def evaluate(entry: Entry) -> Row:
            shards, rows = EntryShards(entry), []
            for number in range(5):
                found = shards.get(str(number))
                if found is None:
                    time.sleep(0.01)
                    found = [{"chain": chain, "number": number}]
                    shards.put(str(number), found)
                rows += found
            return {"rows": rows}

        wanted = b"".join(scores(chain, i).logp.tobytes() for i in range(ITEMS))
        made, _ = self.store.get_or_make("targets", stage_key("targets", "stress", chain), targets, self.tell)
        found, _ = self.store.get_or_make("evaluate", stage_key("evaluate", "stress", chain), evaluate, self.tell)
        self.counts["chains checked"] += 1
        return (
            made.read("targets") == wanted
            and made.meta == {"sha256": hashlib.sha256(wanted).hexdigest()}
            and found.meta == {"rows": [{"chain": chain, "number": number} for number in range(5)]}
        )


def work(root: Path, number: int, seed: int, rounds: int) -> int:
    """A worker's life: one JSON line per chain."""
    worker, drawn = Worker(root, number), random.Random(seed)
    for _ in range(rounds):
        for chain in drawn.sample(range(CHAINS), CHAINS):
            try:
                worker.counts["wrong"] += not worker.chain(chain)
            except StoreError:
                # Damaged or removed between two looks: a run ends with this sentence, and the next one mends it.
                worker.counts["refused"] += 1
            print(json.dumps(worker.counts), flush=True)
            worker.counts.clear()
    return 0


def disturb(root: Path, drawn: random.Random) -> bool:
    """Damages one file of a store."""
    files = [path for path in root.glob("*/*/**/*") if path.is_file() and path.parent.name != "locks"]
    if not files:
        return False
    path = drawn.choice(files)
    try:
        data = bytearray(path.read_bytes())
        kind = drawn.choice(("cut", "flip", "remove"))
        if kind == "remove":
            path.unlink()
        else:
            if kind == "cut":
                del data[len(data) // 2 :]
            elif data:
                data[drawn.randrange(len(data))] ^= 1
            path.write_bytes(data)
    except OSError:
        return False
    return True


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--damage", action="store_true")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=1000, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker is not None:
        return work(given.store, given.worker, given.seed, given.rounds)
    with tempfile.TemporaryDirectory() as scratch:
        root = given.store or Path(scratch) / "store"
        root.mkdir(parents=True, exist_ok=True)
        return stress(root, Path(scratch), given)


def stress(root: Path, scratch: Path, given: argparse.Namespace) -> int:
    """Starts, kills and starts again; then counts."""
    drawn, counts, started = random.Random(given.seed), Counter[str](), 0
    workers: list[subprocess.Popen[bytes]] = []

    def start(rounds: int = 1000) -> subprocess.Popen[bytes]:
        nonlocal started
        started += 1
        command = [sys.executable, __file__, "--store", str(root), "--worker", str(started), "--rounds", str(rounds)]
        with (scratch / f"out-{started}").open("wb") as out:
            return subprocess.Popen([*command, "--seed", str(drawn.randrange(2**31))], stdout=out)

    deadline = time.monotonic() + given.seconds
    while time.monotonic() < deadline:
        workers += [start() for _ in range(given.processes - len(workers))]
        time.sleep(drawn.uniform(0.1, 1.0))
        entries = scan(root)
        gone = prune(root, drawn.sample(entries, min(6, len(entries))), lambda _: None, dry_run=False)
        counts["pruned"] += len(gone)
        if given.damage:
            counts["damaged"] += disturb(root, drawn)
        victim = drawn.choice(workers)
        # A worker needs a second or two to start; the young are spared half the time.
        if drawn.random() < 0.5:
            victim.send_signal(signal.SIGKILL)
            counts["killed"] += victim.wait() == -signal.SIGKILL
            workers.remove(victim)
        for dead in [one for one in workers if one.poll() is not None]:
            counts["failed"] += dead.returncode != 0
            workers.remove(dead)
    for one in workers:
        one.kill()
        one.wait()
    began = time.monotonic()
    counts["failed"] += start(rounds=1).wait() != 0
    counts["last round, seconds"] = round(time.monotonic() - began)
    for path in scratch.glob("out-*"):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                counts.update(json.loads(line))
            except ValueError:
                continue
    counts["workers started"] = started
    counts["locks left"] = len(list((root / "locks").iterdir()))
    print(json.dumps(dict(sorted(counts.items())), indent=1))
    return 1 if counts["wrong"] or counts["failed"] else 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
