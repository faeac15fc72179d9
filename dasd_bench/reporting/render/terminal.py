"""Tables for a terminal of any width: too many columns make a second stack, never a cut cell."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence

import rich.box
import rich.console
import rich.table
from rich.text import Text

from dasd_bench.reporting.table import Cell, Column, Table

STYLES = {0: "", 1: "bold", 2: "underline"}
GAP = 2
"""Blank columns between two cells: the padding and the box's empty divider."""


def terminal_text(tables: Sequence[Table], width: int = 120, *, notes: bool = False) -> str:
    """Plain text of the tables, no escape codes, at most ``width`` columns wide where the cells allow."""
    out = io.StringIO()
    console = rich.console.Console(file=out, width=width, color_system=None, force_terminal=False, highlight=False)
    for part in renderables(tables, width, notes=notes):
        console.print(part)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def renderables(tables: Sequence[Table], width: int, *, notes: bool = False) -> list[rich.console.RenderableType]:
    """The tables as rich renderables: best bold, second underlined, captions wrapped to ``width``."""
    parts: list[rich.console.RenderableType] = []
    for table in tables:
        parts.append(Text(table.title, style="bold"))
        if not table.rows:
            parts.append(Text("  nothing to show"))
        for index, columns in enumerate(stacks(table, width) if table.rows else []):
            parts += [Text("")] if index else []
            parts.append(_grid(table, columns, width))
        parts += [Text(line) for line in _wrapped(table.sentences(notes), width)]
        parts.append(Text(""))
    return parts


def _wrapped(sentences: Sequence[str], width: int) -> list[str]:
    limit = min(width, 120)
    lines = []
    for sentence in sentences:
        # A number stays with its percent sign.
        kept = sentence.replace(" %", "\N{NO-BREAK SPACE}%")
        wrapped = textwrap.wrap(kept, limit - 2, initial_indent="  ", subsequent_indent="    ")
        lines += [line.replace("\N{NO-BREAK SPACE}%", " %") for line in wrapped]
    return lines


def stacks(table: Table, width: int) -> list[list[Column]]:
    """The shown columns in stacks that fit ``width``, each under the row labels; blocks stay whole if they can."""
    room = width - _label_width(table)
    found: list[list[Column]] = [[]]
    used = 0
    for block in _blocks(table.shown()):
        need = sum(_width(table, column) for column in block)
        if found[-1] and used + need > room >= need:
            found.append([])
            used = 0
        for column in block:
            wide = _width(table, column)
            if found[-1] and used + wide > room:
                found.append([])
                used = 0
            found[-1].append(column)
            used += wide
    return found


def _blocks(columns: list[Column]) -> list[list[Column]]:
    blocks: list[list[Column]] = []
    for column in columns:
        if blocks and blocks[-1][0].block == column.block:
            blocks[-1].append(column)
        else:
            blocks.append([column])
    return blocks


def _width(table: Table, column: Column) -> int:
    texts = [*column.heading.split("\n"), *(row.cell(column.key).plain for row in table.rows)]
    return max(map(len, texts)) + GAP


def _label_width(table: Table) -> int:
    return max(len(text) for text in (table.row_title, *(row.label for row in table.rows))) + GAP


def _grid(table: Table, columns: list[Column], width: int) -> rich.table.Table:
    grid = rich.table.Table(
        box=rich.box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, GAP - 1, 0, 0), header_style="bold"
    )
    grid.add_column(table.row_title, no_wrap=True, vertical="bottom")
    for column in columns:
        grid.add_column(Text(column.heading, justify="right"), justify="right", no_wrap=True, vertical="bottom")
    groups = table.groups()
    for name, rows in groups:
        if len(groups) > 1:
            grid.add_row(Text(_shorten(name, width), style="italic"))
        for row in rows:
            grid.add_row(row.label, *(_styled(row.cell(column.key)) for column in columns))
        grid.add_section()
    return grid


def _shorten(name: str, width: int) -> str:
    return textwrap.shorten(name, max(20, width // 2), placeholder="...")


def _styled(cell: Cell) -> Text:
    text = Text(cell.text, style="")
    text.stylize(STYLES[cell.rank])
    rest = cell.plain[len(cell.text) :]
    return Text.assemble(text, rest)
