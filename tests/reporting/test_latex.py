"""``table --paper`` through pdflatex; skipped where it is not installed."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from dasd_bench.cli.table_cmd import table_command
from dasd_bench.reporting.render import latex, paper
from dasd_bench.reporting.scores import run_table

needs_pdflatex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")


def compile_page(source: str, folder: Path) -> str:
    """Compiles ``source``, without an error or overfull line; gives the page as text where poppler is there."""
    (folder / "table.tex").write_text(source, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    for complaint in ("Overfull", "Missing character", "undefined"):
        assert complaint not in done.stdout
    if shutil.which("pdftotext") is None:
        return ""
    return subprocess.run(["pdftotext", "-layout", "table.pdf", "-"], cwd=folder, capture_output=True, text=True).stdout


@needs_pdflatex
def test_paper_compiles_as_it_is(build: SimpleNamespace, tmp_path: Path) -> None:
    run = build.write(tmp_path, build.run("under_score & 100%"))
    result = CliRunner().invoke(table_command, [str(run), "--paper"])
    assert result.exception is None, result.output
    text = compile_page(result.stdout, tmp_path)
    if text:
        for words in ("Table 1: smollm2-135m.", "75.0 [53.1, 88.8]", "DASD", "GSM8K ↑", "one seed (0)"):
            assert words in text


@needs_pdflatex
def test_wide_tables_odd_names_and_groups_compile(build: SimpleNamespace, tmp_path: Path) -> None:
    names = [f"task_{i}%with^odd~names" for i in range(9)]
    bits = "1" * 12 + "0" * 8
    arms = [
        build.arm("sft", {s: {n: build.score(bits, n) for n in names} for s in (0, 1)}, label="sft \\ {x} #1 $y$ é τ ☃")
    ]
    base = {n: build.score("10" * 10, n) for n in names}
    tasks = [build.task(n) for n in names]
    one = build.run("one", tasks=tasks, base=base, arms=arms, seeds=[0, 1])
    table = run_table([one, replace(one, run_id="two_2", model="other_model")])
    assert len(latex(table)) > 1000
    compile_page(paper([table]), tmp_path)


def test_the_caption_has_what_a_reader_needs_and_notes_are_asked_for(build: SimpleNamespace) -> None:
    table = run_table([build.run(status="partial")])
    caption, _, rest = latex(table).partition("\\label")
    assert "n: gsm8k 20 test items; one seed (0)" in caption
    assert "Bold: best of the column, whether or not significant; underlined: second best." in caption
    assert "Wilson" not in caption + rest
    rest = latex(table, notes=True).partition("\\label")[2]
    places = [rest.index(words) for words in ("\\bottomrule", "Warning: Run r1 is partial", "Every method has")]
    assert places == sorted(places)


def test_a_column_of_spreads_shows_no_interval(build: SimpleNamespace) -> None:
    arm = build.arm("sft", {s: {"gsm8k": build.score("1" * (11 + s) + "0" * (9 - s))} for s in (0, 1)})
    text = latex(run_table([build.run(arms=[arm], seeds=[0, 1])]))
    assert "base & 50.0 &  &" in text
    assert "57.5 & {\\scriptsize $\\pm$ 3.5}" in text


def test_display_names_and_rename(build: SimpleNamespace, tmp_path: Path) -> None:
    run = build.write(tmp_path, build.run())
    text = CliRunner().invoke(table_command, [str(run), "--paper", "--rename", "dasd=Ours"]).stdout
    assert "n: GSM8K 20 test items" in text
    assert "SFT & " in text
    assert "Ours & " in text
    plain = CliRunner().invoke(table_command, [str(run), "--table", "scores", "--rename", "sft=Plain SFT"]).stdout
    assert "Plain SFT" in plain
    assert "gsm8k" in plain
    wrong = CliRunner().invoke(table_command, [str(run), "--rename", "dasd"]).exception
    assert "--rename takes NAME=TEXT" in str(wrong)
