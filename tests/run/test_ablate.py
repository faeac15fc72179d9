"""Ablations from the command line, their tables, and training on the common accepted examples."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from dasd_bench.cli.plot_cmd import plot_command
from dasd_bench.errors import UsageError
from dasd_bench.reporting.ablation import ablation_tables, interpolated, matched_table
from dasd_bench.reporting.plots import Nothing
from dasd_bench.reporting.plots.ablation import ablation_plot, threshold_plots
from dasd_bench.results.ablation import Ablation, AblationPoint
from dasd_bench.run.ablate import parse_grids
from tests.run.helpers import command, run_args

GRIDS = [
    "--grid",
    "rule=ungated,reference-sure",
    "--grid",
    "rule=margin;mu=0.001,0.01",
    "--grid",
    "rule=random-gate;tau=0.01",
]


def ablate_args(model: Path, folder: Path, *more: str, method: str = "dasd") -> list[str]:
    args = run_args(model, folder, "--validation", "3", *more, methods=method)
    return ["ablate", *args[1:]]


def test_grids_are_all_combinations_of_each_and_one_after_another() -> None:
    assert parse_grids(["rule=a,b;tau=0.1, 0.2", "rule=c"]) == [
        {"rule": "a", "tau": "0.1"},
        {"rule": "a", "tau": "0.2"},
        {"rule": "b", "tau": "0.1"},
        {"rule": "b", "tau": "0.2"},
        {"rule": "c"},
    ]


@pytest.mark.parametrize(
    ("grids", "fault"),
    [
        (["rule"], "write NAME=VALUE"),
        (["rule="], "write NAME=VALUE"),
        (["=a"], "write NAME=VALUE"),
        ([" ; "], "is empty"),
        (["tau=1;tau=2"], "tau is there twice"),
        (["rule=a,b", "rule=b"], "rule=b is there twice"),
    ],
)
def test_what_is_no_grid_is_refused(grids: list[str], fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        parse_grids(grids)


def test_an_ablation_measures_what_single_runs_do_and_leaves_them_nothing_to_decode(
    tiny_folder: Callable[[str], Path], tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dasd_bench.engine.engine import Engine

    model = tiny_folder("llama")
    first = command(capsys, *ablate_args(model, tmp_path, *GRIDS))
    assert first.code == 0, first.err
    found = json.loads((tmp_path / "run" / "ablation.json").read_text())
    assert [point["label"] for point in found["points"]] == [
        "dasd+rule=ungated",
        "dasd+rule=reference-sure",
        "dasd+rule=margin+mu=0.001",
        "dasd+rule=margin+mu=0.01",
        "dasd+rule=random-gate+tau=0.01",
    ]
    assert found["rows"] == {"mini_gsm": 3, "mini_arc": 3}
    assert all(point["n"] == 6 and not point["failed"] for point in found["points"])
    assert found["points"][0]["replaced"] == found["points"][0]["changed"] == 0
    assert found["points"][2]["replaced"] > 0
    cost = found["cost"]
    assert 0 < cost["prompts"] + cost["decoded"] + cost["repeated"] < cost["alone"]
    assert {path.name for path in (tmp_path / "run").glob("ablation.*")} == {
        "ablation.json",
        "ablation.pdf",
        "ablation.png",
        "ablation.svg",
    }
    assert "reference-sure" in (tmp_path / "run" / "tables.md").read_text()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("decoded again")

    for name in ("dual_decode", "dual_decode_many", "generate"):
        monkeypatch.setattr(Engine, name, never)
    again = command(capsys, *ablate_args(model, tmp_path, *GRIDS))
    assert again.code == 0, again.err
    monkeypatch.undo()
    # One rule alone, in a store of its own: the same counts.
    (tmp_path / "alone").mkdir()
    alone = command(capsys, *ablate_args(model, tmp_path / "alone", "--grid", "rule=margin;mu=0.01"))
    assert alone.code == 0, alone.err
    (point,) = json.loads((tmp_path / "alone" / "run" / "ablation.json").read_text())["points"]
    assert point == found["points"][3]


def test_an_ablation_with_training_has_a_score_by_task(
    tiny_folder: Callable[[str], Path], tmp_path: Path, capsys
) -> None:
    result = command(capsys, *ablate_args(tiny_folder("llama"), tmp_path, "--train", "--grid", "rule=ungated"))
    assert result.code == 0, result.err
    (point,) = json.loads((tmp_path / "run" / "ablation.json").read_text())["points"]
    assert set(point["accuracy"]) == {"mini_gsm", "mini_arc"}
    assert (tmp_path / "run" / "run" / "results.json").is_file()


@pytest.mark.parametrize(
    ("method", "grid", "fault"),
    [
        ("sft", "tau=1", "declares no note 'gated_replaced'"),
        ("dasd,sft", "tau=1", "one method"),
        ("dasd", "tua=1", "tua"),
        ("dasd", "rule=candidate-floor;tau=0.6", "only ever takes the base's own token"),
    ],
)
def test_what_cannot_be_ablated_is_said_before_anything_is_computed(
    tiny_folder: Callable[[str], Path], tmp_path: Path, capsys, method: str, grid: str, fault: str
) -> None:
    result = command(capsys, *ablate_args(tiny_folder("llama"), tmp_path, "--grid", grid, method=method))
    assert result.code == 2
    assert fault in result.err
    assert not (tmp_path / "run" / "ablation.json").exists()


def point(rule: str, replaced: float, right: float, **more: float | str) -> AblationPoint:
    return AblationPoint(
        f"dasd+rule={rule}",
        {"rule": rule, "mu": "0.5"},
        n=100,
        seeds=1,
        right=right,
        free_right=60,
        broke=more.pop("broke", 0.0),  # type: ignore[arg-type]
        tokens=1000,
        replaced=1000 * replaced,
        **more,  # type: ignore[arg-type]
    )


COST = {"prompts": 10, "repeated": 0, "decoded": 10, "alone": 60, "forks": 1}


def test_rules_are_compared_at_the_rates_they_reach() -> None:
    points = [point("margin", 0.04, 40), point("margin", 0.12, 20)]
    assert interpolated(points, 0.02) == pytest.approx(0.5)
    assert interpolated(points, 0.04) == pytest.approx(0.4)
    assert interpolated(points, 0.08) == pytest.approx(0.3)
    assert interpolated(points, 0.2) is None
    found = Ablation("m", "dasd", {"t": 100}, [*points, point("ungated", 0.0, 60)], COST)
    assert [row.label for row in matched_table(found).rows] == ["margin"]


def test_the_table_tests_against_the_ungated_rewrite_and_names_idle_and_failed_points() -> None:
    points = [
        point("margin", 0.05, 50, broke=10),
        point("confidence-gate", 0.001, 60),
        point("insist", 0.0, 0, failed="no room"),
    ]
    table = ablation_tables(Ablation("m", "dasd", {"t": 100}, points, COST))[0]
    assert table.rows[0].cell("p").p == pytest.approx(2 * 0.5**10)
    assert table.rows[0].cell("p").p_holm == pytest.approx(4 * 0.5**10)
    assert table.rows[0].cell("right").value == 0.5
    assert table.rows[2].cell("right").value is None
    assert any("in effect self-distill: dasd+rule=confidence-gate." in line for line in table.warnings)
    assert any("insist failed: no room" in line for line in table.warnings)
    assert any("3.0 times as many" in line for line in table.caption)


HALVES = """
from dataclasses import dataclass
from dasd_bench.api import Method, option

@dataclass(frozen=True)
class Part(Method):
    name = "part"
    summary = "Accepts the gold answers of some examples."
    start: int = option(0, help="The first accepted row.")
    stop: int = option(4, help="Behind the last accepted row.")

    def make_targets(self, examples, context):
        return [
            context.reference_target(e, accepted=self.start <= int(e.id.rpartition("/")[2]) < self.stop)
            for e in examples
        ]
"""


def trained_ids(folder: Path) -> dict[str, set[str]]:
    return {
        path.parts[-3]: {json.loads(line)["id"] for line in path.read_text().splitlines()}
        for path in folder.glob("arms/*/seed0/targets.jsonl")
    }


def test_common_accepted_trains_all_arms_on_the_same_examples(
    tiny_folder: Callable[[str], Path], tmp_path: Path, capsys
) -> None:
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "part.py").write_text(HALVES)
    more = ["--plugins", str(plugins), "--common-accepted", "--sample", "first"]
    model = tiny_folder("llama")
    args = run_args(model, tmp_path, *more, methods="part,part+start=2+stop=9,sft")
    result = command(capsys, *args)
    assert result.code == 0, result.err
    ids = trained_ids(tmp_path / "run")
    assert len(ids) == 3
    assert {frozenset(own) for own in ids.values()} == {
        frozenset(f"{task}/train/{n}" for task in ("mini_gsm", "mini_arc") for n in (2, 3))
    }
    arms = json.loads((tmp_path / "run" / "results.json").read_text())["arms"]
    assert {arm["seeds"][0]["target_stats"]["n"] for arm in arms} == {4}
    tokens = {arm["seeds"][0]["train_stats"]["target_tokens"] for arm in arms}
    assert len(tokens) == 1, "equal examples and gold answers: equal tokens"
    assert "common_accepted: true" in (tmp_path / "run" / "spec.yaml").read_text()
    (tmp_path / "none").mkdir()
    nothing = run_args(model, tmp_path / "none", *more, methods="part,part+start=7+stop=9")
    failed = command(capsys, *nothing)
    assert failed.code == 1
    assert "No example has an accepted target of every method" in failed.err


def test_without_it_nothing_changes_in_the_specification(tmp_path: Path) -> None:
    from dasd_bench.config.spec import RunSpec, to_yaml

    assert "common_accepted" not in to_yaml(RunSpec())
    assert "common_accepted: true" in to_yaml(RunSpec(common_accepted=True))


def test_figures_come_from_the_committed_file_alone(tmp_path: Path) -> None:
    margin = [replace(point("margin", 0.12, 20), settings={"rule": "margin", "mu": mu}) for mu in ("0.3", "0.1")]
    Ablation("m", "dasd", {"t": 100}, [*margin, point("ungated", 0.0, 60)], COST).save(tmp_path)
    result = CliRunner().invoke(plot_command, [str(tmp_path), "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {"ablation.png", "threshold-mu.png"}
    refused = CliRunner().invoke(plot_command, [str(tmp_path), "--kind", "cost"], standalone_mode=False)
    assert "has ablation, threshold" in str(refused.exception)


def test_a_threshold_with_one_value_and_an_ablation_of_one_point_are_not_drawn() -> None:
    single = Ablation("m", "dasd", {"t": 100}, [point("margin", 0.12, 20)], COST)
    for drawn in (ablation_plot(single), *threshold_plots(single)):
        assert isinstance(drawn, Nothing)
