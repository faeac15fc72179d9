"""Sweeps, runs on validation rows, budgets and several processes from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dasd_bench.cli.sweep_cmd import run_command
from dasd_bench.config.spec import arms, parse_set, resolve, split_commas
from dasd_bench.registry import discover
from dasd_bench.results.schema import RunResults
from dasd_bench.run.sweep import Cell, Point, Surface, check_axes, parse_grid, point_spec, winners
from tests.run.helpers import command, run_args

PICKY = """
from dataclasses import dataclass
from dasd_bench.api import Method, option
from dasd_bench.errors import TrainingError

@dataclass(frozen=True)
class Picky(Method):
    name = "picky"
    summary = "wants a number that is not negative"
    want: int = option(0, help="What it wants.")

    def make_targets(self, examples, context):
        if self.want < 0:
            raise TrainingError(f"want is {self.want}.")
        context.warn(f"I want {self.want}")
        return super().make_targets(examples, context)
"""

GRID = ["--grid", "training.lora_rank=2,4", "--grid", "training.lr=1e-2"]


def sweep_args(model: Path, folder: Path, *more: str, methods: str = "sft,dasd") -> list[str]:
    args = run_args(model, folder, "--validation", "4", *more, methods=methods)
    return ["sweep", *args[1:]]


@pytest.fixture(scope="module")
def swept(tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of two arms over two points, then its best settings on the test split."""
    from dasd_bench.cli.main import run_cli

    folder = tmp_path_factory.mktemp("sweep")
    assert run_cli(sweep_args(tiny_folder("llama"), folder, *GRID, "--final")) == 0
    return folder


def test_sweep_scores_every_arm_at_every_point(swept: Path) -> None:
    found = json.loads((swept / "run" / "sweep.json").read_text())
    assert found["status"] == "finished"
    assert [point["settings"] for point in found["points"]] == [
        {"training.lora_rank": rank, "training.lr": rate} for rank in ("2", "4") for rate in ("1e-2",)
    ]
    for point in found["points"]:
        run = RunResults.load(swept / "run" / point["run"])
        assert set(point["arms"]) == {"sft", "dasd"}
        for arm in run.arms:
            scores = arm.seeds[0].scores
            assert point["arms"][arm.label]["by_task"] == {name: score.mean for name, score in scores.items()}
    for arm, best in found["best"].items():
        cells = [point["arms"][arm] for point in found["points"]]
        keys = [(-cell["score"], cell["own_nll"] or 0.0) for cell in cells]
        assert (-best["score"], best["own_nll"] or 0.0) == min(keys)


def test_validation_rows_are_never_trained_on_and_never_test_rows(swept: Path) -> None:
    """They lie behind the five training rows of each task, so training data is that of the final run."""
    point = next((swept / "run" / "points").iterdir())
    arm = point / "arms" / "sft" / "seed0"
    trained = {json.loads(line)["id"] for line in (arm / "targets.jsonl").read_text().splitlines()}
    for task in ("mini_gsm", "mini_arc"):
        lines = [json.loads(line) for line in (arm / "eval" / task / "samples.jsonl").read_text().splitlines()]
        ids = {line["id"] for line in lines}
        assert len(ids) == 4
        assert all(name.startswith(f"{task}/train/") for name in ids)
        assert not ids & trained
    final = swept / "run" / "final" / "arms"
    assert [json.loads(line)["id"] for line in next(final.glob("sft*/seed0/targets.jsonl")).read_text().splitlines()]
    info = RunResults.load(point).tasks[0]
    assert not info.comparable
    assert "validation on rows of the train split" in info.note


def test_points_share_targets_and_scores(swept: Path) -> None:
    points = sorted((swept / "run" / "points").iterdir())
    reused = []
    for point in points:
        stages = json.loads((point / "manifest.json").read_text())["stages"]["each"]
        reused.append({(s["name"], s["arm"]) for s in stages if s["reused"]})
        assert sum(s["name"] == "train" and not s["reused"] for s in stages) == 2
    assert sum(("targets", "dasd") in found for found in reused) == 1
    assert sum(("evaluate mini_gsm", "base") in found for found in reused) == 1
    final = json.loads((swept / "run" / "final" / "manifest.json").read_text())["stages"]["each"]
    assert all(s["reused"] for s in final if s["name"] in ("targets", "score"))


def test_the_final_run_trains_each_arm_its_own_way_and_says_so(swept: Path) -> None:
    found = json.loads((swept / "run" / "sweep.json").read_text())
    final = RunResults.load(swept / "run" / "final")
    for arm in final.arms:
        base = arm.label.split("+")[0]
        settings = found["best"][base]["settings"]
        assert arm.label == "+".join([base, *(f"{key}={value}" for key, value in settings.items())])
        line = (final.train.arms or {arm.label: final.train.line})[arm.label]
        assert f"r={settings['training.lora_rank']} " in line
    assert all(score.n == 6 for score in final.base.values())
    assert "--validation" not in found["final_command"]
    assert all(arm.label in found["final_command"] for arm in final.arms)


def test_sweep_again_computes_nothing(swept: Path, tiny_folder: Callable[[str], Path], capsys) -> None:
    before = (swept / "run" / "sweep.json").read_text()
    result = command(capsys, *sweep_args(tiny_folder("llama"), swept, *GRID))
    assert result.code == 0, result.err
    assert "computed in" not in result.out
    assert (swept / "run" / "sweep.json").read_text() == before
    assert "sft: best lora_rank=" in result.out
    assert "On the test split: dasd-bench run" in result.out


def test_another_sweep_is_refused_the_folder(swept: Path, tiny_folder: Callable[[str], Path], capsys) -> None:
    before = (swept / "run" / "sweep.json").read_bytes()
    result = command(capsys, *sweep_args(tiny_folder("llama"), swept, "--grid", "training.lora_rank=3"))
    assert result.code == 2
    assert "contains a sweep with other settings" in result.err
    assert (swept / "run" / "sweep.json").read_bytes() == before


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ([], "A sweep needs a grid"),
        (["training.lr"], "write NAME=VALUE,VALUE"),
        (["training.lr=1e-4", "training.lr=2e-4"], "named twice"),
        (["training.rank=8"], "Did you mean 'lora_rank'"),
        (["training.lr=fast"], "training.lr=fast is not a valid float"),
        (["engine.max_num_seqs=2,4"], "do not change training"),
        (["dasd.rho=0.5,-1"], "out of range"),
        (['training.lora_targets="q_proj,v_proj'], "an unclosed double quote"),
    ],
)
def test_a_wrong_grid_is_told_before_anything_runs(
    grid: list[str], message: str, tiny_folder: Callable[[str], Path], tmp_path: Path, capsys
) -> None:
    given = [word for item in grid for word in ("--grid", item)]
    result = command(capsys, *sweep_args(tiny_folder("llama"), tmp_path, *given))
    assert result.code == 2
    assert message in result.err
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("methods", "more", "grid", "message"),
    [
        (
            "sft+training.lr=1e-4",
            [],
            "training.lr=1e-3,1e-2",
            "--grid training.lr: --method sft+training.lr=1e-4 sets it",
        ),
        ("dasd,dasd+rho=0.7", [], "method.rho=0.5,0.9", "--grid method.rho: --method dasd+rho=0.7 sets it"),
        ("sft,dasd+rho=0.7", [], "dasd.rho=0.5,0.9", "--grid dasd.rho: --method dasd+rho=0.7 sets it"),
        ("dasd", ["--set", "dasd.rho=0.6"], "method.rho=0.5,0.9", "--grid method.rho: dasd.rho is set to 0.6"),
    ],
)
def test_an_axis_that_an_arm_sets_itself_is_refused(
    methods: str,
    more: list[str],
    grid: str,
    message: str,
    tiny_folder: Callable[[str], Path],
    tmp_path: Path,
    capsys,
) -> None:
    args = sweep_args(tiny_folder("llama"), tmp_path, *more, "--grid", grid, methods=methods)
    result = command(capsys, *args)
    assert result.code == 2
    assert message in result.err
    assert not (tmp_path / "store").exists()


def test_an_axis_of_another_arm_is_no_trouble() -> None:
    spec = resolve({"methods": ["dasd+rho=0.7", "low-ppl"]}, parse_set(["low-ppl.tau=2", "training.lr=1e-3"]))
    check_axes(spec, Point({"low-ppl.tau": "2", "training.lr": "1e-3"}))


def test_a_grid_value_may_hold_commas() -> None:
    points = parse_grid(['training.lora_targets=all-linear,"q_proj,v_proj"', "training.lr=1e-4"])
    assert [point.settings["training.lora_targets"] for point in points] == ["all-linear", "q_proj,v_proj"]
    surface = Surface(points, ["sft"], {"sft": [Cell(0.1, 1.0), Cell(0.2, 1.0)]})
    spec = resolve({"methods": ["sft"]})
    assert point_spec(spec, points[1]).training.lora_targets == "q_proj,v_proj"
    best = winners(spec, discover(), surface)
    assert arms(best, discover())[0].training.lora_targets == "q_proj,v_proj"
    words = run_command(best)
    given = words[words.index("--methods") + 1]
    assert tuple(split_commas(given)) == best.methods


def test_a_grid_wins_over_the_cards() -> None:
    """A value that is the default is a point like any other, and the command of the winners says it."""
    card = discover().method("profit").item.card
    spec = resolve({"methods": ["profit"], "budget": "card"})
    for point in parse_grid(["training.lr=2e-4,1e-3"]):
        (arm,) = arms(point_spec(spec, point), discover())
        assert arm.training.lr == float(point.settings["training.lr"])
        assert arm.training.epochs == card["epochs"]
    assert "training.lr=0.0002" in run_command(resolve({"budget": "card"}, parse_set(["training.lr=2e-4"])))


def test_a_bad_point_is_marked_and_the_others_are_run(
    tiny_folder: Callable[[str], Path], tmp_path: Path, capsys
) -> None:
    """And no point's warnings are those of another."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "picky.py").write_text(PICKY)
    grid = ["--grid", "picky.want=1,-1,2", "--plugins", str(tmp_path / "plugins")]
    result = command(capsys, *sweep_args(tiny_folder("llama"), tmp_path, *grid, methods="picky"))
    assert result.code == 3, result.err
    assert "point want=-1 failed: No arm could be prepared" in result.out
    found = json.loads((tmp_path / "run" / "sweep.json").read_text())
    assert found["status"] == "finished"
    assert [cells["arms"]["picky"].get("failed", False) for cells in found["points"]] == [False, True, False]
    warned = [
        [line for line in RunResults.load(tmp_path / "run" / "points" / f"want={want}").warnings if "want" in line]
        for want in ("1", "2")
    ]
    assert warned == [["I want 1"], ["I want 2"]]


def test_a_sweep_without_any_result_says_so(tiny_folder: Callable[[str], Path], tmp_path: Path, capsys) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "picky.py").write_text(PICKY)
    grid = ["--grid", "picky.want=-1,-2", "--plugins", str(tmp_path / "plugins")]
    result = command(capsys, *sweep_args(tiny_folder("llama"), tmp_path, *grid, methods="picky"))
    assert result.code == 1
    assert "No arm finished at any point of the grid" in result.err


def test_too_many_validation_rows_are_refused(tiny_folder: Callable[[str], Path], tmp_path: Path, capsys) -> None:
    args = run_args(tiny_folder("llama"), tmp_path, "--validation", "1000", methods="sft")
    result = command(capsys, *args)
    assert result.code == 2
    assert "1000 validation rows cannot be taken" in result.err


def test_tasks_left_out_of_validation_are_named_with_the_reason(
    tiny_folder: Callable[[str], Path], tmp_path: Path, capsys
) -> None:
    # The task mini_arc is among the tasks already.
    tasks = ["--tasks", "mini_math,humaneval", "--train-tasks", "mini_gsm", "--confirm-run-unsafe-code"]
    args = run_args(tiny_folder("llama"), tmp_path, "--validation", "4", *tasks, "--dry-run", methods="sft")
    result = command(capsys, *args)
    assert result.code == 0
    assert "Validation leaves out tasks without a train split: humaneval." in result.out + result.err
    assert "Validation leaves out tasks that are not trained on: mini_arc, mini_math." in result.out + result.err


def test_the_best_point_has_the_highest_score_then_changed_the_base_least() -> None:
    """The nll of the references, which SFT trains for, has no say; without right answers of the base the first wins."""
    points = parse_grid(["training.lr=1e-5,1e-4,1e-3"])
    surface = Surface(points, ["a", "b", "c"])
    surface.cells = {
        "a": [
            Cell(0.5, 0.8, items=[[0, 1]], own_nll=0.4),
            Cell(0.5, 0.9, items=[[1, 0]], own_nll=0.3),
            Cell(0.4, 0.1, items=[[0, 0]], own_nll=0.1),
        ],
        "b": [Cell(failed=True), Cell(0.1, 3.0, items=[[0, 0]]), Cell(failed=True)],
        "c": [Cell(failed=True)] * 3,
    }
    assert [surface.best(arm) for arm in surface.arms] == [1, 1, None]
    assert surface.indistinct("a") == 2
    tied = Surface(points, ["a"], {"a": [Cell(0.5, nll) for nll in (1.0, 0.9, 0.8)]})
    assert tied.best("a") == 0
    assert surface.at_edge("a") == []
    surface.cells["a"][2] = Cell(0.9, 1.0, items=[[1, 1]])
    assert surface.at_edge("a") == ["training.lr"]
    assert Point({"training.lr": "1e-5", "dasd.tau": "0.5"}).name == "lr=1e-5,tau=0.5"


def test_a_dry_run_says_what_each_point_computes_and_what_points_share(
    tiny_folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = command(capsys, *sweep_args(tiny_folder("llama"), tmp_path, *GRID, "--dry-run"))
    assert result.code == 0, result.err
    lines = [line.split() for line in result.out.splitlines() if line.startswith("lora_rank=")]
    assert [line[0] for line in lines] == ["lora_rank=2,lr=1e-2", "lora_rank=4,lr=1e-2"]
    (first, _), (second, shared) = [(int(line[1]), int(line[2])) for line in lines]
    assert shared > 0
    assert second + shared >= first
    assert not (tmp_path / "run").exists()
