"""The README's pictures: the token viewer of a run in headless Chromium, and a figure of committed results.

    python benchmarks/pictures.py RUN --row dasd+rule=insist     # a run directory with its targets
    python benchmarks/pictures.py                                # the figure alone, from results/lab

Writes ``token-viewer.png`` and ``forgetting.png`` to ``docs/pictures`` on a light background, each with few enough
colours to stay under 150 kB. The viewer needs ``pip install playwright`` and a Chromium on PATH.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path

from PIL import Image
from report_viewer import chromium

from dasd_bench.errors import DasdError
from dasd_bench.reporting.plots import Plot, Source, draw
from dasd_bench.reporting.plots.style import look
from dasd_bench.reporting.report import report_page
from dasd_bench.results.runs import load_run

ROOT = Path(__file__).parents[1]
LARGEST = 150_000
"""Bytes of a picture."""

WIDTH, SCALE = 1000, 2
"""Width of the page in CSS pixels, a little over that of a README, and device pixels for each of them."""

STYLE = ".top { display: none } #token-viewer .panes { height: 39rem }"
"""What the picture leaves out: the page's bar, and the space under a short answer."""


def viewer(run: Path, row: str, example: str, token: int) -> bytes:
    """The token viewer with one row's example open and one replaced token selected, as PNG."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        page_file = Path(folder).resolve() / "report.html"
        page_file.write_text(report_page([Source(run, load_run(run))]), encoding="utf-8")
        browser = play.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_page(
            viewport={"width": WIDTH, "height": 900}, device_scale_factor=SCALE, color_scheme="light"
        )
        page.goto(page_file.as_uri())
        page.wait_for_selector("#token-viewer[data-state=ready]")
        page.add_style_tag(content=STYLE)
        menu = page.locator("#tv-set")
        labels = menu.locator("option").all_inner_texts()
        menu.select_option(next(label for label in labels if label.partition(",")[0] == row))
        page.locator("#tv-sort").select_option("replaced")
        if example:
            page.locator("#tv-search").fill(example)
            page.wait_for_timeout(300)
        page.locator("#tv-detail .t.o2").nth(token).click()
        page.wait_for_timeout(300)
        found = page.locator("#token-viewer").screenshot()
        browser.close()
    return bytes(found)


def figure(run: Path, kind: str) -> bytes:
    """A figure of ``dasd-bench plot``, as PNG."""
    (plot,) = draw([Source(run, load_run(run))], [kind])
    if not isinstance(plot, Plot):
        raise DasdError(plot.why)
    out = io.BytesIO()
    with look():
        plot.figure.savefig(out, format="png", dpi=160, facecolor="white")
    return out.getvalue()


def save(png: bytes, path: Path) -> None:
    """Writes the picture with 256 colours; exits where it is still too large for a README."""
    out = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(out, "png", optimize=True)
    if len(out.getvalue()) > LARGEST:
        raise SystemExit(f"{path.name} would have {len(out.getvalue()):,} bytes; the limit is {LARGEST:,}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(out.getvalue())
    print(f"{path}: {len(out.getvalue()):,} bytes")


def main() -> None:
    """Writes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, help="run directory of the token viewer")
    parser.add_argument("--row", default="dasd", help="the row whose targets are shown")
    parser.add_argument("--example", default="", help="words of the example to open; default: the most replaced one")
    parser.add_argument("--token", type=int, default=0, help="the selected one of its replaced tokens, from 0")
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "lab", help="results of the figure")
    parser.add_argument("--kind", default="forgetting", help="kind of the figure, as of dasd-bench plot")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "pictures")
    options = parser.parse_args()
    save(figure(options.results, options.kind), options.output / f"{options.kind}.png")
    if options.run is not None:
        png = viewer(options.run, options.row, options.example, options.token)
        save(png, options.output / "token-viewer.png")


if __name__ == "__main__":
    main()
