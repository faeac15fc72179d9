"""A run's training targets as JSON lines, in the form that the method ``external`` reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from dasd_bench.errors import StoreError, UsageError
from dasd_bench.files.jsonl import dump_rows, numbered_rows
from dasd_bench.results.directory import RunDirectory
from dasd_bench.results.schema import RunResults
from dasd_bench.store.atomic import write_bytes
from dasd_bench.store.store import load_ragged


def export_targets(
    run_dir: Path, results: RunResults, row: str | None, seed: int | None, output: Path | None
) -> list[Path]:
    """Writes one file per arm and seed, into ``output`` or the working directory, and gives the files.

    ``row`` and ``seed`` choose; raises :class:`UsageError` where that leaves nothing. The weights are the static ones:
    a method that weighs by the live model has weight 1 here.
    """
    chosen = [
        (arm, one.seed)
        for arm in results.arms
        for one in arm.seeds
        if row in (None, arm.label) and seed in (None, one.seed)
    ]
    if not chosen:
        known = ", ".join(arm.label for arm in results.arms)
        raise UsageError(f"Run {results.run_id} has no such row or seed; its rows are {known}.")
    written = []
    for arm, number in chosen:
        folder = RunDirectory(run_dir).arm(arm.directory, number)
        # Without the signs that an arm's label cannot hold: ``--targets`` takes the file.
        file = (output or Path()) / f"{re.sub('[+*,]', '-', arm.directory)}-seed{number}.jsonl"
        write_bytes(file, dump_rows(target_lines(folder.targets, folder.tokens)))
        written.append(file)
    return written


def target_lines(targets: Path, tokens: Path) -> list[dict[str, Any]]:
    """The rows of one arm and seed."""
    try:
        rows = [row for _, row in numbered_rows(targets, error=StoreError, hint="run the command again")]
    except FileNotFoundError:
        raise StoreError(f"{targets} is not there; run the command again.") from None
    arrays, _ = load_ragged(tokens)
    if len(arrays.get("token_ids", ())) != len(rows):
        raise StoreError(f"{targets} and {tokens} differ in length; run the command again.")
    return [
        {
            "id": row["id"],
            "messages": row.get("messages", [{"role": "user", "content": row["prompt"]}]),
            "target": row["target"],
            "token_ids": ids.tolist(),
            "weights": [float(weight) for weight in weights],
        }
        for row, ids, weights in zip(rows, arrays["token_ids"], arrays["weights"], strict=True)
    ]
