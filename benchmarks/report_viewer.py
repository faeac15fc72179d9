"""Load and filter times of ``dasd-bench report`` in headless Chromium.

    python benchmarks/report_viewer.py                     # 500 examples of 300 tokens, five methods, one seed
    python benchmarks/report_viewer.py --run RUN           # a run of your own

Measured in the page's own clock: from navigation to a ready token viewer; one filter, one search, one switch of method
and one step through the list, each up to the next frame that is on screen. Needs ``pip install playwright`` and a
Chromium on PATH.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from made_run import Size, make_run

from dasd_bench.reporting.plots import Source
from dasd_bench.reporting.report import report_page
from dasd_bench.results.runs import load_run

PAINTED = "new Promise((done) => requestAnimationFrame(() => setTimeout(() => done(performance.now()), 0)))"

ACTIONS = {
    "filter: replaced": "document.getElementById('tv-replaced').click()",
    "filter: PPL above 2.5": "document.getElementById('tv-high').click()",
    "filter: own answer wrong": "document.getElementById('tv-wrong').click()",
    "next example": (
        "document.getElementById('tv-list').dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowDown'}))"
    ),
    "scroll the list to its end": "document.getElementById('tv-list').scrollTop = 1e9",
}
"""What is timed, as a script; every action is done an even number of times, so that toggles end as they began."""

SEARCH = """async (words) => {
  const box = document.getElementById('tv-search'), status = document.getElementById('tv-status');
  const before = status.textContent, start = performance.now();
  box.value = words;
  box.dispatchEvent(new Event('input'));
  while (status.textContent === before) await new Promise(requestAnimationFrame);
  return performance.now() - start;
}"""

SWITCH = """async (place) => {
  const select = document.getElementById('tv-set'), list = document.getElementById('tv-list');
  const start = performance.now();
  const drawn = new Promise((done) => {
    new MutationObserver(() => done()).observe(list, {childList: true, subtree: true});
  });
  select.value = place;
  select.dispatchEvent(new Event('change'));
  await drawn;
  await new Promise(requestAnimationFrame);
  return performance.now() - start;
}"""


def chromium() -> str:
    """The browser's path; exits with a sentence where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    raise SystemExit("No Chromium on PATH; on Debian: apt-get install chromium.")


def measure(page_file: Path, rounds: int) -> None:
    """Prints the times of one page."""
    from playwright.sync_api import sync_playwright

    loads = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        for _ in range(rounds):
            page = browser.new_page(viewport={"width": 1360, "height": 900})
            page.goto(page_file.as_uri())
            page.wait_for_selector("#token-viewer[data-state=ready]")
            loads.append(page.evaluate("performance.now()"))
            if len(loads) < rounds:
                page.close()
        show("load until the viewer is ready", loads)
        for name, script in ACTIONS.items():
            show(name, [page.evaluate(_timed(script)) for _ in range(2 * rounds)])
        show("search (60 ms of them are the wait for more typing)", _searches(page, rounds))
        show("switch method", [page.evaluate(SWITCH, i % 2) for i in range(rounds)])
        nodes = page.evaluate("document.querySelectorAll('*').length")
        print(f"{'elements in the document':52} {nodes:8,}")
        browser.close()


def _searches(page: Any, rounds: int) -> list[float]:
    return [page.evaluate(SEARCH, words) for i in range(rounds) for words in (f"train/{i}7", "")]


def _timed(script: str) -> str:
    return f"async () => {{ const start = performance.now(); {script}; return (await {PAINTED}) - start; }}"


def show(name: str, milliseconds: list[float]) -> None:
    """One line: median and worst."""
    print(f"{name:52} {statistics.median(milliseconds):8.1f} ms median {max(milliseconds):8.1f} ms worst")


def main() -> None:
    """Makes the run, writes its page and measures it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a run directory instead of a made one")
    parser.add_argument("--examples", type=int, default=500)
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = options.run or make_run(
            Path(folder) / "large", Size(examples=options.examples, tokens=options.tokens, items=200, seeds=(0,))
        )
        start = time.perf_counter()
        text = report_page([Source(run, load_run(run))])
        made = time.perf_counter() - start
        page_file = Path(folder).resolve() / "report.html"
        page_file.write_text(text, encoding="utf-8")
        print(f"{'page':52} {page_file.stat().st_size / 1e6:8.1f} MB, written in {made:.1f} s")
        measure(page_file, options.rounds)


if __name__ == "__main__":
    main()
