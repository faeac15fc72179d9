"""``results.json``: what is written is read back, and what is damaged is named."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas
import pytest

from dasd_bench.api import Note
from dasd_bench.errors import StoreError
from dasd_bench.registry import discover
from dasd_bench.reporting.render import render
from dasd_bench.reporting.show import run_tables
from dasd_bench.results import schema
from dasd_bench.results.schema import (
    NoteStats,
    OwnNll,
    PointScores,
    ReferenceNll,
    RunResults,
    TaskScore,
    hash_items,
)


def test_round_trip_keeps_every_number(build: SimpleNamespace) -> None:
    run = build.run()
    run.arms[0].seeds[0].target_stats = build.targets(mean_nll=0.1 + 0.2, base_share=1 / 3)
    again = RunResults.from_json(run.to_json())
    assert again == run
    assert again.to_json() == run.to_json()


def test_nan_is_written_as_null_and_read_as_none(build: SimpleNamespace) -> None:
    run = build.run()
    run.arms[0].seeds[0].train_stats.final_loss = math.nan
    text = run.to_json()
    assert "NaN" not in text
    train_stats = RunResults.from_json(text).arms[0].seeds[0].train_stats
    assert train_stats is not None
    assert train_stats.final_loss is None


def test_a_field_of_a_later_release_is_left_out(build: SimpleNamespace) -> None:
    raw = json.loads(build.run().to_json())
    raw["colour"] = "blue"
    raw["tasks"][0]["weight"] = 2
    assert RunResults.from_json(json.dumps(raw)) == build.run()


def test_save_and_load(build: SimpleNamespace, tmp_path: Path) -> None:
    build.run().save(tmp_path)
    assert RunResults.load(tmp_path) == build.run()
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_unlike_schema_version_is_named(build: SimpleNamespace) -> None:
    raw = json.loads(build.run().to_json())
    raw["schema_version"] = 7
    with pytest.raises(
        StoreError, match=r"old/results.json has schema version 7, this dasd-bench reads versions 1 to 3"
    ):
        RunResults.from_json(json.dumps(raw), "old/results.json")


def test_no_results_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no task was finished; rerun the same command"):
        RunResults.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw["tasks"][0].update(n_items="many"), r"tasks\[0\].n_items: expected int, got str"),
        (lambda raw: raw["tasks"][0].update(comparable=1), r"tasks\[0\].comparable: expected bool, got int"),
        (lambda raw: raw.pop("base"), "object missing required field base"),
        (lambda raw: raw.update(arms={}), "arms: expected array, got object"),
        (lambda raw: raw["base"]["gsm8k"].update(mean="half"), r"base\[...\].mean: expected float, got str"),
        (lambda raw: raw["base"]["gsm8k"]["correct"].pop(), r"base on gsm8k says n = 20 but holds \[19\] items"),
        (lambda raw: raw["base"].update(arc=raw["base"]["gsm8k"]), "a score for 'arc', which is not among"),
        (lambda raw: raw.update(status="done"), "status 'done' is not one of finished, partial, cancelled"),
    ],
)
def test_damage_is_named_by_field(build: SimpleNamespace, change, message: str) -> None:  # type: ignore[no-untyped-def]
    raw = json.loads(build.run().to_json())
    change(raw)
    with pytest.raises(StoreError, match=message):
        RunResults.from_json(json.dumps(raw))


def test_cut_off_json_names_file_and_line(build: SimpleNamespace) -> None:
    text = build.run().to_json()
    with pytest.raises(StoreError, match=r"results.json: not valid JSON \(.* at line \d+"):
        RunResults.from_json(text[: len(text) // 2])


def test_score_from_items() -> None:
    score = TaskScore.from_items(["a", "b", "c"], correct=[1, 0, 0])
    assert (score.mean, score.n, score.binary, score.values()) == (1 / 3, 3, True, [1.0, 0.0, 0.0])
    graded = TaskScore.from_items(["a", "b"], scores=[0.25, 0.75])
    assert (graded.mean, graded.binary) == (0.5, False)
    assert hash_items(["a", "b"]) != hash_items(["b", "a"])


OLD = Path(__file__).with_name("results_version_1.json")
"""Made-up values in version 1, as its last code wrote them: sft, and dasd with a gate and (tau 1.5) without one."""

QUICK = Path(__file__).with_name("quick_version_1.json")
"""A real run by the last code that wrote version 1 (commit 2bda4ac): ``--preset quick --train-limit 10 --limit 8
--max-new-tokens 64 --methods sft,dasd,low-ppl,profit``, SmolLM2-135M-Instruct on a CPU."""

ROOT = Path(__file__).parents[2]


def test_a_real_run_of_version_1_keeps_its_numbers() -> None:
    raw, run = json.loads(QUICK.read_text(encoding="utf-8")), RunResults.from_json(QUICK.read_text(encoding="utf-8"))
    assert (raw["schema_version"], run.schema_version) == (1, 2)
    for before, score in [(raw["base"][name], score) for name, score in run.base.items()] + [
        (one["scores"][name], score)
        for arm, read in zip(raw["arms"], run.arms, strict=True)
        for one, seed in zip(arm["seeds"], read.seeds, strict=True)
        for name, score in seed.scores.items()
    ]:
        after = dataclasses.asdict(score)
        assert {name: after[name] for name in before} == before
    for arm, read in zip(raw["arms"], run.arms, strict=True):
        before, stats = arm["seeds"][0]["target_stats"], read.seeds[0].target_stats
        assert stats is not None
        assert (stats.n, stats.tokens, stats.mean_nll, stats.base_share) == tuple(
            before[name] for name in ("n", "tokens", "mean_nll", "replaced_share")
        )
        found = {note.name: note.value for note in stats.notes}
        if arm["method"] == "dasd":
            names = ("ungated_acceptance", "gate_broke", "gate_mended", "gated_replaced_share")
            assert list(found.values()) == [before[name] for name in names]
            assert read.remark.startswith("the gate replaced only 0.6 % of the tokens of its answers")
        else:
            assert (found, read.remark) == ({}, "")
    tables = render(run_tables([run]), "md", notes=True)
    assert all(arm.label in tables for arm in run.arms)


def test_committed_results_are_read(tmp_path: Path) -> None:
    files = list(ROOT.glob("results/*/results.json"))
    assert files
    for file in files:
        run = RunResults.load(file.parent)
        assert json.loads(file.read_text(encoding="utf-8"))["schema_version"] in (1, 2)
        run.save(tmp_path)
        assert RunResults.load(tmp_path) == run


def test_version_1_is_read(tmp_path: Path) -> None:
    run = RunResults.from_json(OLD.read_text(encoding="utf-8"))
    assert (run.schema_version, [arm.label for arm in run.arms]) == (2, ["sft", "dasd+tau=0.5", "dasd+tau=1.5"])
    notes = [{note.name: note.value for note in arm.seeds[0].target_stats.notes} for arm in run.arms]  # type: ignore[union-attr]
    gated = {"ungated_right": 1.0, "gate_broke": 1, "gate_mended": 1, "gated_replaced": 0.25}
    ungated = {"ungated_right": 1.0, "gate_broke": 0, "gate_mended": 1, "gated_replaced": 0.0}
    assert notes == [{}, gated, ungated]
    assert [arm.remark for arm in run.arms] == ["", "", ""]
    run.save(tmp_path)
    assert RunResults.load(tmp_path) == run


def test_version_1_keeps_what_its_tables_said_of_an_idle_gate() -> None:
    raw = json.loads(OLD.read_text(encoding="utf-8"))
    raw["arms"][1]["seeds"][0]["target_stats"]["gated_replaced_share"] = 0.003
    arm = RunResults.from_json(json.dumps(raw)).arms[1]
    assert arm.remark.startswith("the gate replaced only 0.3 % of the tokens of its answers, so this row is in effect")


def test_columns_of_version_1_are_those_that_dasd_declares() -> None:
    """An old run and a new one side by side share their columns."""

    def about(note: Note | NoteStats) -> tuple[object, ...]:
        return note.name, note.title, note.how, note.against, note.shown

    stats = RunResults.from_json(OLD.read_text(encoding="utf-8")).arms[1].seeds[0].target_stats
    assert stats is not None
    assert {about(note) for note in stats.notes} <= {about(note) for note in discover().methods["dasd"].item.notes}


@pytest.mark.parametrize("place", ["arms", "seeds", "target_stats", "classes", "options"])
@pytest.mark.parametrize("value", [3, "x", None, [1], [None], {"a": 1}])
def test_damage_in_version_1_is_named_or_harmless(place: str, value: object) -> None:
    raw = json.loads(OLD.read_text(encoding="utf-8"))
    arm = raw["arms"][1]
    holder = {"arms": raw, "seeds": arm, "options": arm, "target_stats": arm["seeds"][0]}.get(place)
    (arm["seeds"][0]["target_stats"] if holder is None else holder)[place] = value
    with contextlib.suppress(StoreError):
        RunResults.from_json(json.dumps(raw))


VERSION_2 = {
    "RunResults": "run_id status model tasks arms base base_drift seeds methods train stages conditions warnings notes "
    "items_file schema_version",
    "Arm": "method options label seeds denominator folder training online remark adapter",
    "GivenAdapter": "path sha256 base line",
    "SeedArm": "seed scores target_stats train_stats drift target_cost points",
    "TargetCost": "generated_tokens round_tokens seconds",
    "AnswerStats": "n mean_tokens cut_share",
    "PointScores": "fraction step target_tokens kept_tokens scores",
    "TaskInfo": "name metric filter higher_is_better comparable num_fewshot n_items n_train version note percent "
    "retention max_new_tokens",
    "TaskScore": "mean n item_hash correct scores reasons reference_nll groups confidence stderr tokens seconds "
    "other_metrics answers",
    "ReferenceNll": "all_tokens_mean numeric_tokens_mean per_item numeric_per_item tokens_per_item "
    "numeric_tokens_per_item own",
    "OwnNll": "mean items per_item tokens_per_item",
    "TargetStats": "n tokens mean_nll ppl hpr accepted acceptance reasons gold_share mean_length weight_zero_share "
    "dropped base_share notes classes auc_confidence auc_probability gold_agreement numbers_kept lengths "
    "histogram_edges histogram_counts",
    "NoteStats": "name title how value n help against shown",
    "ClassStats": "tokens mean_nll high_ppl weight_zero proposed replaced",
    "TrainStats": "steps target_tokens kept_tokens seconds final_loss peak_memory_gib parameters nll clipped_steps "
    "generated_tokens budget_tokens missed_tokens best_step best_held_out_nll",
    "Drift": "tasks output_nll output_tokens js_distance js_divergence base_tokens",
    "TrainSummary": "line budget config arms",
    "StageTime": "name seconds reused cpu_seconds peak_memory_gib arm seed waited_seconds",
}


def test_version_2_has_these_fields() -> None:
    """Within a version fields may be added, here too; to rename or remove one takes version 3 and an upgrade."""
    found = {
        name: " ".join(f.name for f in dataclasses.fields(kind))
        for name, kind in vars(schema).items()
        if dataclasses.is_dataclass(kind) and kind.__module__ == schema.__name__
    }
    assert schema.SCHEMA_VERSION == 2
    assert found == VERSION_2


def test_many_values_per_item_go_into_a_file_beside(
    build: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = build.run()
    arm = run.arms[0]
    own = OwnNll(mean=0.5, items=[1, 4], per_item=[0.1, 1 / 3], tokens_per_item=[3, 4])
    with_all = replace(
        arm.seeds[0].scores["gsm8k"],
        confidence=[0.25] * 20,
        groups={"level": ["1", "2"] * 10, "subject": ["algebra"] * 20},
        reference_nll=ReferenceNll(1.0, 0.5, [0.1 * i for i in range(20)], [0.0] * 20, [7] * 20, [2] * 20, own),
    )
    arm.seeds[0].scores["gsm8k"] = with_all
    arm.seeds[0].points = [PointScores(0.5, 3, 30, 20, {"gsm8k": build.score("01" * 10)})]
    run.base["gsm8k"] = TaskScore.from_items([str(i) for i in range(20)], scores=[i / 7 for i in range(20)])

    monkeypatch.setattr(schema, "VALUES_IN_JSON", 10**9)
    run.save(tmp_path / "one")
    monkeypatch.setattr(schema, "VALUES_IN_JSON", 100)
    run.status = "partial"
    run.save(tmp_path / "two")
    run.base["gsm8k"].mean = 0.25
    run.status = "finished"
    run.save(tmp_path / "two")
    assert run.base["gsm8k"].scores[3] == 3 / 7, "the run in memory keeps its items"

    raw = json.loads((tmp_path / "two" / "results.json").read_text())
    assert raw["schema_version"] == schema.ITEMS_VERSION
    assert raw["arms"][0]["seeds"][0]["scores"]["gsm8k"]["reference_nll"]["per_item"] == []
    assert [path.name for path in (tmp_path / "two").glob("items-*.parquet")] == [raw["items_file"]]
    assert RunResults.load(tmp_path / "two") == run
    assert RunResults.load(tmp_path / "two", items=False).base["gsm8k"].scores == []

    frame = pandas.read_parquet(tmp_path / "two" / raw["items_file"])
    mine = frame[(frame.arm == arm.label) & (frame.seed == arm.seeds[0].seed) & frame.point.isna()]
    assert mine[mine.task == "gsm8k"].nll.tolist() == with_all.reference_nll.per_item

    path = tmp_path / "two" / raw["items_file"]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StoreError, match=r"items-\w+\.parquet is damaged: copy it from the original run"):
        RunResults.load(tmp_path / "two")
    path.unlink()
    with pytest.raises(StoreError, match=r"items-\w+\.parquet cannot be read \(No such file or directory\)"):
        RunResults.load(tmp_path / "two")
