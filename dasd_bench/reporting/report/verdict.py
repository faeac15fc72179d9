"""The sentence at the head of a page: which rows differ significantly from the baseline, and on what."""

from __future__ import annotations

from collections.abc import Sequence

from dasd_bench.reporting.entries import task_infos
from dasd_bench.reporting.format import listing, signed
from dasd_bench.reporting.table import Table
from dasd_bench.results.schema import RunResults

LIMIT = 0.05


def verdict(results: Sequence[RunResults], table: Table, baseline: str) -> list[str]:
    """Sentences on the table of scores: the significant differences, or that there are none; empty without tests."""
    tasks = {task.name: task for task in task_infos(results)}
    named = len(table.groups()) > 1
    tests = 0
    found: dict[str, list[str]] = {"better": [], "worse": []}
    for row in table.rows:
        label = f"{row.label} ({row.group})" if named else row.label
        for name, task in tasks.items():
            cell = row.cell(f"{name}:vs")
            if cell.p_holm is None or cell.value is None:
                continue
            tests += 1
            if cell.p_holm < LIMIT:
                size = f" by {signed(cell.value)} points" if task.percent else ""
                better = (cell.value > 0) is task.higher_is_better
                found["better" if better else "worse"].append(f"{label} on {name}{size}")
    if not tests:
        return []
    how = f"{tests} paired tests, p < .05 after Holm's correction" if tests > 1 else "one paired test, p < .05"
    if not any(found.values()):
        return [f"No method differs significantly from {baseline} ({how})."]
    return [f"Significantly {kind} than {baseline}: {listing(rows)}." for kind, rows in found.items() if rows] + [
        f"{how[0].upper()}{how[1:]}."
    ]
