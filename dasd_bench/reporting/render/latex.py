"""LaTeX: a booktabs table to paste, or with ``paper`` a document that pdflatex compiles as it is."""

from __future__ import annotations

import re

from dasd_bench.reporting.table import Cell, Column, Table

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

CAPTION_CHARACTERS = 520
"""Sentences go into the caption up to this many characters; what follows stands as notes under the table."""


def escape(text: str) -> str:
    """``text`` for LaTeX; a minus before a digit becomes a mathematical one, unknown symbols their code point."""
    found = "".join(ESCAPES.get(char, char if ord(char) < 256 else f"[U+{ord(char):04X}]") for char in text)
    return re.sub(r"(?<![\w.)])-(?=[\d.])", "$-$", found)


def latex(table: Table, *, label: str = "") -> str:
    """A ``table`` environment; its first lines name the packages that it needs."""
    columns = table.shown()
    groups = table.groups()
    heads = [escape(table.row_title), *(_head(column) for column in columns)]
    body = [f"{' & '.join(heads)} \\\\", "\\midrule"]
    for index, (name, rows) in enumerate(groups):
        if len(groups) > 1:
            body += ["\\midrule"] if index else []
            body.append(f"\\multicolumn{{{len(heads)}}}{{l}}{{\\emph{{{escape(name)}}}}} \\\\")
        for row in rows:
            cells = [escape(row.label), *(_cell(row.cell(column.key)) for column in columns)]
            body.append(f"{' & '.join(cells)} \\\\")
    caption, notes = _split(table.caption)
    notes = [f"Warning: {warning}" for warning in table.warnings] + notes
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}, \\usepackage{graphicx} and \\usepackage[T1]{fontenc}",
            "\\begin{table}[t]",
            "\\centering",
            "\\small",
            f"\\caption{{\\textbf{{{escape(table.title)}.}} {' '.join(map(escape, caption))}}}",
            f"\\label{{tab:{label or table.key}}}",
            "\\vspace{3pt}",
            # Set once and measured, so that a table is scaled only where it is wider than its column.
            "\\setbox0=\\hbox{%",
            f"\\begin{{tabular}}{{l{'r' * len(columns)}}}",
            "\\toprule",
            *body,
            "\\bottomrule",
            "\\end{tabular}}%",
            "\\leavevmode\\ifdim\\wd0>\\linewidth\\resizebox{\\linewidth}{!}{\\box0}\\else\\box0\\fi",
            *_notes(notes),
            "\\end{table}",
            "",
        ]
    )


def _split(sentences: list[str]) -> tuple[list[str], list[str]]:
    """Sentences of the caption, and those that become notes: the first ones say n, seeds, intervals and marks."""
    count, used = 0, 0
    for sentence in sentences:
        used += len(sentence)
        if used > CAPTION_CHARACTERS and count:
            break
        count += 1
    return sentences[:count], sentences[count:]


def _notes(sentences: list[str]) -> list[str]:
    if not sentences:
        return []
    text = " ".join(map(escape, sentences))
    return ["\\par\\vspace{4pt}", "\\begin{minipage}{\\linewidth}\\footnotesize", text, "\\end{minipage}"]


def _head(column: Column) -> str:
    parts = [escape(part) for part in column.heading.split("\n")]
    return parts[0] if len(parts) == 1 else "\\shortstack[r]{" + "\\\\".join(parts) + "}"


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
            "\\makeatletter\\setlength{\\@fptop}{0pt}\\makeatother % a page of tables starts at its top",
            "\\begin{document}",
            "\n\\clearpage\n".join(parts),
            "\\end{document}",
            "",
        ]
    )
