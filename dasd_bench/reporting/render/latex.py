"""LaTeX: a booktabs table to paste, or with ``paper`` a document that pdflatex compiles as it is."""

from __future__ import annotations

import re

from dasd_bench.reporting.table import Cell, Table

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

WIDE = 95
"""Characters of one row above which the table is scaled to the text width."""


def escape(text: str) -> str:
    """``text`` for LaTeX; a minus before a digit becomes a mathematical one, unknown symbols their code point."""
    found = "".join(ESCAPES.get(char, char if ord(char) < 256 else f"[U+{ord(char):04X}]") for char in text)
    return re.sub(r"(?<![\w.)])-(?=[\d.])", "$-$", found)


def latex(table: Table, *, label: str = "") -> str:
    """A ``table`` environment; its first lines name the packages that it needs."""
    columns = table.shown()
    groups = table.groups()
    heads = [escape(table.row_title), *(escape(column.line) for column in columns)]
    body = [f"{' & '.join(heads)} \\\\", "\\midrule"]
    for index, (name, rows) in enumerate(groups):
        if len(groups) > 1:
            body += ["\\midrule"] if index else []
            body.append(f"\\multicolumn{{{len(heads)}}}{{l}}{{\\emph{{{escape(name)}}}}} \\\\")
        for row in rows:
            cells = [escape(row.label), *(_cell(row.cell(column.key)) for column in columns)]
            body.append(f"{' & '.join(cells)} \\\\")
    width = max(sum(len(row.cell(c.key).plain) + 3 for c in columns) + len(row.label) for row in table.rows)
    tabular = [f"\\begin{{tabular}}{{l{'r' * len(columns)}}}", "\\toprule", *body, "\\bottomrule", "\\end{tabular}"]
    if width > WIDE:
        tabular = ["\\resizebox{\\textwidth}{!}{%", *tabular[:-1], "\\end{tabular}}"]
    sentences = " ".join(escape(sentence) for sentence in [*table.warnings, *table.caption])
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}, \\usepackage{graphicx} and \\usepackage[T1]{fontenc}",
            "\\begin{table}[t]",
            "\\centering",
            "\\small",
            f"\\caption{{\\textbf{{{escape(table.title)}.}} {sentences}}}",
            f"\\label{{tab:{label or table.key}}}",
            *tabular,
            "\\end{table}",
            "",
        ]
    )


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    wrap = {0: "{}", 1: "\\textbf{{{}}}", 2: "\\underline{{{}}}"}[cell.rank]
    mark = "".join(f"$^{{{char}}}$" if char == "*" else escape(char) for char in cell.mark)
    mark = mark.replace("$^{*}$$^{*}$", "$^{**}$")
    detail = f" {{\\scriptsize {escape(cell.detail)}}}" if cell.detail else ""
    return wrap.format(text) + mark + detail


def paper(tables: list[Table]) -> str:
    """A whole document with one page per table."""
    parts = [latex(table) for table in tables]
    return "\n".join(
        [
            "\\documentclass[10pt]{article}",
            "\\usepackage[T1]{fontenc}",
            "\\usepackage[utf8]{inputenc}",
            "\\usepackage{lmodern,booktabs,graphicx}",
            "\\usepackage[margin=2.2cm]{geometry}",
            "\\begin{document}",
            "\n\\clearpage\n".join(parts),
            "\\end{document}",
            "",
        ]
    )
