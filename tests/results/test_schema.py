"""``results.json``: what is written is read back, and what is damaged is named."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from dasd_bench.errors import StoreError
from dasd_bench.results.schema import RunResults, TaskScore, hash_items


def test_round_trip_keeps_every_number(build: SimpleNamespace) -> None:
    run = build.run()
    run.arms[0].seeds[0].target_stats = build.targets(mean_nll=0.1 + 0.2, replaced_share=1 / 3)
    again = RunResults.from_json(run.to_json())
    assert again == run
    assert again.to_json() == run.to_json()


def test_nan_is_written_as_null_and_read_as_nan(build: SimpleNamespace) -> None:
    run = build.run()
    run.arms[0].seeds[0].train_stats.final_loss = math.nan
    text = run.to_json()
    assert "NaN" not in text
    assert math.isnan(RunResults.from_json(text).arms[0].seeds[0].train_stats.final_loss)


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
    with pytest.raises(StoreError, match=r"old/results.json has schema version 7, this dasd-bench reads version 1"):
        RunResults.from_json(json.dumps(raw), "old/results.json")


def test_no_results_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no task was finished; rerun the same command"):
        RunResults.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw["tasks"][0].update(n_items="many"), r"tasks\[0\].n_items should be a whole number, not text"),
        (lambda raw: raw["tasks"][0].update(comparable=1), r"tasks\[0\].comparable should be true or false"),
        (lambda raw: raw.pop("base"), "base is missing"),
        (lambda raw: raw.update(arms={}), "arms should be a list, not an object"),
        (lambda raw: raw["base"]["gsm8k"].update(mean="half"), "base.gsm8k.mean should be a number, not text"),
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
    with pytest.raises(StoreError, match=r"results.json: not valid JSON .*line \d+"):
        RunResults.from_json(text[: len(text) // 2])


def test_score_from_items() -> None:
    score = TaskScore.from_items(["a", "b", "c"], correct=[1, 0, 0])
    assert (score.mean, score.n, score.binary, score.values()) == (1 / 3, 3, True, [1.0, 0.0, 0.0])
    graded = TaskScore.from_items(["a", "b"], scores=[0.25, 0.75])
    assert (graded.mean, graded.binary) == (0.5, False)
    assert hash_items(["a", "b"]) != hash_items(["b", "a"])
