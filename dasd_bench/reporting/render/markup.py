"""Markdown for pull requests, and a minimal HTML table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape

from dasd_bench.reporting.compare import Comparison
from dasd_bench.reporting.table import Cell, Table
from dasd_bench.results.samples import Sample


def markdown(table: Table, *, notes: bool = False) -> str:
    """A GitHub table with best in bold and second underlined, then the caption as a list."""
    columns = table.shown()
    lines = [f"**{_md(table.title)}**", ""]
    lines.append("| " + " | ".join([table.row_title, *(_md(column.line) for column in columns)]) + " |")
    lines.append("| " + " | ".join(["---", *("---:" for _ in columns)]) + " |")
    groups = table.groups()
    for name, rows in groups:
        if len(groups) > 1:
            lines.append("| " + " | ".join([f"*{_md(name)}*", *("" for _ in columns)]) + " |")
        for row in rows:
            cells = [_md_cell(row.cell(column.key)) for column in columns]
            lines.append("| " + " | ".join([_md(row.label), *cells]) + " |")
    lines += ["", *(f"- {_md(sentence)}" for sentence in [*table.warnings, *table.sentences(notes)]), ""]
    return "\n".join(lines)


def markdown_comparison(comparison: Comparison) -> str:
    """A comparison for a pull request: why not comparable first, the table, each changed item folded, side by side."""
    reasons = [f"Not comparable: {reason}." for reason in comparison.not_comparable]
    lines = [markdown(replace(comparison.table, warnings=[*reasons, *comparison.notes]))]
    for change in comparison.changes:
        better = "A better" if change.difference > 0 else "B better"
        lines += [
            f"<details><summary>{escape(change.item)}: {better}</summary>",
            "",
            f"<pre>{escape(change.prompt)}</pre>",
            "",
            f"<table><tr><th>A: {escape(change.a.reason)}</th><th>B: {escape(change.b.reason)}</th></tr>",
            f"<tr><td>{_completion(change.a)}</td><td>{_completion(change.b)}</td></tr></table>",
            "</details>",
            "",
        ]
    return "\n".join(lines)


def _completion(sample: Sample) -> str:
    found = "no answer found" if sample.extracted is None else f"answer {sample.extracted}"
    return f"<pre>{escape(sample.completion)}</pre>{escape(found)}"


def _md(text: str) -> str:
    for char in ("\\", "|", "*", "_", "<", "`"):
        text = text.replace(char, "\\" + char)
    return text


def _md_cell(cell: Cell) -> str:
    wrap = {0: "{}", 1: "**{}**", 2: "<u>{}</u>"}[cell.rank]
    detail = f" {_md(cell.detail)}" if cell.detail else ""
    return wrap.format(_md(cell.text)) + _md(cell.mark) + detail


def html(tables: Sequence[Table], *, notes: bool = False) -> str:
    """A page with the tables: no script, no style sheet from elsewhere, header cells with a scope."""
    body = "\n".join(html_table(table, notes=notes) for table in tables)
    title = escape(tables[0].title) if tables else "dasd-bench"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


STYLE = (
    ":root{color-scheme:light dark}body{font:1rem/1.4 system-ui,sans-serif;margin:2rem}"
    "table{border-collapse:collapse;margin:0 0 1rem}caption{text-align:left;font-weight:600;padding:.4rem 0}"
    "th,td{padding:.2rem .7rem;text-align:right;white-space:nowrap}th[scope=row],thead th:first-child{text-align:left}"
    "thead{border-top:2px solid;border-bottom:1px solid}tbody{border-bottom:1px solid}small{font-size:.8em}"
)


def html_table(table: Table, *, notes: bool = False) -> str:
    """One ``<table>`` and its caption sentences."""
    columns = table.shown()
    heads = "".join(f'<th scope="col">{escape(text)}</th>' for text in (table.row_title, *(c.line for c in columns)))
    lines = [f"<table>\n<caption>{escape(table.title)}</caption>", f"<thead><tr>{heads}</tr></thead>"]
    groups = table.groups()
    for name, rows in groups:
        lines.append("<tbody>")
        if len(groups) > 1:
            lines.append(f'<tr><th scope="rowgroup" colspan="{len(columns) + 1}">{escape(name)}</th></tr>')
        for row in rows:
            cells = "".join(f"<td>{_html_cell(row.cell(column.key))}</td>" for column in columns)
            lines.append(f'<tr><th scope="row">{escape(row.label)}</th>{cells}</tr>')
        lines.append("</tbody>")
    lines.append("</table>")
    lines += [f"<p>{escape(sentence)}</p>" for sentence in [*table.warnings, *table.sentences(notes)]]
    return "\n".join(lines)


def _html_cell(cell: Cell) -> str:
    wrap = {0: "{}", 1: "<strong>{}</strong>", 2: "<u>{}</u>"}[cell.rank]
    detail = f" <small>{escape(cell.detail)}</small>" if cell.detail else ""
    return wrap.format(escape(cell.text)) + escape(cell.mark) + detail
