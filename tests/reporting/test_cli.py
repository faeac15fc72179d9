"""The verbs, through the command line as a person types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dasd_bench.cli.diagnose_cmd import diagnose_command
from dasd_bench.cli.report_cmd import report_command
from dasd_bench.cli.table_cmd import compare_command, list_runs, show_run, table_command
from dasd_bench.console import Console
from dasd_bench.errors import DasdError, StoreError, UsageError
from dasd_bench.reporting.show import print_tables, run_tables
from dasd_bench.results.schema import RunResults


def call(command: Any, *args: object) -> Result:
    return CliRunner().invoke(command, [str(arg) for arg in args])


def ok(command: Any, *args: object) -> str:
    result = call(command, *args)
    assert result.exception is None, result.output
    assert result.exit_code == 0
    return result.stdout


def error(command: Any, *args: object) -> DasdError:
    found = call(command, *args).exception
    assert isinstance(found, DasdError)
    return found


def samples(bits: str, name: str, written: str) -> list[dict[str, object]]:
    return [
        {
            "id": f"{name}/test/{i}",
            "prompt": f"What is {i} + {i}?",
            "completion": f"{written} {i}\nThe answer is {2 * i if bit == '1' else 'unclear'}",
            "extracted": str(2 * i) if bit == "1" else None,
            "score": int(bit),
            "reason": "correct" if bit == "1" else "no_answer",
        }
        for i, bit in enumerate(bits)
    ]


SFT, DASD = "1" * 8 + "00" + "1111" + "0" * 6, "1" * 15 + "0" * 5


@pytest.fixture
def runs(build: SimpleNamespace, tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    files = {
        "arms/sft/seed0/eval/gsm8k": samples(SFT, "gsm8k", "sft text"),
        "arms/dasd/seed0/eval/gsm8k": samples(DASD, "gsm8k", "dasd text"),
        "base/eval/gsm8k": samples("1" * 10 + "0" * 10, "gsm8k", "base text"),
    }
    build.write(folder, build.run("alpha"), files)
    build.write(folder, build.run("beta", conditions={"dtype": "bfloat16"}), files)
    build.write(folder, build.run("stopped", status="cancelled"))
    return folder


def test_table_by_name_and_by_path(runs: Path) -> None:
    by_name = ok(table_command, "alpha", "--runs-dir", runs)
    assert by_name == ok(table_command, runs / "alpha")
    flat = " ".join(by_name.split())
    for words in ("50.0 [29.9, 70.1]", "+4/-2 p=.69", "Training targets", "Cost", "Minimum detectable difference"):
        assert words in flat
    assert max(map(len, by_name.splitlines())) <= 110


def test_newest_run_is_the_default(runs: Path, build: SimpleNamespace) -> None:
    build.write(runs, build.run("zeta", model="newest-model"))
    assert "newest-model" in ok(table_command, "--runs-dir", runs)


@pytest.mark.parametrize("form", ["md", "latex", "csv", "json", "html"])
def test_formats_to_a_file(runs: Path, tmp_path: Path, form: str) -> None:
    out = tmp_path / "made" / f"table.{form}"
    assert "Wrote" in ok(table_command, runs / "alpha", "-f", form, "-o", out)
    assert out.read_text(encoding="utf-8") == ok(table_command, runs / "alpha", "-f", form)


def test_json_is_json_and_csv_is_one_table(runs: Path) -> None:
    tables = json.loads(ok(table_command, runs / "alpha", "-f", "json"))["tables"]
    assert [table["key"] for table in tables] == ["scores", "targets", "cost"]
    assert ok(table_command, runs / "alpha", "-f", "csv").count("method") == 1


def test_warnings_do_not_spoil_csv(runs: Path) -> None:
    result = call(table_command, runs / "alpha", runs / "beta", "-f", "csv")
    assert "not comparable" in result.stderr
    assert result.stdout.startswith("group,method,gsm8k")


def test_paper_has_scores_alone(runs: Path) -> None:
    text = ok(table_command, runs / "alpha", "--paper")
    assert text.startswith("\\documentclass")
    assert "ref. nll" not in text


def test_columns_sort_and_groups(runs: Path) -> None:
    text = ok(table_command, runs / "alpha", "--columns", "delta,gsm8k:vs", "--sort", "gsm8k", "--table", "scores")
    assert "50.0 [" not in text
    starts = [line.split()[0] for line in text.splitlines() if line.startswith(("base ", "sft ", "dasd "))]
    assert starts == ["dasd", "sft", "base"]
    assert "sft seed 0" in ok(table_command, runs / "alpha", "--group-by", "seed")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("alhpa",), "Unknown run 'alhpa'. Did you mean 'alpha'? Runs in"),
        (("stopped",), "Run stopped was cancelled, so it has no table"),
        (("alpha", "--baseline", "dsad"), "Did you mean 'dasd'?"),
        (("alpha", "--columns", "gsm"), "Unknown column 'gsm'."),
        (("alpha", "--group-by", "level"), "No task of this run has a level for its items."),
    ],
)
def test_one_sentence_for_what_is_wrong(runs: Path, args: tuple[str, ...], message: str) -> None:
    found = error(table_command, *args, "--runs-dir", runs)
    assert message in str(found)
    assert "\n" not in str(found)


def test_no_runs_at_all(tmp_path: Path) -> None:
    assert "There are no runs in" in str(error(table_command, "--runs-dir", tmp_path))
    folder = tmp_path / "empty"
    folder.mkdir()
    assert "is a folder without a run" in str(error(table_command, folder, "--runs-dir", tmp_path))


def test_other_schema_version_through_the_command(runs: Path) -> None:
    path = runs / "alpha" / "results.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"schema_version": 2', '"schema_version": 4'))
    found = error(table_command, runs / "alpha", runs / "beta")
    assert isinstance(found, StoreError)
    assert "alpha/results.json has schema version 4" in str(found)


def test_a_run_without_manifest_is_partial_unless_it_has_every_score(runs: Path) -> None:
    (runs / "alpha" / "manifest.json").unlink()
    assert "is partial" not in ok(table_command, runs / "alpha")
    results = RunResults.load(runs / "alpha")
    results.arms[1].seeds = []
    results.save(runs / "alpha")
    assert "Warning: Run alpha is partial" in ok(table_command, runs / "alpha")


def test_show_gives_scores_first_and_knows_a_pruned_run(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_run(runs / "alpha", Console())
    text = capsys.readouterr().out
    assert text.index("75.0 [53.1, 88.8]") < text.index("model.sha256: 0000")
    (runs / "alpha" / "results.json").unlink()
    (runs / "alpha" / "tables.md").write_text("| method | gsm8k |\n", encoding="utf-8")
    show_run(runs / "alpha", Console())
    text = capsys.readouterr().out
    assert "This run is finished, but its results.json is not here" in text
    assert "| method | gsm8k |" in text
    assert "resume" not in text
    (runs / "alpha" / "manifest.json").unlink()
    show_run(runs / "alpha", Console())
    assert "rerun the same command to resume" in capsys.readouterr().out


def test_a_cancelled_manifest_outweighs_the_results(runs: Path) -> None:
    (runs / "alpha" / "manifest.json").write_text('{"status": "cancelled"}')
    assert "alpha was cancelled" in str(error(table_command, runs / "alpha"))


def test_compare_two_rows_of_a_run(runs: Path) -> None:
    text = ok(compare_command, f"{runs}/alpha:dasd", f"{runs}/alpha:sft")
    assert "alpha:dasd vs alpha:sft" in text
    (line,) = (line for line in text.splitlines() if line.startswith("gsm8k "))
    assert line.split() == ["gsm8k", "20", "75.0", "60.0", "+15.0", "[-3.2,", "+30.5]", "3", "0", "17", ".25", ".25"]
    assert "Not comparable" not in text
    for index in (8, 9, 14):
        assert f"gsm8k/test/{index} (A better)" in text
    assert "What is 14 + 14?" in text
    assert "A: correct, answer 28" in text
    assert "B: no_answer, no answer found" in text
    assert any("dasd text 14" in line and "sft text 14" in line for line in text.splitlines()), "side by side"
    assert max(map(len, text.splitlines())) <= 110


def test_compare_runs_by_shared_rows_and_says_why_not(runs: Path) -> None:
    text = ok(compare_command, "alpha", "beta", "--runs-dir", runs)
    assert "Warning: Not comparable: " in text
    assert "dtype differs (float32 and bfloat16)" in text
    assert "alpha:sft vs beta:sft" in text
    assert "alpha:dasd vs beta:dasd" in text


def test_compare_shows_ten_items_at_most(runs: Path, build: SimpleNamespace) -> None:
    arm = build.arm("sft", {0: {"gsm8k": build.score("0" * 10 + "1" * 10)}})
    files = {"arms/sft/seed0/eval/gsm8k": samples("0" * 10 + "1" * 10, "gsm8k", "x")}
    build.write(runs, build.run("gamma", arms=[arm]), files)
    text = ok(compare_command, "alpha:base", "gamma", "--runs-dir", runs)
    assert (text.count("(A better)"), text.count("(B better)")) == (5, 5)
    assert ok(compare_command, "alpha:base", "gamma", "--runs-dir", runs, "--items", 0).count("better)") == 0


def test_compare_as_json(runs: Path) -> None:
    raw = json.loads(ok(compare_command, f"{runs}/alpha:dasd", f"{runs}/beta:sft", "-f", "json"))
    (one,) = raw["comparisons"]
    assert one["table"]["rows"][0]["cells"]["p"]["value"] == 0.25
    assert [change["item"] for change in one["changes"]] == [f"gsm8k/test/{i}" for i in (14, 8, 9)]
    assert one["changes"][0]["a"]["completion"].startswith("dasd text")
    assert any("dtype" in reason for reason in one["not_comparable"])


def test_compare_as_markdown_shows_both_completions(runs: Path) -> None:
    text = ok(compare_command, f"{runs}/alpha:dasd", f"{runs}/beta:sft", "-f", "md")
    assert "Not comparable: dtype differs (float32 and bfloat16)." in text
    assert text.count("<details>") == 3
    assert "<summary>gsm8k/test/14: A better</summary>" in text
    assert "dasd text 14" in text
    assert "sft text 14" in text
    assert "answer 28" in text


def test_runs_that_trained_differently_say_in_which_options(runs: Path, build: SimpleNamespace) -> None:
    for name, lr in (("low", 1e-4), ("high", 5e-4)):
        train = build.run().train
        train.config = {"lr": lr, "epochs": 2.0}
        build.write(runs, build.run(name, train=train, conditions={"training": name, "data gsm8k": "d1"}))
    text = ok(table_command, runs / "low", runs / "high")
    assert "training.lr differs (0.0001 and 0.0005)" in " ".join(text.split())
    assert "epochs differs" not in text


def test_compare_errors(runs: Path, build: SimpleNamespace) -> None:
    assert "are the same row" in str(error(compare_command, f"{runs}/alpha:sft", f"{runs}/alpha:sft"))
    assert "Did you mean 'sft'" in str(error(compare_command, f"{runs}/alpha:sfd", f"{runs}/beta"))
    other = build.run("other", tasks=[build.task("arc")], base={"arc": build.score("10" * 10, "arc")}, arms=[])
    build.write(runs, other)
    found = error(compare_command, f"{runs}/alpha:base", f"{runs}/other:base")
    assert "have no task with the same evaluated items" in str(found)
    assert isinstance(error(compare_command, f"{runs}/alpha", f"{runs}/other"), UsageError)


def test_compare_without_completions_still_compares(runs: Path) -> None:
    path = runs / "alpha" / "arms" / "sft" / "seed0" / "eval" / "gsm8k" / "samples.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:4]) + '{"id": 3}\n' + "".join(lines[5:]), encoding="utf-8")
    text = ok(compare_command, f"{runs}/alpha:dasd", f"{runs}/alpha:sft")
    assert "samples.jsonl, line 5: not a sample" in text
    path.write_text("".join(lines)[:-20], encoding="utf-8")
    assert "holds 19 records" in ok(compare_command, f"{runs}/alpha:dasd", f"{runs}/alpha:sft")
    path.unlink()
    text = ok(compare_command, f"{runs}/alpha:dasd", f"{runs}/alpha:sft")
    assert "has no completions" in text
    assert "+15.0" in text


def test_list_and_show(runs: Path, build: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "alpha" / "results.json").write_text("{")
    (runs / "not-a-run").mkdir()
    list_runs(runs, Console())
    text = capsys.readouterr().out
    assert "not-a-run" not in text
    assert "alpha" in text
    assert "unreadable" in text
    (line,) = (line for line in text.splitlines() if line.startswith("beta "))
    for word in ("finished", "smollm2-135m", "sft, dasd", "gsm8k", "2026-11-22 20:00"):
        assert word in line
    show_run(runs / "beta", Console())
    text = capsys.readouterr().out
    for word in ("model.sha256: 0000", "command: dasd-bench run", "dtype: float32", "75.0 [53.1, 88.8]"):
        assert word in text
    show_run(runs / "stopped", Console())
    assert "was cancelled" in capsys.readouterr().out
    list_runs(runs / "not-a-run", Console())
    assert "There are no runs in" in capsys.readouterr().out


def test_json_events_are_one_object_a_line(build: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    print_tables(Console(json_events=True), run_tables([build.run()]))
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["table"]["key"] for event in events] == ["scores", "targets", "cost"]


def test_quiet_still_prints_the_table(build: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    print_tables(Console(quiet=True), run_tables([build.run()]))
    assert "75.0 [53.1, 88.8]" in capsys.readouterr().out


def test_importing_the_verbs_stays_light() -> None:
    code = (
        "import sys, dasd_bench.cli.table_cmd;"
        "print([n for n in ('torch','numpy','scipy','transformers') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_documented_schema_names_every_field(build: SimpleNamespace) -> None:
    text = (Path(__file__).parents[2] / "docs" / "results-schema.md").read_text(encoding="utf-8")

    def names(value: object) -> set[str]:
        if isinstance(value, dict):
            free = {"options", "config", "conditions", "reasons", "hpr", "groups", "other_metrics", "base", "scores"}
            inner = [names(v) if k not in free - {"base", "scores"} else set() for k, v in value.items()]
            return set(value).union(*inner)
        return set().union(*map(names, value)) if isinstance(value, list) else set()

    written = names(json.loads(build.run().to_json())) - {"gsm8k"}
    assert {name for name in written if f"{name}" not in text} == set()
    assert len(written) > 70


def test_an_output_is_written_through_and_never_over_a_run(runs: Path, tmp_path: Path) -> None:
    link, there = tmp_path / "link.md", tmp_path / "there.md"
    link.symlink_to(there)
    for command, options in (
        (table_command, ["-f", "md"]),
        (diagnose_command, ["--table", "outcomes", "-f", "md"]),
        (report_command, []),
    ):
        ok(command, runs / "alpha", *options, "-o", link)
        assert link.is_symlink()
        assert there.stat().st_size > 100
        there.unlink()
        ok(command, runs / "alpha", *options, "-o", "/dev/null")
        assert Path("/dev/null").is_char_device()
        refused = error(command, runs / "alpha", *options, "-o", runs / "alpha" / "results.json")
        assert "would overwrite the input" in str(refused)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.md", "runs"]
