"""Plots of runs: files, what they say in words, and what they refuse."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.made_run import Size, make_run
from dasd_bench.cli.plot_cmd import plot_command
from dasd_bench.errors import DasdError
from dasd_bench.reporting.details import group_table
from dasd_bench.reporting.plots import KINDS, Nothing, Plot, Source, draw, inline_svg, save
from dasd_bench.reporting.plots.forgetting import pareto_front
from dasd_bench.reporting.plots.style import styles
from dasd_bench.reporting.plots.training import read_curve, running_mean
from dasd_bench.reporting.retention import js_distance
from dasd_bench.results.runs import load_run
from dasd_bench.results.schema import Drift, StageTime


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "alpha", Size(examples=6, tokens=12, items=20))


def source(path: Path) -> Source:
    return Source(path, load_run(path))


def one(path: Path, kind: str) -> Plot:
    (found,) = draw([source(path)], [kind])
    assert isinstance(found, Plot)
    return found


def test_every_kind_as_pdf_svg_and_png(run: Path, tmp_path: Path) -> None:
    drawn = draw([source(run)], list(KINDS))
    assert [plot.kind for plot in drawn] == list(KINDS)
    for plot in drawn:
        assert isinstance(plot, Plot)
        pdf, svg, png = save(plot, tmp_path)
        assert pdf.read_bytes().startswith(b"%PDF")
        assert b"/Type3" not in pdf.read_bytes()
        assert ET.parse(svg).getroot().tag.endswith("svg")
        assert png.read_bytes().startswith(b"\x89PNG")


def test_the_same_run_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    first = [path.read_bytes() for path in save(one(run, "cost"), tmp_path / "a")]
    assert first == [path.read_bytes() for path in save(one(run, "cost"), tmp_path / "b")]


def test_difficulty_says_the_numbers_of_the_table(run: Path) -> None:
    table = group_table([load_run(run)], "level")
    alt = one(run, "difficulty").alt
    for row in table.rows:
        numbers = ", ".join(f"{level} {100 * (row.cell(f'math:{level}').value or 0):.0f}" for level in "12345")
        assert f"math, {row.label}: {numbers}" in alt


def test_a_note_has_one_point_per_value_of_its_option(run: Path) -> None:
    alt = one(run, "notes").alt
    for arm in load_run(run).arms[2:]:
        stats = arm.seeds[0].target_stats
        assert stats is not None
        (share,) = (note.value for note in stats.notes if note.name == "gated_replaced")
        assert f"tau {arm.options['tau']:g}: in gated {100 * share:.1f} %" in alt


def test_drift_is_a_second_measure_of_forgetting(build: SimpleNamespace, tmp_path: Path) -> None:
    results = build.run("drifted")
    results.base_drift = Drift(["gsm8k"] * 2, [1.0, 2.0], [4, 4], [0.0, 0.0], [0.0, 0.0], [4, 4])
    results.arms[1].seeds[0].drift = Drift(["gsm8k"] * 2, [1.0, 2.0], [4, 4], [0.1, 0.3], [0.01, 0.1], [4, 4])
    alt = one(build.write(tmp_path, results), "forgetting").alt
    assert "base: 50.0 % on trained tasks, drift 0.000" in alt
    assert "dasd: 75.0 % on trained tasks, drift 0.200" in alt
    assert "sft" not in alt


def test_drift_weighs_tokens_as_the_retention_table_does(build: SimpleNamespace, tmp_path: Path) -> None:
    results = build.run("drifted")
    results.base_drift = Drift(["gsm8k"] * 2, [1.0, 2.0], [4, 4], [0.0, 0.0], [0.0, 0.0], [1, 9])
    drift = Drift(["gsm8k"] * 2, [1.0, 2.0], [4, 4], [0.1, 0.5], [0.01, 0.1], [1, 9])
    results.arms[1].seeds[0].drift = drift
    value, _ = js_distance([drift])
    assert value == pytest.approx((0.1 + 9 * 0.5) / 10)
    assert f"dasd: 75.0 % on trained tasks, drift {value:.3f}" in one(build.write(tmp_path, results), "forgetting").alt


def test_a_task_left_out_of_training_is_no_trained_task(build: SimpleNamespace, tmp_path: Path) -> None:
    """``--train-tasks gsm8k`` with ARC evaluated: its change is forgetting, its score no success of training."""
    results = build.run("left", tasks=[build.task(), build.task("arc", n_train=0)])
    results.base["arc"] = build.score("1" * 10 + "0" * 10, "arc")
    for arm, bits in zip(results.arms, ("1" * 5 + "0" * 15, "1" * 10 + "0" * 10), strict=True):
        arm.seeds[0].scores["arc"] = build.score(bits, "arc")
    plot = one(build.write(tmp_path, results), "forgetting")
    assert "sft: 60.0 % on trained tasks, -25.0 points on the others" in plot.alt
    assert "dasd: 75.0 % on trained tasks, +0.0 points on the others" in plot.alt
    assert "Not trained on: arc;" in plot.caption


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([{}, {}], "no retention task"),
        ([{"n_train": 0}, {"retention": True}], "evaluated no task that they were trained on"),
        ([{}, {"retention": True, "percent": False}], "which arc does not measure"),
        ([{}, {"n_train": 0}], "No row of these runs finished all its trained and retention tasks"),
    ],
)
def test_why_there_is_no_forgetting_plot(
    changes: list[dict[str, object]], words: str, build: SimpleNamespace, tmp_path: Path
) -> None:
    tasks = [build.task(name, **change) for name, change in zip(("gsm8k", "arc"), changes, strict=True)]
    (found,) = draw([source(build.write(tmp_path, build.run("none", tasks=tasks)))], ["forgetting"])
    assert isinstance(found, Nothing)
    assert words in found.why


def test_methods_with_the_same_targets_share_a_line(run: Path) -> None:
    assert "sft = low-ppl: PPL" in one(run, "ppl").alt


def test_what_cannot_be_drawn_is_said(build: SimpleNamespace, tmp_path: Path) -> None:
    path = build.write(tmp_path, build.run("plain"))
    drawn = {plot.kind: plot for plot in draw([source(path)], list(KINDS))}
    for kind, words in {
        "difficulty": "No task of these runs has a difficulty level",
        "ppl": "no histogram",
        "notes": "No row of these runs counts anything against an option",
        "forgetting": "no retention task",
        "training": "no training metrics",
    }.items():
        found = drawn[kind]
        assert isinstance(found, Nothing)
        assert words in found.why
    result = CliRunner().invoke(plot_command, [str(path), "--kind", "forgetting", "-o", str(tmp_path / "out")])
    assert isinstance(result.exception, DasdError)
    assert "No plot 'forgetting'" in result.output


def test_unfinished_rows_are_left_out_and_said(build: SimpleNamespace, tmp_path: Path) -> None:
    results = build.run("half", status="partial")
    results.tasks.append(build.task("arc"))
    results.base["arc"] = build.score("1" * 20, "arc")
    results.arms[0].seeds[0].scores["arc"] = build.score("10" * 10, "arc")
    results.arms[0].seeds[0].scores["gsm8k"] = build.score("10" * 10)
    results.arms.append(replace(results.arms[0], method="dft", label="dft"))
    results.stages.append(StageTime("train", 50.0, arm="dft", seed=0))
    path = build.write(tmp_path, results)
    plot = one(path, "cost")
    assert "sft" in plot.alt
    assert "dasd" not in plot.alt
    assert "Partial run: half" in plot.caption


def test_cost_marks_what_was_reused(build: SimpleNamespace, tmp_path: Path) -> None:
    results = build.run("reused")
    # dasd: targets 30 s; its training was reused, but the store keeps its 61 s.
    path = build.write(tmp_path, results)
    assert "dasd: 75.0 % at 91.0 s" in one(path, "cost").alt
    for stage in results.stages:
        stage.reused = True
    path = build.write(tmp_path / "again", results)
    plot = one(path, "cost")
    assert "dasd: 75.0 % at at least 61.0 s" in plot.alt
    assert "Hollow" in plot.caption


def test_targets_that_seeds_share_cost_one_seed_their_whole_time(build: SimpleNamespace, tmp_path: Path) -> None:
    score = {"gsm8k": build.score("1" * 15 + "0" * 5)}
    arm = build.arm("dasd", {0: score, 1: score, 2: score})
    stages = [StageTime("targets", 30.0, arm="dasd", seed=0), StageTime("score", 6.0, arm="dasd", seed=0)]
    for seed in (1, 2):
        stages += [StageTime(name, 0.1, True, arm="dasd", seed=seed) for name in ("targets", "score")]
    stages += [StageTime("train", 60.0 + seed, arm="dasd", seed=seed) for seed in (0, 1, 2)]
    other = build.arm("sft", {0: score, 1: score, 2: score})
    stages.append(StageTime("train", 50.0, arm="sft", seed=0))
    results = build.run("shared", arms=[arm, other], seeds=[0, 1, 2], stages=stages, methods=["dasd", "sft"])
    plot = one(build.write(tmp_path, results), "cost")
    assert "dasd: 75.0 % at 97.0 s" in plot.alt
    assert "Wall time of one seed" in plot.caption
    assert "Hollow" not in plot.caption
    stages[0] = StageTime("targets", 30.0, arm="dasd", seed=0)
    stages[2] = StageTime("targets", 10.0, arm="dasd", seed=1)
    assert "at 87.0 s" in one(build.write(tmp_path / "own", results), "cost").alt, "targets of their own: the mean"


def curves(folder: Path, *losses: list[float]) -> Source:
    """A run whose arm sft has one seed per list of losses."""
    run = make_run(folder, Size(examples=4, tokens=8, items=10, seeds=tuple(range(len(losses)))))
    for seed, values in enumerate(losses):
        rows = [
            {"step": step, "loss": loss, "kept_tokens": 1, "all_tokens": 2} for step, loss in enumerate(values, start=1)
        ]
        path = run / "arms" / "sft" / f"seed{seed}" / "train" / "metrics.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    results = load_run(run)
    results.arms = results.arms[:1]
    return Source(run, results)


def test_the_bold_line_is_the_mean_of_all_seeds_as_far_as_all_go(tmp_path: Path) -> None:
    (plot,) = draw([curves(tmp_path / "a", [4.0, 3.0, 2.0], [2.0, 1.0])], ["training"])
    assert isinstance(plot, Plot)
    left = plot.figure.axes[0]
    (bold,) = (line for line in left.lines if line.get_label() == "sft")
    assert [list(map(float, line.get_ydata())) for line in left.lines if line is not bold] == [[4, 3, 2], [2, 1]]
    assert list(map(float, bold.get_xdata())) == [1, 2]
    assert list(map(float, bold.get_ydata())) == [3.0, 2.0]
    assert "Bold: mean over seeds, at the steps that all seeds of a method have; thin: each seed." in plot.caption
    assert "sft: loss 3.00 at the first step, 1.50 at the last" in plot.alt


def test_the_caption_says_what_is_smoothed(tmp_path: Path) -> None:
    (alike,) = draw([curves(tmp_path / "a", [2.0] * 5, [1.0] * 5)], ["training"])
    (long,) = draw([curves(tmp_path / "b", [2.0, 1.0] * 40)], ["training"])
    (short,) = draw([curves(tmp_path / "c", [2.0] * 5)], ["training"])
    assert isinstance(alike, Plot)
    assert isinstance(long, Plot)
    assert isinstance(short, Plot)
    assert "Bold: mean over seeds; thin: each seed." in alike.caption
    assert "Bold: running mean over a twentieth of the steps (where there are 60 or more); thin" in long.caption
    assert "Bold" not in short.caption


def test_svg_for_a_page_keeps_text_and_takes_the_pages_colours(run: Path) -> None:
    parts = [inline_svg(one(run, kind)) for kind in ("cost", "training")]
    seen: set[str] = set()
    for text in parts:
        root = ET.fromstring(text)
        assert root.get("role") == "img"
        assert "dasd+tau=0.5" in str(root.get("aria-label"))
        assert any("dasd+tau=0.9" in "".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text"))
        assert "var(--plot-ink, #30343b)" in text
        assert "var(--plot-1, #0072b2)" in text
        ids = set(re.findall(r' id="([^"]+)"', text))
        assert ids.isdisjoint(seen)
        seen |= ids


def test_styles_can_be_told_apart_without_colour() -> None:
    look = styles(["base", *map(str, range(8))])
    own = [look[str(i)] for i in range(8)]
    for name in ("marker", "line", "hatch", "colour"):
        assert len({str(getattr(style, name)) for style in own}) == 8
    more = styles(map(str, range(16)))
    assert len({(style.colour, style.marker) for style in more.values()}) == 16


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12))
def test_the_front_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    front = pareto_front(points)
    assert front == sorted(set(front))
    for point in points:
        beaten = any(o[0] >= point[0] and o[1] >= point[1] and o != point for o in points)
        assert (point in front) is not beaten


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=200))
def test_running_mean_stays_within_its_values(values: list[float]) -> None:
    smooth = running_mean(values)
    assert len(smooth) == len(values)
    assert min(values) - 1e-9 <= min(smooth) <= max(smooth) <= max(values) + 1e-9


def test_a_cut_off_line_of_metrics_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0, "kept_tokens": 3, "all_tokens": 4}\n{"step": 2, "lo')
    curve = read_curve(path)
    assert curve is not None
    assert (curve.steps, curve.loss, curve.kept) == ([1], [2.0], [0.75])


def test_several_runs_are_named(run: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "beta", Size(examples=4, tokens=8, items=20, seeds=(0,)))
    out = tmp_path / "plots"
    result = CliRunner().invoke(plot_command, [str(run), str(other), "-k", "cost", "-k", "training", "-o", str(out)])
    assert result.exception is None, result.output
    assert sorted(path.name for path in out.iterdir()) == [
        f"{kind}.{form}" for kind in ("cost", "training") for form in ("pdf", "png", "svg")
    ]
    (plot,) = draw([source(run), source(other)], ["cost"])
    assert isinstance(plot, Plot)
    assert "sft [alpha]" in plot.alt
    assert "sft [beta]" in plot.alt


def test_scores_are_those_of_the_table_with_intervals(build: SimpleNamespace, tmp_path: Path) -> None:
    path = build.write(tmp_path, build.run())
    plot = one(path, "scores")
    assert plot.alt == "base: gsm8k 50.0; sft: gsm8k 60.0; dasd: gsm8k 75.0"
    (axis,) = plot.figure.axes
    assert len(axis.collections) == 3, "an interval for every row"
    low, high = axis.get_ylim()
    assert low < 29.9
    assert high > 88.8


def test_cost_shows_every_point_inside_its_axes(build: SimpleNamespace, tmp_path: Path) -> None:
    plot = one(build.write(tmp_path, build.run()), "cost")
    (axis,) = plot.figure.axes
    low, high = axis.get_xlim()
    seconds = [
        line.get_xdata()[0]
        for line in axis.lines
        if line.get_label() != "base (no cost)" and len(line.get_xdata()) == 1
    ]
    assert seconds
    assert all(low < second < high for second in seconds)
    assert axis.collections, "one seed has an interval over items"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("scores", "a single finished row"),
        ("cost", "a single trained row"),
        ("notes", "one value of tau (0.7), which makes no curve"),
        ("forgetting", "No row of these runs finished"),
        ("difficulty", "the same level"),
        ("training", "a single step"),
    ],
)
def test_a_figure_with_one_point_is_not_drawn(kind: str, words: str, build: SimpleNamespace, tmp_path: Path) -> None:
    tasks = [build.task(), build.task("boolq", retention=True, n_train=0)]
    scores = {"gsm8k": build.score("1" * 12 + "0" * 8, levels="1" * 20), "boolq": build.score("10" * 10, "boolq")}
    arm = build.arm("dasd", {0: scores}, options={"tau": 0.7})
    arm.seeds[0].target_stats = build.targets(notes=[build.note("gated_replaced", 0.2, how="share", against="tau")])
    stages = [StageTime("train", 61.0, arm="dasd", seed=0)]
    path = build.write(tmp_path, build.run(tasks=tasks, base={}, arms=[arm], methods=["dasd"], stages=stages))
    metrics = path / "arms" / "dasd" / "seed0" / "train" / "metrics.jsonl"
    metrics.parent.mkdir(parents=True)
    metrics.write_text('{"step": 1, "loss": 1.0, "kept_tokens": 1, "all_tokens": 1}\n', encoding="utf-8")
    (found,) = draw([source(path)], [kind])
    assert isinstance(found, Nothing)
    assert words in found.why


def test_two_methods_with_one_point_each_make_no_curve(build: SimpleNamespace, tmp_path: Path) -> None:
    arms = []
    for method, tau in (("dasd", 0.7), ("other", 0.9)):
        arm = build.arm(method, {0: {"gsm8k": build.score("10" * 10)}}, options={"tau": tau})
        arm.seeds[0].target_stats = build.targets(notes=[build.note("gated_replaced", 0.2, how="share", against="tau")])
        arms.append(arm)
    path = build.write(tmp_path, build.run(arms=arms, methods=["dasd", "other"]))
    (found,) = draw([source(path)], ["notes"])
    assert isinstance(found, Nothing)
    assert "one value of tau (0.7, 0.9), which makes no curve" in found.why
