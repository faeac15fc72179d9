"""Renderers: a :class:`~dasd_bench.reporting.table.Table` as text for a terminal, Markdown, LaTeX, CSV, JSON, HTML."""

from __future__ import annotations

from collections.abc import Sequence

from dasd_bench.reporting.render.latex import latex, paper
from dasd_bench.reporting.render.machine import csv_text, json_text
from dasd_bench.reporting.render.markup import html, markdown
from dasd_bench.reporting.render.terminal import terminal_text
from dasd_bench.reporting.table import Table

FORMATS = ("terminal", "md", "latex", "csv", "json", "html")

__all__ = ["FORMATS", "csv_text", "html", "json_text", "latex", "markdown", "paper", "render", "terminal_text"]


def render(tables: Sequence[Table], form: str, width: int = 120, *, notes: bool = False) -> str:
    """The tables as text in one of :data:`FORMATS`; ``width`` matters to the terminal form alone.

    ``notes`` adds the notes to the captions; JSON always has them and CSV neither.
    """
    if form == "terminal":
        return terminal_text(tables, width, notes=notes)
    if form == "json":
        return json_text(tables)
    if form == "csv":
        return csv_text(tables)
    if form == "html":
        return html(tables, notes=notes)
    return "\n".join((latex if form == "latex" else markdown)(table, notes=notes) for table in tables)
