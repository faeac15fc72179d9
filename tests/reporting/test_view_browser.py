"""The viewer in a real browser: headless Chromium through Playwright; skipped where there is none."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright import sync_api as playwright

from benchmarks.made_run import Size, make_run
from dasd_bench.reporting.view.catalog import Catalog
from dasd_bench.reporting.view.pages import Pages
from dasd_bench.reporting.view.server import ViewServer
from dasd_bench.results.progress import ProgressFile
from dasd_bench.store.locks import FileLock
from tests.reporting.test_report_browser import CHROMIUM, CONTRAST

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on PATH")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("view") / "runs"
    make_run(folder / "alpha", Size(examples=6, tokens=10, items=10, seeds=(0,), steps=2))
    shutil.copytree(folder / "alpha", folder / "beta")
    (folder / "gamma").mkdir()
    (folder / "gamma" / "spec.yaml").write_text("model: llama3-8b\nmethods: [profit]\ntasks: [math]\n", "utf-8")
    return folder


@pytest.fixture(scope="module")
def at_work(runs: Path) -> Iterator[ProgressFile]:
    with FileLock(runs / "gamma" / ".lock"):
        yield ProgressFile(runs / "gamma" / ".progress.json")


@pytest.fixture(scope="module")
def server(runs: Path, at_work: ProgressFile) -> Iterator[ViewServer]:
    with ViewServer(Pages(Catalog([runs]))) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(browser: Any, server: ViewServer, at_work: ProgressFile) -> Iterator[Any]:
    """The list; any error, console message or request to another host fails the test."""
    at_work.stage("targets", "profit seed 0", 1, 4, 60.0)
    context = browser.new_context(viewport={"width": 1360, "height": 900}, color_scheme="light")
    found = context.new_page()
    complaints: list[str] = []
    home = f"http://127.0.0.1:{server.server_port}/"
    found.on("console", lambda message: complaints.append(message.text))
    found.on("pageerror", lambda error: complaints.append(str(error)))
    found.on("request", lambda asked: None if asked.url.startswith((home, "data:")) else complaints.append(asked.url))
    found.goto(server.address)
    yield found
    context.close()
    assert complaints == []


def focused(page: Any) -> str:
    return str(page.evaluate("document.activeElement.textContent.trim()"))


def names(page: Any) -> list[str]:
    return [str(name) for name in page.locator("#runs tr:visible th a").all_inner_texts()]


def test_the_token_leaves_the_address(page: Any, server: ViewServer) -> None:
    assert page.url == f"http://127.0.0.1:{server.server_port}/"
    assert server.token not in page.content()
    assert page.evaluate("document.cookie") == ""


def test_the_list_by_keyboard(page: Any) -> None:
    assert names(page)[0] == "gamma"
    assert sorted(names(page)) == ["alpha", "beta", "gamma"]
    assert focused(page) == "gamma"
    order = names(page)
    page.keyboard.press("ArrowDown")
    assert focused(page) == order[1]
    page.keyboard.press("End")
    page.keyboard.press("ArrowDown")
    assert focused(page) == order[-1]
    page.keyboard.press("/")
    page.keyboard.type("smollm alpha")
    assert names(page) == ["alpha"]
    assert page.locator("#count").inner_text() == "1 of 3 runs"
    page.keyboard.press("ArrowDown")
    assert focused(page) == "alpha"
    page.keyboard.press("Escape")
    assert len(names(page)) == 3
    page.keyboard.press("/")
    page.keyboard.type("nothing like it")
    assert page.locator("#none").is_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("beta")
    page.keyboard.press("Enter")
    page.wait_for_url("**/run/*")
    assert page.locator("h1").inner_text().startswith("beta")
    page.keyboard.press("Escape")
    page.wait_for_selector("#runs")
    assert names(page) == ["beta"], "the filter is kept"


def test_two_runs_are_chosen_and_compared(page: Any) -> None:
    page.locator("#runs a", has_text="alpha").focus()
    page.keyboard.press("c")
    assert page.locator("#compare").inner_text() == "Choose one more to compare"
    page.locator("#runs a", has_text="gamma").focus()
    page.keyboard.press("c")  # has no results
    page.locator("#runs a", has_text="beta").focus()
    page.keyboard.press("c")
    page.keyboard.press("Enter")
    page.wait_for_url("**/compare?*")
    assert page.locator("h3", has_text="alpha:sft vs beta:sft").count() == 1
    page.locator("select[name=row_b]").select_option("base")
    page.locator("select[name=row_a]").select_option("sft")
    page.get_by_role("button", name="Compare").click()
    page.wait_for_selector("h3:has-text('alpha:sft vs beta:base')")
    changed = page.locator("details.item")
    assert changed.count() > 0
    assert changed.first.locator(".answers > div").count() == 2


def test_progress_follows_the_run(page: Any, at_work: ProgressFile) -> None:
    box = page.locator("#runs .progress")
    playwright.expect(box).to_contain_text("stage 1 of 4, targets, profit seed 0")
    at_work.stage("evaluate math", "profit seed 0", 3, 4, 61.0)
    playwright.expect(box).to_contain_text(
        "stage 3 of 4, evaluate math, profit seed 0, about 1m01s left", timeout=15000
    )
    assert box.locator("progress").evaluate("node => node.value") == 0.5


def test_a_new_run_appears_by_itself(page: Any, runs: Path) -> None:
    page.locator("#runs a", has_text="beta").focus()
    (runs / "delta").mkdir()
    (runs / "delta" / "spec.yaml").write_text("model: m\n", encoding="utf-8")
    try:
        playwright.expect(page.locator("#runs a", has_text="delta")).to_be_visible(timeout=15000)
        assert focused(page) == "beta"
    finally:
        shutil.rmtree(runs / "delta")


def test_the_report_opens_with_its_viewers_and_goes_back(page: Any) -> None:
    page.locator("#runs a", has_text="alpha").focus()
    page.keyboard.press("r")
    page.wait_for_selector("#token-viewer[data-state=ready]", timeout=120000)
    page.wait_for_selector("#answer-viewer[data-state=ready]")
    page.keyboard.press("Escape")
    page.wait_for_selector("#runs")


def test_answers_side_by_side(page: Any) -> None:
    page.locator("#runs a", has_text="alpha").click()
    page.get_by_role("link", name="Answers").click()
    item = page.locator("section.item").first
    assert item.locator(".answers > div").count() == 6
    page.locator("summary", has_text="columns").click()
    page.get_by_role("checkbox", name="low-ppl, seed 0").uncheck()
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**show=base**")
    assert page.locator("section.item").first.locator(".answers > div").count() == 5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_in_light_and_dark(page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    assert min(page.evaluate(CONTRAST, "td:not(:empty), th, th a, .badge, .group, .progress span, .keys, nav a")) >= 4.5
    page.locator("#runs a", has_text="alpha").click()
    page.get_by_role("link", name="Answers").click()
    assert min(page.evaluate(CONTRAST, "h3, h4, .badge, .found, .text, .status, label")) >= 4.5


def test_nothing_sticks_out_sideways(page: Any) -> None:
    home = page.url
    page.locator("#runs a", has_text="alpha").click()
    run = page.url
    compare = page.get_by_role("link", name="Compare").get_attribute("href")
    for address in (home, run, f"{run}/answers", home.rstrip("/") + str(compare)):
        page.goto(address)
        for width in (1360, 800, 400):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, address


def test_everything_has_a_name(page: Any) -> None:
    home = page.url
    page.locator("#runs a", has_text="alpha").click()
    for address in (home, page.url, f"{page.url}/answers"):
        page.goto(address)
        unnamed = page.evaluate("""() => {
          const nodes = [...document.querySelectorAll('input, select, button, progress, [tabindex="0"]')];
          const named = (n) => n.ariaLabel || n.labels?.length || n.textContent.trim()
            || n.getAttribute('aria-labelledby');
          return nodes.filter((n) => !named(n)).map((n) => n.outerHTML.slice(0, 80));
        }""")
        assert unnamed == [], address
        assert page.locator("h1").count() == 1


def test_it_prints_without_its_tools(page: Any, tmp_path: Path) -> None:
    page.emulate_media(media="print")
    assert not page.locator("#filter").is_visible()
    assert not page.locator(".pick").first.is_visible()
    assert page.locator("#runs a").first.is_visible()
    page.pdf(path=tmp_path / "list.pdf", format="A4")
    assert re.match(rb"%PDF", (tmp_path / "list.pdf").read_bytes())
