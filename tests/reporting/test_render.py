"""The same table in every form: nothing cut, nothing lost, nothing unescaped."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
import rich.console

from dasd_bench.reporting.cost import cost_table
from dasd_bench.reporting.details import target_table
from dasd_bench.reporting.render import FORMATS, csv_text, html, json_text, latex, markdown, paper, render
from dasd_bench.reporting.render.latex import escape
from dasd_bench.reporting.render.terminal import renderables, terminal_text
from dasd_bench.reporting.scores import run_table
from dasd_bench.reporting.table import Cell, Column, Row, Table

NAMES = ("gsm8k", "arc_challenge", "mini_math", "mbpp", "commonsense_qa")


@pytest.fixture
def wide(build: SimpleNamespace) -> list[Table]:
    """Five tasks, six rows with long labels, two seeds."""
    tasks = [build.task(name, 20) for name in NAMES]
    base = {name: build.score("10" * 10, name) for name in NAMES}
    labels = ("sft", "self-distill", "dasd confidence-gate tau=0.9", "low-ppl", "profit")
    arms = [
        build.arm(
            label, {s: {n: build.score("1" * (8 + i + s) + "0" * (12 - i - s), n) for n in NAMES} for s in (0, 1)}
        )
        for i, label in enumerate(labels)
    ]
    run = build.run(tasks=tasks, base=base, arms=arms, seeds=[0, 1], methods=list(labels))
    return [run_table([run]), target_table([run]), cost_table([run])]


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_terminal_fits_and_loses_nothing(wide: list[Table], width: int) -> None:
    text = terminal_text(wide, width)
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text
    assert "…" not in text
    for table in wide:
        for row in table.rows:
            for column in table.shown():
                assert row.cell(column.key).plain in text
    for name in NAMES:
        assert name in text
    assert text.count("dasd confidence-gate tau=0.9") >= 3


def test_blocks_stay_together_where_they_fit(build: SimpleNamespace) -> None:
    tasks = [build.task(name, 20) for name in ("a", "b")]
    base = {name: build.score("10" * 10, name) for name in ("a", "b")}
    table = run_table([build.run(tasks=tasks, base=base, arms=[build.arm("sft", {0: base})])])
    assert terminal_text([table], 120).count("method") >= 1
    stacks = re.findall(r"^method .*$", terminal_text([table], 90), re.M)
    assert len(stacks) == 2
    assert "average ↑" in stacks[0]
    assert "ref. NLL" in stacks[1]


def _on_terminal(table: Table, **environment: str) -> str:
    out = io.StringIO()
    console = rich.console.Console(
        file=out, force_terminal=True, width=110, color_system="truecolor", _environ=environment
    )
    for part in renderables([table], 110):
        console.print(part)
    return out.getvalue()


def test_best_is_bold_and_second_underlined_on_a_terminal(build: SimpleNamespace) -> None:
    text = _on_terminal(run_table([build.run()]))
    assert "\x1b[1m75.0\x1b[0m" in text
    assert "\x1b[4m60.0\x1b[0m" in text


def test_no_color_is_honoured(build: SimpleNamespace) -> None:
    text = _on_terminal(run_table([build.run()]), NO_COLOR="1")
    codes = {code for found in re.findall(r"\x1b\[([\d;]*)m", text) for code in found.split(";")}
    assert codes <= {"0", "1", "3", "4", ""}, "only bold, italic and underline, no colour"


def test_markdown(build: SimpleNamespace) -> None:
    text = markdown(run_table([build.run()]), notes=True)
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 5
    assert len({line.count("|") for line in table}) == 1
    assert table[4].startswith("| dasd | **75.0** [53.1, 88.8] | +25.0 ")
    assert "<u>60.0</u>" in table[3]
    assert "exact\\_match" in text


def test_csv_has_raw_values(build: SimpleNamespace) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text([run_table([build.run()])]))))
    assert [row["method"] for row in rows] == ["base", "sft", "dasd"]
    assert [float(row["gsm8k"]) for row in rows] == [0.5, 0.6, 0.75]
    assert float(rows[1]["gsm8k:vs.p"]) == 0.6875
    assert rows[0]["gsm8k:vs.p"] == ""
    assert float(rows[2]["gsm8k.low"]) == pytest.approx(0.5313, abs=1e-4)
    assert float(rows[1]["gsm8k:nll_numeric"]) == 0.45, "hidden columns are there too"


def test_json_has_raw_values_and_schema(build: SimpleNamespace) -> None:
    raw = json.loads(json_text([run_table([build.run()])]))
    assert raw["schema_version"] == 1
    (table,) = raw["tables"]
    cell = table["rows"][2]["cells"]["gsm8k"]
    assert (cell["value"], cell["text"], cell["rank"], cell["n"]) == (0.75, "75.0 [53.1, 88.8]", 1, 20)
    assert {column["key"] for column in table["columns"]} >= {"gsm8k", "delta", "gsm8k:vs", "gsm8k:nll"}
    assert table["columns"][0] == {"key": "gsm8k", "title": "gsm8k", "direction": "up", "shown": True}


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta",):
            self.open.append(tag)
        self.rows += tag == "tr"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_html_is_well_formed_and_escaped(build: SimpleNamespace) -> None:
    run = build.run(model="<script>alert(1)</script>")
    text = html([run_table([run])])
    tags = _Tags()
    tags.feed(text)
    assert tags.open == []
    assert tags.rows == 4
    assert "<script>" not in text
    assert "<strong>75.0</strong>" in text


def test_latex_escapes_what_latex_would_read() -> None:
    assert escape("a_b & 5 % of $x #1 {y} ~^\\") == (
        r"a\_b \& 5 \% of \$x \#1 \{y\} \textasciitilde{}\textasciicircum{}\textbackslash{}"
    )
    assert escape("+1.5 [-2.0, +5.0]") == "+1.5 [$-$2.0, +5.0]"
    assert escape("low-ppl 5-shot r1-2") == "low-ppl 5-shot r1-2", "hyphens stay hyphens"
    assert escape("Δ ↑ ± † 模") == r"$\Delta$ $\uparrow$ $\pm$ $^\dagger$ [U+6A21]"


def test_latex_table(build: SimpleNamespace) -> None:
    text = latex(run_table([build.run("a_1"), build.run("b", model="qwen3-4b")]))
    assert text.count("\\toprule") == text.count("\\bottomrule") == 1
    assert "\\bfseries 75.0 & {\\scriptsize [53.1, 88.8]}" in text
    assert "{\\underline{60.0}}" in text
    signed = "S[table-format=+2.1,retain-explicit-plus]"
    assert f"\\begin{{tabular}}{{lS[table-format=2.1]@{{\\,}}l{signed}@{{\\,}}lrS[table-format=1.3]}}" in text
    assert "\\multicolumn{7}{l}{\\emph{qwen3-4b}}" in text
    assert text.count("\\midrule[0.3pt]") == 2, "a rule under each base"
    body = [line for line in text.splitlines() if line.endswith("\\\\") and "multicolumn" not in line]
    assert {line.count(" & ") for line in body} == {6}
    assert not re.search(r"(?<!\\)[_#]", text.replace("\\label{tab:scores}", ""))


def test_significance_marks_reach_the_paper(build: SimpleNamespace) -> None:
    arm = build.arm("sft", {0: {"gsm8k": build.score("1" * 20)}})
    text = latex(run_table([build.run(base={"gsm8k": build.score("0" * 20)}, arms=[arm])]))
    assert "\\bfseries 100.0 & $^{**}$" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed on this machine")
def test_paper_compiles(wide: list[Table], tmp_path: Path) -> None:
    (tmp_path / "paper.tex").write_text(paper(wide), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull \\hbox" not in done.stdout


def test_a_paper_is_one_document(wide: list[Table]) -> None:
    text = paper(wide)
    for name in ("document", "table", "tabular"):
        assert text.count(f"\\begin{{{name}}}") == text.count(f"\\end{{{name}}}")
    plain = re.sub(r"\\.", "", text)
    assert plain.count("{") == plain.count("}")
    assert text.count("$") % 2 == 0
    assert text.isascii()


@pytest.mark.parametrize("form", FORMATS)
def test_every_form_renders_a_table_of_texts(form: str) -> None:
    table = Table("t", "Title", [Column("a", "A | B")], [Row("x|y", {"a": Cell("1 | 2")})])
    text = render([table], form)
    assert "1 " in text
    assert text.endswith("\n")
