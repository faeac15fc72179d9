"""Figures as files (PDF, SVG, PNG) and as SVG to put into a page."""

from __future__ import annotations

import io
import re
from html import escape
from pathlib import Path

from dasd_bench.reporting.plots.source import Plot
from dasd_bench.reporting.plots.style import BASE_COLOUR, COLOURS, GRID, INK, look
from dasd_bench.store.destination import write_destination

FORMATS = ("pdf", "svg", "png")
PNG_DPI = 200


def save(plot: Plot, folder: Path) -> list[Path]:
    """Writes ``<kind>.pdf``, ``.svg`` and ``.png`` (200 dpi, white ground); the same plot gives the same bytes."""
    paths = []
    for form in FORMATS:
        out = io.BytesIO()
        with look():
            plot.figure.savefig(out, format=form, dpi=PNG_DPI, facecolor="white", metadata=_metadata(form, plot))
        paths.append(folder / f"{plot.kind}.{form}")
        write_destination(paths[-1], out.getvalue())
    return paths


def _metadata(form: str, plot: Plot) -> dict[str, str | None]:
    dates: dict[str, str | None] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}[form]  # type: ignore[assignment]
    return {**dates, "Title": plot.title}


def inline_svg(plot: Plot) -> str:
    """The figure as an ``<svg>`` element for a page: text stays text, colours follow the page's custom properties.

    Element ids that nothing refers to are taken out, so that several figures can stand in one page.
    """
    import matplotlib

    out = io.StringIO()
    with look(), matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": plot.kind}):
        plot.figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    used = set(re.findall(r"#([A-Za-z][\w-]*)", text))
    text = re.sub(r' id="([^"]*)"', lambda m: m.group(0) if m.group(1) in used else "", text)
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    for name, colour in {"ink": INK, "grid": GRID, "base": BASE_COLOUR}.items():
        text = text.replace(colour, f"var(--plot-{name}, {colour})")
    for index, colour in enumerate(COLOURS, 1):
        text = text.replace(colour, f"var(--plot-{index}, {colour})")
    head = f'<svg role="img" aria-label="{escape(plot.title + ": " + plot.alt, quote=True)}"'
    return re.sub(r"\s+\n", "\n", head + text[len("<svg") :])
