"""``dasd-bench grade``: shows how answers are read and what the verdict is, for a file of one's own."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from dasd_bench.types import Verdict


@click.command("grade")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--as", "kind", required=True, type=click.Choice(["number", "math", "choice"]), help="Kind of answer.")
@click.option("--output", type=click.Path(path_type=Path), help="File for the rows with their verdicts (JSON Lines).")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(0), help="Rows to list on the terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print rows as JSON Lines (with --output: the summary as JSON).")
def grade_command(file: Path, kind: str, output: Path | None, limit: int, as_json: bool) -> int:
    """Grade the answers in FILE (JSON Lines) with this project's graders, and show how each one was read.

    FILE holds JSON lines or a JSON array, compressed with gzip or not. Rows have the columns text and gold,
    multiple choice also needs choices (a list of texts) and labels (default: A, B, C, ...); gold is then a label or
    the position of the correct choice, counted from 0. Other columns are kept. The output adds extracted (the
    answer that was found, or null), correct, and reason: correct, wrong, no_answer, timeout or
    infrastructure_error. The exit code is 3 if any reason is infrastructure_error, because that answer has no
    verdict.
    """
    from dasd_bench.files.jsonl import dump_rows
    from dasd_bench.store.destination import check_destination, write_destination
    from dasd_bench.tasks.grading.rows import grade_rows, read_rows

    if output is not None:
        check_destination(output, [file])
    rows = read_rows(file, kind)
    verdicts = grade_rows(rows, kind)
    graded = [{**row.columns, **_columns(verdict)} for row, verdict in zip(rows, verdicts, strict=True)]
    counts = Counter(verdict.reason.value for verdict in verdicts)
    code = 3 if counts["infrastructure_error"] else 0
    if output is not None:
        write_destination(output, dump_rows(graded))
    elif as_json:
        for one in graded:
            click.echo(json.dumps(one))
        return code
    if as_json:
        click.echo(
            json.dumps({"rows": len(rows), "correct": counts["correct"], "reasons": dict(sorted(counts.items()))})
        )
        return code
    if output is None:
        click.echo(f"{'line':>6}  {'reason':<20}  {'gold':<20}  extracted")
        for row, verdict in list(zip(rows, verdicts, strict=True))[:limit]:
            gold, found = _shown(row.gold, 20), "-" if verdict.extracted is None else _shown(verdict.extracted, 48)
            click.echo(f"{row.line:>6}  {verdict.reason.value:<20}  {gold:<20}  {found}")
        if len(rows) > limit:
            click.echo(f"        and {len(rows) - limit} more (--limit {len(rows)} lists all)")
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
    click.echo(f"{len(rows)} rows: {reasons} ({100 * counts['correct'] / len(rows):.1f} % correct).")
    return code


def _columns(verdict: Verdict) -> dict[str, Any]:
    return {"extracted": verdict.extracted, "correct": verdict.correct, "reason": verdict.reason.value}


def _shown(text: str, width: int) -> str:
    line = " ".join(text.encode("utf-8", "replace").decode().split())
    return line if len(line) <= width else f"{line[: width - 3]}..."
