"""What every verb that reads runs does with runs that are not whole, not alike, or say little."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from dasd_bench.cli.export_cmd import export_command
from dasd_bench.cli.plot_cmd import plot_command
from dasd_bench.cli.report_cmd import report_command
from dasd_bench.cli.table_cmd import compare_command, table_command
from dasd_bench.errors import DasdError
from dasd_bench.reporting.scores import run_table

VERBS: dict[str, Any] = {
    "table": table_command,
    "plot": plot_command,
    "report": report_command,
    "export": export_command,
    "compare": compare_command,
}


def failure(verb: str, *runs: object) -> str:
    """The one sentence with which a verb refuses."""
    arguments = [str(run) for run in runs]
    if verb == "compare" and len(arguments) == 1:
        arguments *= 2
    error = CliRunner().invoke(VERBS[verb], arguments).exception
    assert isinstance(error, DasdError), error
    assert "\n" not in str(error)
    return str(error)


@pytest.mark.parametrize("verb", VERBS)
def test_another_schema_version(verb: str, build: SimpleNamespace, tmp_path: Path) -> None:
    run = build.write(tmp_path, build.run("old"))
    path = run / "results.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"schema_version": 2', '"schema_version": 7'))
    said = failure(verb, run)
    assert "old/results.json has schema version 7, this dasd-bench reads versions 1 to 3" in said
    if verb != "export":
        assert "schema version 7" in failure(verb, build.write(tmp_path, build.run("new")), run)


@pytest.mark.parametrize("verb", VERBS)
def test_no_finished_task(verb: str, build: SimpleNamespace, tmp_path: Path) -> None:
    empty = build.run("empty", status="partial", base={}, arms=[])
    assert "has no finished task" in failure(verb, build.write(tmp_path, empty))
    started = tmp_path / "started"
    started.mkdir()
    (started / "spec.yaml").write_text("model: smollm2-135m\n")
    assert "no task was finished; rerun the same command to resume" in failure(verb, started)


@pytest.mark.parametrize("verb", VERBS)
def test_cancelled_runs(verb: str, build: SimpleNamespace, tmp_path: Path) -> None:
    run = build.write(tmp_path, build.run("stopped", status="cancelled"))
    assert "was cancelled" in failure(verb, run)


@pytest.mark.parametrize("verb", VERBS)
def test_damaged_results(verb: str, build: SimpleNamespace, tmp_path: Path) -> None:
    run = build.write(tmp_path, build.run("torn"))
    path = run / "results.json"
    path.write_text(path.read_text(encoding="utf-8")[:400])
    assert "results.json: not valid JSON" in failure(verb, run)
    raw = json.loads(build.run().to_json())
    raw["base"]["gsm8k"]["n"] = 19
    path.write_text(json.dumps(raw))
    assert "says n = 19 but holds [20] items" in failure(verb, run)


def test_partial_runs_are_shown_and_never_averaged(build: SimpleNamespace) -> None:
    results = build.run(status="partial", tasks=[build.task(), build.task("arc")])
    results.base["arc"] = build.score("1" * 20, "arc")
    results.arms[0].seeds[0].scores["arc"] = build.score("10" * 10, "arc")
    table = run_table([results])
    base, sft, dasd = table.rows
    assert base.cell("average").value == pytest.approx(0.75)
    assert sft.cell("average").value == pytest.approx(0.55)
    assert dasd.label == "dasd †"
    for key in ("average", "delta"):
        assert dasd.cell(key).value is None
    assert any("partial" in warning for warning in table.warnings)
    assert any("dasd: arc not finished" in warning for warning in table.warnings)


def test_fewer_items_are_marked_and_not_ranked(build: SimpleNamespace) -> None:
    results = build.run()
    results.arms[1].seeds[0].scores["gsm8k"] = build.score("1" * 12)
    table = run_table([results])
    cell = table.rows[2].cell("gsm8k")
    assert (cell.sound, cell.rank, cell.value) == (False, 0, 1.0)
    assert table.rows[2].cell("gsm8k:vs").value is None
    assert any("12 of 20 items" in warning for warning in table.warnings)


def test_one_seed_claims_no_spread(build: SimpleNamespace) -> None:
    table = run_table([build.run()])
    assert all(cell.spread is None for row in table.rows for cell in row.cells.values())
    assert any("one seed (0), seed variance unknown" in line for line in table.caption)
    assert not any("±" in line for line in table.caption)


def test_zero_variance_gives_no_significance_and_no_nan(build: SimpleNamespace) -> None:
    same = {"gsm8k": build.score("1" * 10 + "0" * 10)}
    arm = build.arm("sft", {0: same, 1: same, 2: same})
    table = run_table([build.run(arms=[arm], seeds=[0, 1, 2])])
    base, sft = table.rows
    assert (sft.cell("gsm8k").spread, sft.cell("delta").value) == (0.0, 0.0)
    assert sft.cell("gsm8k:vs").p == 1.0
    assert sft.cell("gsm8k").mark == ""
    assert {base.cell("gsm8k").rank, sft.cell("gsm8k").rank} == {0}
    low, high = sft.cell("delta").low, sft.cell("delta").high
    assert low is not None
    assert high is not None
    assert low < 0 < high


@pytest.mark.parametrize(("bits", "low", "high"), [("0" * 20, 0.0, 0.1611), ("1" * 20, 0.8389, 1.0)])
@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_none_and_all_right_keep_an_interval(
    bits: str, low: float, high: float, seeds: tuple[int, ...], build: SimpleNamespace, tmp_path: Path
) -> None:
    score = {"gsm8k": build.score(bits, levels="12" * 10)}
    base = {"gsm8k": build.score("10" * 10, levels="12" * 10)}
    arms = [build.arm("sft", dict.fromkeys(seeds, score))]
    results = build.run(arms=arms, base=base, seeds=list(seeds))
    cell = run_table([results]).rows[1].cell("gsm8k")
    assert (cell.low, cell.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
    run = build.write(tmp_path, results)
    by_level = CliRunner().invoke(table_command, [str(run), "--group-by", "level", "-f", "json"])
    rows = json.loads(by_level.output)["tables"][0]["rows"]
    assert all(c["high"] - c["low"] > 0.2 for c in rows[1]["cells"].values()), "n = 10: never a width of 0"
    assert CliRunner().invoke(plot_command, [str(run), "-k", "difficulty", "-o", str(tmp_path / "p")]).exit_code == 0
    assert CliRunner().invoke(report_command, [str(run), "-o", str(tmp_path / "r.html")]).exit_code == 0


@pytest.mark.parametrize("verb", VERBS)
def test_a_shipped_folder_without_results_says_what_is_missing(
    verb: str, build: SimpleNamespace, tmp_path: Path
) -> None:
    run = build.write(tmp_path, build.run("shipped"))
    (run / "results.json").unlink()
    said = failure(verb, run)
    assert "has the manifest of a finished run but not its results.json" in said
    assert f"dasd-bench run -c {run / 'spec.yaml'}" in said
    assert "no task was finished" not in said
    (run / "manifest.json").write_text('{"status": "cancelled"}')
    assert "no task was finished" in failure(verb, run)
