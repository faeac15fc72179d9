"""The report page in a real browser: headless Chromium through Playwright; skipped where there is none."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright import sync_api as playwright

from benchmarks.made_run import Size, make_run
from dasd_bench.reporting.plots import Source
from dasd_bench.reporting.render.machine import csv_text
from dasd_bench.reporting.report import report_page
from dasd_bench.reporting.report.verdict import verdict
from dasd_bench.reporting.scores import run_table
from dasd_bench.reporting.show import run_tables
from dasd_bench.results.runs import load_run
from dasd_bench.store.store import load_ragged
from dasd_bench.types import Origin

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on PATH")

SET = "dasd+tau=0.5"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(
        tmp_path_factory.mktemp("runs") / "alpha", Size(examples=40, tokens=30, items=20, seeds=(0,), steps=4)
    )


@pytest.fixture(scope="module")
def address(run: Path) -> str:
    file = run / "report.html"
    file.write_text(report_page([Source(run, load_run(run))]), encoding="utf-8")
    return file.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The page, ready; any error, console message or request beyond the file itself fails the test."""
    context = browser.new_context(viewport={"width": 1360, "height": 900}, color_scheme="light")
    found = context.new_page()
    complaints: list[str] = []
    found.on("console", lambda message: complaints.append(message.text))
    found.on("pageerror", lambda error: complaints.append(str(error)))
    found.on("request", lambda request: complaints.append(request.url) if request.url != address else None)
    found.goto(address)
    for viewer in ("token", "answer"):
        found.wait_for_selector(f"#{viewer}-viewer[data-state=ready]")
    yield found
    context.close()
    assert complaints == []


def targets(run: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    folder = run / "arms" / SET / "seed0"
    rows = [json.loads(line) for line in (folder / "targets.jsonl").read_text(encoding="utf-8").splitlines()]
    return rows, load_ragged(folder / "tokens.safetensors")[0]


def status(page: Any) -> str:
    return str(page.locator("#tv-status").inner_text())


def test_filters_count_what_the_files_hold(page: Any, run: Path) -> None:
    rows, fields = targets(run)
    replaced = [bool((origin == Origin.BASE).any()) for origin in fields["origin"]]
    wrong = [not row["accepted"] for row in rows]
    high = [float(-logp.mean()) > np.log(2.6) for logp in fields["logp"]]
    assert status(page) == "40 examples"
    page.locator("#tv-replaced").check()
    assert status(page).startswith(f"{sum(replaced)} of 40 ")
    page.locator("#tv-replaced").uncheck()
    page.locator("#tv-wrong").check()
    assert status(page).startswith(f"{sum(wrong)} of 40 ")
    page.locator("#tv-replaced").check()
    assert status(page).startswith(f"{sum(a and b for a, b in zip(replaced, wrong, strict=True))} of 40 ")
    if not any(a and b for a, b in zip(replaced, wrong, strict=True)):
        assert "No example matches" in page.locator("#tv-detail").inner_text()
    page.locator("#tv-replaced").uncheck()
    page.locator("#tv-wrong").uncheck()
    page.locator("#tv-k").fill("2.6")
    page.locator("#tv-high").check()
    assert 0 < sum(high) < 40
    assert status(page).startswith(f"{sum(high)} of 40 ")


def test_search_and_sort(page: Any, run: Path) -> None:
    page.locator("#tv-search").fill("train/17")
    playwright.expect(page.locator("#tv-status")).to_contain_text("1 of 40")
    assert page.locator("#tv-detail h3").inner_text().startswith("gsm8k/train/17")
    page.locator("#tv-search").fill("")
    playwright.expect(page.locator("#tv-status")).to_have_text("40 examples")
    page.locator("#tv-sort").select_option("ppl")
    _, fields = targets(run)
    worst = int(np.argmax([float(-logp.mean()) for logp in fields["logp"]]))
    page.locator("#tv-list").press("Home")
    assert page.locator("#tv-detail h3").inner_text().startswith(f"gsm8k/train/{worst}")


def test_every_token_is_shown_with_its_marks(page: Any, run: Path) -> None:
    rows, fields = targets(run)
    place = next(i for i, row in enumerate(rows) if row["accepted"] and (fields["origin"][i] == Origin.BASE).any())
    page.locator("#tv-search").fill(rows[place]["id"] + "\n")
    page.locator("#tv-list").press("Home")
    shown = page.locator("#tv-detail .tokens .t")
    assert shown.count() == len(fields["token_ids"][place])
    assert page.locator("#tv-detail .tokens").inner_text().replace("↵\n", "\n") == rows[place]["target"]
    assert page.locator("#tv-detail .tokens .o2").count() == int((fields["origin"][place] == Origin.BASE).sum())
    at = int(np.argmax(fields["origin"][place] == Origin.BASE))
    shown.nth(at).hover()
    numbers = page.locator("#tv-detail .inspector").inner_text()
    logp = float(fields["logp"][place][at])
    for words in (f"{logp:.3f}".replace("-", "−"), "Candidate stream's proposal", "base"):
        assert words in numbers


def test_keyboard_alone_reaches_everything(page: Any) -> None:
    page.locator("#tv-search").focus()
    for _ in range(2):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "tv-list"
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    active = page.locator("#tv-list").get_attribute("aria-activedescendant")
    assert active == "tv-list-2"
    assert page.locator(f"#{active}").get_attribute("aria-selected") == "true"
    assert page.locator(f"#{active}").get_attribute("aria-posinset") == "3"
    page.keyboard.press("End")
    assert page.locator("#tv-list").get_attribute("aria-activedescendant") == "tv-list-39"
    page.keyboard.press("Home")
    page.keyboard.press("Tab")  # the gold answer
    page.keyboard.press("Enter")
    assert page.locator("#tv-detail details").get_attribute("open") is not None
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.t") == "0"
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.t") == "1"
    spoken = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert spoken.startswith("2 of ")
    assert "log p" in spoken
    page.keyboard.press("n")
    classes = page.evaluate("document.activeElement.className")
    assert page.evaluate("Number(document.activeElement.dataset.t)") > 1
    assert any(mark in classes for mark in ("o2", "w0", "n2", "n3", "n4", "n5"))
    page.keyboard.press("ArrowDown")
    page.keyboard.press("End")
    assert "<|im_end|>" in page.locator("#tv-detail .inspector").inner_text()
    assert "end of turn" in page.locator("#tv-detail .inspector").inner_text()


def test_the_method_can_be_switched_at_the_same_example(page: Any) -> None:
    page.locator("#tv-list").press("End")
    before = page.locator("#tv-detail h3").inner_text().split("\n")[0].split(" ")[0]
    page.locator("#tv-set").select_option(label="low-ppl")
    playwright.expect(page.locator("#tv-detail .tokens .w0").first).to_be_visible()
    assert page.locator("#tv-detail h3").inner_text().startswith(before)
    assert "weight 0" in page.locator("#tv-detail").inner_text()
    page.locator("#tv-replaced").check()
    assert status(page).startswith("0 of 40 ")


def test_answers_side_by_side(page: Any, run: Path) -> None:
    results = load_run(run)
    base, sft = results.base["gsm8k"].correct, results.arms[0].seeds[0].scores["gsm8k"].correct
    assert base is not None
    assert sft is not None
    page.locator("#av-method").select_option(label="sft, seed 0")
    page.locator("#av-won").check()
    won = sum(s > b for s, b in zip(sft, base, strict=True))
    assert page.locator("#av-status").inner_text().startswith(f"{won} of 20 ")
    page.locator("#av-won").uncheck()
    page.locator("#av-outcome").select_option("wrong")
    assert page.locator("#av-status").inner_text().startswith(f"{20 - sum(sft)} of 20 ")
    assert page.locator("#av-detail .answers > div").count() == 1 + len(results.arms)


def test_long_lists_keep_few_rows_in_the_document(page: Any) -> None:
    assert page.locator("#tv-list .option").count() < 25


CONTRAST = """(selector) => {
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const part = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const light = (rgb) => {
    const scale = rgb.some((v) => v > 1) ? 255 : 1;
    const [r, g, b] = rgb.slice(0, 3).map((v) => part(v / scale));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = numbers(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] > 0.9) return colour;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll(selector)].map((node) => {
    const [a, b] = [light(numbers(getComputedStyle(node).color)), light(ground(node))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_theme_contrast_and_screenshot(page: Any, scheme: str, tmp_path: Path) -> None:
    page.emulate_media(color_scheme=scheme)
    plain = ".tokens .t:not(.w0), .option b, .option span, td, th, dt, dd, .hint, h2, figcaption, .badge, nav a"
    assert min(page.evaluate(CONTRAST, plain)) >= 4.5
    page.screenshot(path=tmp_path / f"{scheme}.png")
    assert (tmp_path / f"{scheme}.png").stat().st_size > 20_000


def test_the_theme_button_overrides_the_system(page: Any) -> None:
    dark = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(dark)
    button = page.locator("#theme")
    button.click()
    assert button.inner_text() == "Theme: light"
    assert page.evaluate(dark) == before
    button.click()
    assert button.inner_text() == "Theme: dark"
    assert page.evaluate(dark) != before


def test_nothing_sticks_out_sideways(page: Any) -> None:
    for width in (1360, 800, 400):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_screen_readers_find_names_for_everything(page: Any) -> None:
    for role, name in (
        ("listbox", "Examples"),
        ("listbox", "Test items"),
        ("searchbox", "Search"),
        ("combobox", "Sort"),
        ("region", "smollm2-135m"),
        ("navigation", "Sections"),
    ):
        assert page.get_by_role(role, name=name).first.is_visible()
    unnamed = page.evaluate("""() => {
      const nodes = [...document.querySelectorAll('input, select, button, svg[role=img], [tabindex="0"]')];
      const named = (n) => n.ariaLabel || n.labels?.length || n.textContent.trim() || n.getAttribute('aria-labelledby');
      return nodes.filter((n) => !named(n)).map((n) => n.outerHTML.slice(0, 80));
    }""")
    assert unnamed == []
    assert page.locator("h1").count() == 1


def test_print_opens_what_is_closed(page: Any, tmp_path: Path) -> None:
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    assert page.locator(".section[open]").count() == 1, "closed again after printing"


def test_a_click_on_a_heading_sorts_and_again_reverses(page: Any, run: Path) -> None:
    table = page.locator("section[aria-labelledby=table-scores] table")
    labels = table.locator("tbody th[scope=row]")
    before = labels.all_inner_texts()
    head = table.locator("thead th").nth(1)
    scores = {one.label: one.seeds[0].scores["gsm8k"].mean for one in load_run(run).arms}
    scores["base"] = load_run(run).base["gsm8k"].mean
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    down = [scores[label] for label in labels.all_inner_texts()]
    assert down == sorted(down, reverse=True)
    head.locator("button").press("Enter")
    up = [scores[label] for label in labels.all_inner_texts()]
    assert up == sorted(up)
    table.locator("thead th").nth(0).locator("button").click()
    assert labels.all_inner_texts() == sorted(before, key=str.lower)


def test_the_baseline_can_be_switched_and_back(page: Any, run: Path) -> None:
    def heads() -> str:
        return str(page.locator("#table-scores ~ .scroll thead").inner_text())

    first, menu = heads(), page.get_by_label("Differences and tests against")
    assert menu.locator("option").all_inner_texts() == [
        "base",
        "sft",
        "low-ppl",
        *(f"dasd+tau={t}" for t in (0.5, 0.7, 0.9)),
    ]
    menu.select_option("sft")
    results = [load_run(run)]
    table = run_table(results, baseline="sft")
    assert "Δ sft" in heads()
    assert "Δ base" not in heads()
    shown = page.locator("#table-scores ~ .scroll tbody tr").all_inner_texts()
    assert [text.split("\t")[0] for text in shown] == [row.label for row in table.rows]
    for text, row in zip(shown, table.rows, strict=True):
        assert row.cell("delta").text in text
    assert page.locator("#verdict").inner_text() == " ".join(verdict(results, table, "sft"))
    with page.expect_download() as download:
        page.get_by_role("link", name=re.compile("Save smollm2-135m as CSV")).click()
    assert Path(download.value.path()).read_text(encoding="utf-8") == csv_text([table])
    page.get_by_label("Gained against sft").check()
    right = {
        row: [json.loads(line)["score"] > 0.5 for line in path.read_text(encoding="utf-8").splitlines()]
        for row, path in (
            (row, run / "arms" / row / "seed0" / "eval" / "gsm8k" / "samples.jsonl") for row in ("sft", "low-ppl")
        )
    }
    page.locator("#av-method").select_option(label="low-ppl, seed 0")
    gained = sum(b and not a for a, b in zip(right["sft"], right["low-ppl"], strict=True))
    assert page.locator("#av-status").inner_text().startswith(f"{gained} of ")
    menu.select_option("base")
    assert heads() == first


def test_a_table_is_saved_as_the_csv_of_the_command(page: Any, run: Path, tmp_path: Path) -> None:
    with page.expect_download() as download:
        page.locator("#table-scores .save").click()
    download.value.save_as(tmp_path / "scores.csv")
    assert download.value.suggested_filename == "scores.csv"
    assert (tmp_path / "scores.csv").read_text() == csv_text([run_tables([load_run(run)])[0]])


def test_a_link_opens_the_example_and_the_answer_again(page: Any, browser: Any) -> None:
    page.locator("#tv-list").press("End")
    shown = page.locator("#tv-detail h3").inner_text()
    tokens = page.evaluate("location.href")
    page.locator("#av-list").press("End")
    item = page.locator("#av-detail h3").inner_text()
    answers = page.evaluate("location.href")
    for address, detail, wanted in ((tokens, "#tv-detail", shown), (answers, "#av-detail", item)):
        context = browser.new_context()
        again = context.new_page()
        again.goto(address)
        for viewer in ("token", "answer"):
            again.wait_for_selector(f"#{viewer}-viewer[data-state=ready]")
        assert again.locator(f"{detail} h3").inner_text() == wanted
        context.close()


def test_nothing_runs_off_a_phone(page: Any) -> None:
    page.set_viewport_size({"width": 360, "height": 800})
    for card in ("#token-viewer", "#answer-viewer"):
        right = page.locator(card).bounding_box()
        for select in page.locator(f"{card} select").all():
            box = select.bounding_box()
            assert box["x"] + box["width"] <= right["x"] + right["width"]


def test_the_target_of_a_second_method_is_shown_beside_the_first(page: Any, run: Path) -> None:
    page.locator("#tv-beside").select_option(label="sft")
    beside = page.locator("#tv-detail .beside .t")
    playwright.expect(beside.first).to_be_visible()
    example = page.locator("#tv-detail h3").inner_text().splitlines()[0]
    folder = run / "arms" / "sft" / "seed0"
    rows = [json.loads(line) for line in (folder / "targets.jsonl").read_text(encoding="utf-8").splitlines()]
    place = next(i for i, row in enumerate(rows) if row["id"] == example)
    fields = load_ragged(folder / "tokens.safetensors")[0]
    assert beside.count() == len(fields["token_ids"][place])
    beside.first.hover()
    probability = np.exp(fields["logp"][place][0])
    assert f"{100 * probability:.0f} %" in page.locator("#tv-detail .inspector dl div").nth(1).inner_text()
    page.locator("#tv-beside").select_option("")
    playwright.expect(page.locator("#tv-detail .beside")).to_have_count(0)
