"""LaTeX: a booktabs table to paste, or with ``paper`` a document that pdflatex compiles as it is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dasd_bench.methods.base import BASE
from dasd_bench.reporting.table import MISSING, Cell, Column, Table

ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "Δ": r"$\Delta$",
    "±": r"$\pm$",
    "–": r"--",
    "†": r"$^\dagger$",
    "τ": r"$\tau$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    '"': r"''",
}
"""Characters that T1 pdflatex cannot take as they are."""

NUMBER = re.compile(r"[+-]?(\d+)(?:\.(\d+))?")
"""What siunitx aligns by its decimal point."""

BOLD_NOTE = "Bold: best of the column, whether or not significant{}."
SECOND_NOTE = "; underlined: second best"


def escape(text: str) -> str:
    """``text`` for LaTeX; a minus before a digit becomes a mathematical one, unknown symbols their code point."""
    found = "".join(ESCAPES.get(char, char if ord(char) < 256 else f"[U+{ord(char):04X}]") for char in text)
    return re.sub(r"(?<![\w.)])-(?=[\d.])", "$-$", found)


def latex(table: Table, *, label: str = "", notes: bool = False) -> str:
    """A ``table`` environment; its first line names the packages that it needs.

    Numbers are aligned by their decimal points; marks and intervals stand in a column of their own beside them. In a
    column that has ``±`` no cell shows an interval instead. A rule separates the first row of a group (the baseline)
    from the others. ``notes`` adds the table's notes under it; warnings always stand there.
    """
    columns = [_Set(column, [row.cell(column.key) for row in table.rows]) for column in table.shown()]
    groups = table.groups()
    heads = [escape(table.row_title), *(column.head() for column in columns)]
    body = [f"{' & '.join(heads)} \\\\", "\\midrule"]
    width = 1 + sum(column.width for column in columns)
    for index, (name, rows) in enumerate(groups):
        if len(groups) > 1:
            body += ["\\midrule"] if index else []
            body.append(f"\\multicolumn{{{width}}}{{l}}{{\\emph{{{escape(name)}}}}} \\\\")
        for place, row in enumerate(rows):
            cells = [escape(row.label), *(column.cell(row.cell(column.column.key)) for column in columns)]
            body.append(f"{' & '.join(cells)} \\\\")
            if place == 0 and len(rows) > 1 and row.label.split()[0].lower() == BASE:
                body.append("\\midrule[0.3pt]")
    ranks = {cell.rank for column in columns for cell in column.cells}
    marked = [BOLD_NOTE.format(SECOND_NOTE if 2 in ranks else "")] if 1 in ranks else []
    caption = [escape(text) for text in [*table.caption, *marked]]
    below = [f"Warning: {warning}" for warning in table.warnings]
    below += [text for text in table.sentences(notes)[len(table.caption) :] if not text.startswith("Bold:")]
    return "\n".join(
        [
            "% needs \\usepackage{booktabs,graphicx,siunitx}, \\sisetup{detect-all} and \\usepackage[T1]{fontenc}",
            "\\begin{table}[t]",
            "\\centering",
            "\\small",
            f"\\caption{{\\textbf{{{escape(table.title)}.}} {' '.join(caption)}}}",
            f"\\label{{tab:{label or table.key}}}",
            "\\vspace{3pt}",
            # Set once and measured, so that a table is scaled only where it is wider than its column.
            "\\setbox0=\\hbox{%",
            f"\\begin{{tabular}}{{l{''.join(column.spec() for column in columns)}}}",
            "\\toprule",
            *body,
            "\\bottomrule",
            "\\end{tabular}}%",
            "\\leavevmode\\ifdim\\wd0>\\linewidth\\resizebox{\\linewidth}{!}{\\box0}\\else\\box0\\fi",
            *_notes(below),
            "\\end{table}",
            "",
        ]
    )


@dataclass(frozen=True, slots=True)
class _Set:
    """How one column is set: its values, and beside them, where any cell has one, a column of marks and intervals."""

    column: Column
    cells: list[Cell]

    @property
    def numbers(self) -> list[re.Match[str]]:
        """The cells' texts as numbers; empty where one is neither a number nor missing."""
        texts = [cell.text for cell in self.cells if cell.text != MISSING]
        found = [match for text in texts if (match := NUMBER.fullmatch(text))]
        return found if len(found) == len(texts) else []

    @property
    def spread(self) -> bool:
        """True where any cell shows a spread over seeds; intervals are then left out."""
        return any(cell.spread is not None and cell.detail for cell in self.cells)

    @property
    def width(self) -> int:
        """LaTeX columns taken."""
        return 1 + any(self.aside(cell) for cell in self.cells)

    def spec(self) -> str:
        """The column's letters in the tabular's preamble."""
        aside = "@{\\,}l" if self.width == 2 else ""
        if not self.numbers:
            return f"r{aside}"
        sign = "+" if any(match.group().startswith(("+", "-")) for match in self.numbers) else ""
        whole = max(len(match.group(1)) for match in self.numbers)
        digits = max(len(match.group(2) or "") for match in self.numbers)
        # siunitx drops a plus sign unless it is told to keep it.
        keep = ",retain-explicit-plus" if sign else ""
        form = f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"
        return f"S[table-format={form}{keep}]{aside}"

    def head(self) -> str:
        """The heading, over both columns."""
        parts = [escape(part) for part in self.column.heading.split("\n")]
        text = parts[0] if len(parts) == 1 else "\\shortstack{" + "\\\\".join(parts) + "}"
        return f"\\multicolumn{{{self.width}}}{{c}}{{{text}}}"

    def cell(self, cell: Cell) -> str:
        """The cell's value, and what stands beside it."""
        text = escape(cell.text)
        if self.numbers and NUMBER.fullmatch(cell.text):
            text = {0: "", 1: "\\bfseries ", 2: ""}[cell.rank] + cell.text
            text = f"{{\\underline{{{cell.text}}}}}" if cell.rank == 2 else text
        elif self.numbers:
            text = f"{{{text}}}"
        else:
            text = {0: "{}", 1: "\\textbf{{{}}}", 2: "\\underline{{{}}}"}[cell.rank].format(text)
        return f"{text} & {self.aside(cell)}" if self.width == 2 else text

    def aside(self, cell: Cell) -> str:
        """Mark and spread or interval."""
        mark = "".join(f"$^{{{char}}}$" if char == "*" else escape(char) for char in cell.mark)
        mark = mark.replace("$^{*}$$^{*}$", "$^{**}$")
        detail = cell.detail if cell.spread is not None or not self.spread else ""
        return mark + (f"{{\\scriptsize {escape(detail)}}}" if detail else "")


def _notes(sentences: list[str]) -> list[str]:
    if not sentences:
        return []
    text = " ".join(map(escape, sentences))
    return ["\\par\\vspace{4pt}", "\\begin{minipage}{\\linewidth}\\footnotesize", text, "\\end{minipage}"]


def paper(tables: list[Table], *, notes: bool = False) -> str:
    """A whole document with one page per table."""
    parts = [latex(table, notes=notes) for table in tables]
    return "\n".join(
        [
            "\\documentclass[10pt]{article}",
            "\\usepackage[T1]{fontenc}",
            "\\usepackage[utf8]{inputenc}",
            "\\usepackage{lmodern,booktabs,graphicx,siunitx}",
            "\\sisetup{detect-all}",
            "\\usepackage[margin=2.2cm]{geometry}",
            "\\makeatletter\\setlength{\\@fptop}{0pt}\\makeatother % a page of tables starts at its top",
            "\\begin{document}",
            "\n\\clearpage\n".join(parts),
            "\\end{document}",
            "",
        ]
    )
