"""CSV and JSON: raw values, never the rounded text alone. The JSON form is documented in docs/results-schema.md."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from dasd_bench.reporting.compare import Comparison
from dasd_bench.reporting.table import MISSING, Cell, Table
from dasd_bench.results.json_codec import dumps

TABLE_SCHEMA_VERSION = 1
EXTRAS = ("low", "high", "spread", "n", "p", "p_holm")


def json_text(tables: Sequence[Table]) -> str:
    """All tables as one JSON object with a schema version."""
    return dumps({"schema_version": TABLE_SCHEMA_VERSION, "tables": [table_object(table) for table in tables]})


def table_object(table: Table) -> dict[str, Any]:
    """One table as plain JSON types."""
    return {
        "key": table.key,
        "title": table.title,
        "columns": [
            {"key": c.key, "title": c.title.replace("\n", " "), "direction": c.direction or None, "shown": c.shown}
            for c in table.columns
        ],
        "rows": [
            {
                "group": row.group,
                "label": row.label,
                "cells": {c.key: _cell(row.cells[c.key]) for c in table.columns if c.key in row.cells},
            }
            for row in table.rows
        ],
        "caption": table.caption,
        "notes": [note.text for note in table.notes],
        "warnings": table.warnings,
    }


def _cell(cell: Cell) -> dict[str, Any]:
    found = {name: getattr(cell, name) for name in EXTRAS if getattr(cell, name) is not None}
    return {"value": cell.value, "text": cell.plain, **found, "rank": cell.rank, "sound": cell.sound}


def csv_text(tables: Sequence[Table]) -> str:
    """Each table as CSV (RFC 4180 but with newlines ``\\n``); several tables are separated by an empty line.

    A column ``k`` gives its raw value; ``k.low``, ``k.high``, ``k.spread``, ``k.n``, ``k.p`` and ``k.p_holm`` follow
    where any row has them. Shares are shares, not percent. A cell of words gives its text, an empty one nothing.
    """
    return "\n".join(_csv(table) for table in tables)


def _csv(table: Table) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    fields = []
    for column in table.columns:
        cells = [row.cell(column.key) for row in table.rows]
        fields.append((column.key, "value"))
        fields += [(column.key, name) for name in EXTRAS if any(getattr(cell, name) is not None for cell in cells)]
    heads = [key if name == "value" else f"{key}.{name}" for key, name in fields]
    writer.writerow(["group", table.row_title, *heads])
    for row in table.rows:
        values = [_csv_value(row.cell(key), name) for key, name in fields]
        writer.writerow([row.group, row.label, *values])
    return out.getvalue()


def _csv_value(cell: Cell, name: str) -> str:
    value = getattr(cell, name)
    if value is None:
        return cell.text if name == "value" and cell.text != MISSING else ""
    return repr(value)


def comparison_text(comparisons: Sequence[Comparison]) -> str:
    """Comparisons of two rows as JSON: the table, the reasons against comparing, and the changed items."""
    found = [
        {
            "table": table_object(one.table),
            "not_comparable": one.not_comparable,
            "notes": one.notes,
            "changes": one.changes,
        }
        for one in comparisons
    ]
    return dumps({"schema_version": TABLE_SCHEMA_VERSION, "comparisons": found})
