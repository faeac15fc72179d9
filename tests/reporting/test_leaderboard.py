"""Checking entries of a results folder, and the leaderboard made of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright import sync_api as playwright

from dasd_bench.cli.main import run_cli
from dasd_bench.errors import UsageError
from dasd_bench.reporting.leaderboard.check import Checked, check_results
from dasd_bench.reporting.leaderboard.page import leaderboard_page
from dasd_bench.reporting.leaderboard.rows import leader_rows
from dasd_bench.results.schema import RunResults
from tests.made_results import make_arm, make_run, make_score, make_task
from tests.reporting.made_entries import CONDITIONS, write_entry
from tests.reporting.test_report_browser import CHROMIUM

ROOT = Path(__file__).parents[2]


def test_the_repository_s_own_entries_are_in_order() -> None:
    found = check_results(ROOT / "results")
    assert {one.entry.name: one.problems for one in found if not one.ok} == {}
    older = [one for one in found if one.entry.kind == "tables"]
    assert all(one.entry.without_results for one in older)
    page = leaderboard_page(found)
    assert all(one.entry.name in page for one in found)


def only(folder: Path) -> Checked:
    (found,) = check_results(folder)
    return found


def test_a_whole_entry_is_in_order(tmp_path: Path) -> None:
    write_entry(tmp_path, "one")
    (tmp_path / "README.md").write_text("words", encoding="utf-8")
    (tmp_path / "figures").mkdir()
    found = only(tmp_path)
    assert (found.problems, found.notes, found.entry.kind) == ([], [], "run")


def change(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    value = json.loads(path.read_text(encoding="utf-8"))
    edit(value)
    path.write_text(json.dumps(value), encoding="utf-8")


MANIFEST: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "partial": (lambda m: m.update(status="partial"), "the run is partial"),
    "no command": (lambda m: m.pop("command"), "'command' is missing"),
    "no weights": (lambda m: m["model"].pop("sha256"), "'model.sha256' is not a SHA-256"),
    "short hash": (lambda m: m["tasks"][0].update(test_sha256="abc"), "'tasks[0].test_sha256' is not a SHA-256"),
    "arm's plugin": (lambda m: m["arms"][1].pop("plugin_sha256"), "'arms[1].plugin_sha256' is not a SHA-256"),
    "no versions": (lambda m: m.pop("environment"), "'environment.dasd_bench' is missing"),
    "no torch": (lambda m: m["environment"]["packages"].pop("torch"), "lacks the version of torch"),
    "other weights": (lambda m: m["model"].update(sha256="d" * 64), "differ in the hash of the weights"),
    "other rows": (lambda m: m["arms"].pop(), "differ in the rows"),
    "other seeds": (lambda m: m.update(seeds=[5]), "differ in the seeds"),
    "other model": (lambda m: m["model"].update(name="other"), "differ in the model"),
    "other tasks": (lambda m: m["tasks"][0].update(name="math"), "differ in the tasks"),
    "odd shape": (lambda m: m.update(arms=[3]), "'arms' is not as this program writes it"),
}


@pytest.mark.parametrize("name", MANIFEST)
def test_what_a_manifest_lacks_is_named(tmp_path: Path, name: str) -> None:
    edit, expected = MANIFEST[name]
    change(write_entry(tmp_path, "one") / "manifest.json", edit)
    assert expected in " ".join(only(tmp_path).problems)


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("manifest.json", None, "manifest.json is missing"),
        ("manifest.json", "{", "not valid JSON"),
        ("spec.yaml", None, "spec.yaml is missing"),
        ("spec.yaml", "model: [", "not valid YAML"),
        ("spec.yaml", "modle: smollm2-135m\n", "modle"),
        ("spec.yaml", "model: llama3-8b\n", "spec.yaml has the model llama3-8b"),
        ("tables.md", None, "tables.md is missing"),
        ("tables.md", "| 99.0 |", "tables.md is not what results.json gives"),
        ("results.json", "{", "not valid JSON"),
        ("results.json", '{"schema_version": 99}', "schema version 99"),
        ("results.json", None, "say in entry.yaml why"),
        ("entry.yaml", "without_results: why\n", "which is there"),
        ("entry.yaml", "reason: why\n", "it holds one key"),
        ("entry.yaml", "without_results: 3\n", "it holds one key"),
        ("entry.yaml", "a: [", "not valid YAML"),
    ],
)
def test_files_that_are_absent_or_odd(tmp_path: Path, file: str, text: str | None, expected: str) -> None:
    path = write_entry(tmp_path, "one") / file
    if text is None:
        path.unlink()
    else:
        path.write_text(text, encoding="utf-8")
    assert expected in " ".join(only(tmp_path).problems)


def test_an_older_entry_states_its_reason(tmp_path: Path) -> None:
    entry = write_entry(tmp_path, "one")
    (entry / "results.json").unlink()
    (entry / "entry.yaml").write_text("without_results: It was not kept.\n", encoding="utf-8")
    found = only(tmp_path)
    assert found.ok
    assert "It was not kept." in found.notes[0]
    assert "not ranked" in leaderboard_page([found])


def test_folders_of_one_machine_are_noted(tmp_path: Path) -> None:
    entry = write_entry(tmp_path, "one")
    change(entry / "manifest.json", lambda m: m.update(command="dasd-bench run --data-dir /home/someone/data"))
    assert "/home/someone/data" in only(tmp_path).notes[0]


def test_no_entries_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UsageError):
            check_results(folder)


OTHER = {**CONDITIONS, "data gsm8k": "d2"}


def test_entries_say_what_they_compare_with(tmp_path: Path) -> None:
    write_entry(tmp_path, "a")
    write_entry(tmp_path, "b", model="llama3-8b")
    write_entry(tmp_path, "c", tasks=[make_task(num_fewshot=8)], conditions=OTHER)
    notes = {one.entry.name: one.notes for one in check_results(tmp_path)}
    assert notes["a"] == [
        "Comparable with b on gsm8k.",
        "Not comparable with c on gsm8k (data d1 and d2; shots 5 and 8).",
    ]


def runs(**named: RunResults) -> list[tuple[str, RunResults, str]]:
    return [(name, run, f"dasd-bench run {name}") for name, run in named.items()]


def test_rows_are_the_numbers_of_the_results() -> None:
    seeds = {s: {"gsm8k": make_score("1" * (12 + s) + "0" * (8 - s))} for s in range(3)}
    run = make_run("a", arms=[make_arm("dasd", seeds)], seeds=[0, 1, 2], conditions=CONDITIONS)
    dasd, base = leader_rows(runs(a=run))
    assert (dasd.method, base.method) == ("dasd", "base")
    assert (dasd.text, dasd.spread, dasd.change_text, dasd.seeds) == ("65.0", "± 5.0", "+15.0", 3)
    assert (dasd.cost, dasd.tokens, dasd.seconds) == ("1m01s", "6,400", pytest.approx(61.0))
    assert (dasd.budget, dasd.command) == ("equal", "dasd-bench run a")
    assert base.interval == "[29.9, 70.1]"  # Wilson's for 10 of 20
    assert (base.change, base.budget, base.seconds) == (None, "", None)
    assert dasd.best
    assert not base.best


def test_the_larger_group_stands_together_and_the_rest_apart() -> None:
    same = make_run("a", conditions=CONDITIONS)
    rows = leader_rows(
        runs(c=make_run("c", conditions=OTHER), a=same, b=make_run("b", model="x", conditions=CONDITIONS))
    )
    apart = {row.entry: row.apart for row in rows}
    assert apart == {"a": "", "b": "", "c": "against a: data d1 and d2"}
    assert not any(row.best for row in rows if row.apart)


def test_one_model_with_other_weights_stands_apart() -> None:
    tuned = {**CONDITIONS, "model weights": "e" * 64}
    llama = {**CONDITIONS, "model weights": "f" * 64}
    made = [make_run(conditions=one, model=m) for one, m in ((llama, "llama3-8b"), (CONDITIONS, "m"), (tuned, "m"))]
    apart = {row.entry: row.apart for row in leader_rows(runs(a=made[0], b=made[1], c=made[2]))}
    assert apart == {"a": "", "b": "", "c": "against b: other weights of m"}


def test_a_metric_where_less_is_better_is_ranked_so() -> None:
    task = make_task(higher_is_better=False, percent=False)
    rows = leader_rows(runs(a=make_run("a", tasks=[task], conditions=CONDITIONS)))
    assert [row.method for row in rows] == ["base", "sft", "dasd"]
    assert [row.best for row in rows] == [True, False, False]
    assert rows[0].text == "0.500"


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = write_entry(tmp_path / "results", "one")
    (entry / "tables.md").write_text("old", encoding="utf-8")
    folder = str(tmp_path / "results")
    assert run_cli(["check-results", folder]) == 1
    assert "one (run): 1 problem" in capsys.readouterr().out
    assert run_cli(["check-results", folder, "--update-tables"]) == 0
    assert "1 entry checked, no problems." in capsys.readouterr().out
    page = tmp_path / "board.html"
    assert run_cli(["leaderboard", folder, "-o", str(page)]) == 0
    assert "smollm2-135m" in page.read_text(encoding="utf-8")
    assert run_cli(["leaderboard", folder, "-o", str(entry / "results.json")]) == 2
    assert "would overwrite the input" in capsys.readouterr().err


def test_names_are_text_and_not_markup(tmp_path: Path) -> None:
    write_entry(tmp_path, "one", model="<script>alert(1)</script>")
    assert "<script>alert" not in leaderboard_page(check_results(tmp_path))


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Any]:
    folder = tmp_path / "results"
    write_entry(folder, "a")
    write_entry(folder, "b", model="llama3-8b")
    write_entry(folder, "c", conditions=OTHER)
    file = tmp_path / "board.html"
    file.write_text(leaderboard_page(check_results(folder)), encoding="utf-8")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: complaints.append(asked.url) if asked.url != file.as_uri() else None)
        page.goto(file.as_uri())
        yield page
        browser.close()
    assert complaints == []


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium on PATH")
def test_sorting_and_filtering_in_a_browser(board: Any) -> None:
    main = board.locator(".board").first

    def column(place: int) -> list[str]:
        cells = main.locator(f"tbody tr:visible > :nth-child({place})").all_inner_texts()
        return [cell.split()[0] for cell in cells]

    assert board.locator("#status").inner_text() == "9 rows"
    main.get_by_role("button", name="score").click()
    assert column(4) == ["75.0", "75.0", "60.0", "60.0", "50.0", "50.0"]
    main.get_by_role("button", name="score").click()
    assert column(4) == ["50.0", "50.0", "60.0", "60.0", "75.0", "75.0"]
    assert main.locator("th[data-key=score]").get_attribute("aria-sort") == "ascending"
    main.get_by_role("button", name="cost").click()
    assert column(1)[-2:] == ["base", "base"], "rows without the number come last"
    board.locator("[data-field=model]").select_option("llama3-8b")
    board.locator("#search").fill("dasd 75.0")
    assert board.locator("#status").inner_text() == "1 of 9 rows"
    assert column(1) == ["dasd"]
    board.locator("#search").fill("")
    board.locator("[data-field=model]").select_option("")
    for width in (1360, 400):
        board.set_viewport_size({"width": width, "height": 900})
        assert board.evaluate("document.documentElement.scrollWidth") <= width
