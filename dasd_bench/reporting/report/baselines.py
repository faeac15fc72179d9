"""The table of scores against each row, so that a page can switch the baseline without computing anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dasd_bench.reporting.entries import entries
from dasd_bench.reporting.report.verdict import verdict
from dasd_bench.reporting.scores import baseline_entry, run_table
from dasd_bench.reporting.table import Table
from dasd_bench.results.schema import RunResults

MOST_BASELINES = 12
"""Rows offered as the baseline: each one's tests and intervals take up to a few seconds and 10 to 30 kB of the page."""

NONE = "none"
"""What the switch calls the baseline of a page whose default one was not scored."""


@dataclass(frozen=True, slots=True)
class Compared:
    """The scores with differences and tests against the row ``label``; ``shown`` is the one the page opens with."""

    label: str
    verdict: list[str]
    table: Table
    shown: bool


def comparisons(results: Sequence[RunResults], tables: Sequence[Table], baseline: str) -> list[Compared]:
    """One entry for each of the first rows that all runs have; ``tables`` holds that against ``baseline``."""
    first = next(table for table in tables if table.key == "scores")
    entry = baseline_entry(results[0], baseline)
    current = NONE if entry is None else entry.label
    shared = [{one.label for one in entries(run)} for run in results]
    labels = [one.label for one in entries(results[0]) if all(one.label in found for found in shared)]
    if current not in labels[:MOST_BASELINES]:
        labels = [current, *(label for label in labels if label != current)]
    found = []
    for label in labels[:MOST_BASELINES]:
        shown = label == current
        table = first if shown else run_table(results, baseline=label)
        found.append(Compared(label, verdict(results, table, baseline if shown else label), table, shown))
    return found
