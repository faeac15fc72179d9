"""A table as plain data: what every renderer takes. Cells keep the raw value beside the text that is printed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from dasd_bench.errors import UsageError, did_you_mean

MISSING = "–"
ARROWS = {"up": "↑", "down": "↓", "": ""}


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell. ``text`` is rounded for reading, ``value`` is not; ``detail`` is the interval or spread as text.

    ``low``, ``high`` and ``spread`` are in the units of ``value``. ``mark`` is a significance or footnote mark.
    ``rank`` is 1 for the best of its column, 2 for the second, else 0. ``sound`` is False where the cell stands on
    fewer items or seeds than its column, and then it is never ranked.
    """

    text: str
    value: float | None = None
    detail: str = ""
    low: float | None = None
    high: float | None = None
    spread: float | None = None
    n: int | None = None
    p: float | None = None
    p_holm: float | None = None
    mark: str = ""
    rank: int = 0
    sound: bool = True

    @property
    def plain(self) -> str:
        """Text, mark and detail in one string."""
        return f"{self.text}{self.mark}" + (f" {self.detail}" if self.detail else "")


EMPTY = Cell(MISSING)


@dataclass(frozen=True, slots=True)
class Column:
    """One column. ``direction`` says which way is better (``up``, ``down`` or none); a ``block`` stays together.

    A newline in ``title`` is where a narrow form breaks it. A column with ``shown`` False is printed only when asked
    for by its ``key``, and is always in CSV and JSON.
    """

    key: str
    title: str
    direction: str = ""
    block: str = ""
    ranked: bool = False
    shown: bool = True

    @property
    def heading(self) -> str:
        """The title with its arrow."""
        return f"{self.title} {ARROWS[self.direction]}".rstrip()

    @property
    def line(self) -> str:
        """The heading on one line."""
        return self.heading.replace("\n", " ")


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its label, the group (model) that it belongs to, and its cells by column key."""

    label: str
    cells: dict[str, Cell]
    group: str = ""

    def cell(self, key: str) -> Cell:
        """The cell of a column, empty where the row has none."""
        return self.cells.get(key, EMPTY)


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence for those who ask how to read a table. With a ``block`` it concerns that block's columns alone."""

    text: str
    block: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table with the ``caption`` that every reader needs, ``notes`` for ``--notes``, and warnings."""

    key: str
    title: str
    columns: list[Column]
    rows: list[Row]
    caption: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    row_title: str = "method"
    notes: list[Note] = field(default_factory=list)

    def shown(self) -> list[Column]:
        """The columns that a reader sees."""
        return [column for column in self.columns if column.shown]

    def sentences(self, notes: bool) -> list[str]:
        """The caption, and with ``notes`` the notes that concern a column that is shown."""
        blocks = {column.block for column in self.shown()}
        return self.caption + [n.text for n in self.notes if notes and (not n.block or n.block in blocks)]

    def groups(self) -> list[tuple[str, list[Row]]]:
        """Rows by group, in order of first appearance."""
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            found.setdefault(row.group, []).append(row)
        return list(found.items())


def ranked(table: Table) -> Table:
    """The table with best and second-best cells ranked within each group, by raw values; all-equal columns are not.

    Ties share a rank, and a tie for first leaves no second; the worse of two rows is no second either.
    """
    marks: dict[tuple[int, str], int] = {}
    for column in table.columns:
        if not column.ranked:
            continue
        for _, rows in table.groups():
            for row, rank in _ranks(rows, column):
                marks[id(row), column.key] = rank
    rows = [
        replace(row, cells={k: replace(c, rank=marks.get((id(row), k), 0)) for k, c in row.cells.items()})
        for row in table.rows
    ]
    return replace(table, rows=rows)


def _ranks(rows: Sequence[Row], column: Column) -> list[tuple[Row, int]]:
    sign = -1.0 if column.direction == "down" else 1.0
    scored: list[tuple[Row, float]] = []
    for row in rows:
        cell = row.cell(column.key)
        if cell.value is not None and cell.sound:
            scored.append((row, sign * cell.value))
    # Values are compared to 9 digits: means of the same outcomes may differ in their last bits.
    levels = sorted({round(value, 9) for _, value in scored}, reverse=True)
    if len(levels) < 2:
        return []
    first = [(row, 1) for row, value in scored if round(value, 9) == levels[0]]
    second = [(row, 2) for row, value in scored if round(value, 9) == levels[1]]
    return first if len(first) > 1 or len(scored) < 3 else first + second


def choose_columns(table: Table, names: Sequence[str]) -> Table:
    """The table with the named columns in the order named; a name is a key, or a prefix of keys ending in ``*``.

    Raises :class:`UsageError` with a suggestion for an unknown name.
    """
    known = [column.key for column in table.columns]
    picked: list[Column] = []
    for name in names:
        keys = [k for k in known if k.startswith(name[:-1])] if name.endswith("*") else [k for k in known if k == name]
        if not keys:
            raise UsageError(f"Unknown column '{name}'.{did_you_mean(name, known)} Known: {', '.join(known)}.")
        picked += [
            replace(c, shown=True) for c in table.columns if c.key in keys and c.key not in {p.key for p in picked}
        ]
    return replace(table, columns=picked)


def sort_rows(table: Table, name: str) -> Table:
    """Rows of each group by a column: best first where it has a direction, else descending; empty cells last."""
    if name == table.row_title:
        return _reordered(table, lambda rows: sorted(rows, key=lambda row: row.label))
    column = next((c for c in table.columns if c.key == name), None)
    if column is None:
        known = [table.row_title, *(c.key for c in table.columns)]
        raise UsageError(f"Unknown column '{name}' to sort by.{did_you_mean(name, known)} Known: {', '.join(known)}.")
    sign = 1.0 if column.direction == "down" else -1.0

    def order(rows: Iterable[Row]) -> list[Row]:
        def key(row: Row) -> tuple[bool, float]:
            value = row.cell(name).value
            return value is None, 0.0 if value is None else sign * value

        return sorted(rows, key=key)

    return _reordered(table, order)


def _reordered(table: Table, order: Callable[[list[Row]], list[Row]]) -> Table:
    return replace(table, rows=[row for _, rows in table.groups() for row in order(rows)])
