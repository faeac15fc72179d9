"""Matched budgets, adapters evaluated on the way, and the shared held-out measure, through the command line."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dasd_bench.results.directory import RunDirectory
from dasd_bench.results.schema import RunResults, TrainStats
from tests.run.helpers import artifacts, command, run_args

FEW = ["--limit", "2"]

Folders = Callable[[str], Path]


def lines(run: Path, arm: str) -> list[dict[str, Any]]:
    path = RunDirectory(run).arm(arm, 0).metrics
    return [json.loads(line) for line in path.read_text().splitlines()]


def stats(run: RunResults) -> dict[str, TrainStats]:
    return {arm.label: one.train_stats for arm in run.arms for one in arm.seeds if one.train_stats is not None}


def test_tokens_are_matched_and_the_plan_says_so(tiny_folder: Folders, tmp_path: Path, capsys) -> None:
    model = tiny_folder("llama")
    methods = "sft,low-ppl+tau=300,dft"
    args = run_args(model, tmp_path, *FEW, "--budget", "tokens", methods=methods)
    before = command(capsys, *args, "--dry-run")
    assert before.code == 0, before.err
    assert "Budget tokens, seed 0: the total follows from the targets, so it is known once" in before.out
    done = command(capsys, *args)
    assert done.code == 0, done.err
    results = RunResults.load(tmp_path / "run")
    found = stats(results)
    total = found["sft"].budget_tokens
    assert total is not None
    assert found["sft"].kept_tokens == total
    assert found["low-ppl+tau=300"].steps > found["sft"].steps
    for label, one in found.items():
        last = lines(tmp_path / "run", label)[-1]["kept_tokens"]
        assert (one.budget_tokens, one.missed_tokens) == (total, 0)
        assert total <= one.kept_tokens < total + last
    after = command(capsys, *args, "--dry-run")
    assert f"every arm trains until it has used {total:,} active tokens (sft {total:,} alone" in after.out
    assert f"{found['low-ppl+tau=300'].steps} steps" in after.out
    assert "0 stages to do" in after.out
    notes = " ".join(command(capsys, "table", str(tmp_path / "run"), "--notes").out.split())
    assert "budget tokens: every method trained until it had used as many active tokens" in notes
    assert results.conditions["budget"] == "tokens"


def test_an_arm_more_leaves_trained_ones_as_they_are(tiny_folder: Folders, tmp_path: Path, capsys) -> None:
    """The total is the largest arm's: one that uses less does not change it."""
    model = tiny_folder("llama")
    assert command(capsys, *run_args(model, tmp_path, *FEW, "--budget", "tokens", methods="sft")).code == 0
    (tmp_path / "run").rename(tmp_path / "first")
    more = command(capsys, *run_args(model, tmp_path, *FEW, "--budget", "tokens", methods="sft,low-ppl+tau=300"))
    assert more.code == 0, more.err
    assert "[train sft seed 0] reused from the store" in more.out
    assert "[train low-ppl+tau=300 seed 0] computed" in more.out


def test_compute_counts_generated_tokens(tiny_folder: Folders, tmp_path: Path, capsys) -> None:
    model = tiny_folder("llama")
    args = run_args(model, tmp_path, *FEW, "--budget", "compute", methods="sft,self-distill,dasd")
    done = command(capsys, *args)
    assert done.code == 0, done.err
    results = RunResults.load(tmp_path / "run")
    used = {}
    for arm in results.arms:
        (one,) = arm.seeds
        assert one.target_cost is not None
        assert one.train_stats is not None
        used[arm.label] = one.target_cost.generated_tokens + one.train_stats.target_tokens
        last = lines(tmp_path / "run", arm.label)[-1]["all_tokens"]
        total = one.train_stats.budget_tokens
        assert total is not None
        assert total <= used[arm.label] < total + last
    costs = {arm.label: arm.seeds[0].target_cost for arm in results.arms}
    assert costs["sft"].generated_tokens == 0
    # One answer of at most ten tokens for each of ten examples.
    assert 10 <= costs["self-distill"].generated_tokens <= 100
    assert costs["dasd"].generated_tokens > costs["self-distill"].generated_tokens
    assert stats(results)["sft"].steps > stats(results)["dasd"].steps


def test_what_cannot_be_matched_is_told(tiny_folder: Folders, tmp_path: Path, capsys) -> None:
    """An arm without targets takes no part; one with hardly a token ends at the limit, and the run says so."""
    methods = "sft,self-output,low-ppl+tau=1"
    done = command(capsys, *run_args(tiny_folder("llama"), tmp_path, *FEW, "--budget", "tokens", methods=methods))
    assert done.code == 3, done.err
    assert "self-output has no targets, so it is not matched" in done.out
    assert "which is 10 times its epochs and the limit" in done.out
    results = RunResults.load(tmp_path / "run")
    found = stats(results)["low-ppl+tau=1"]
    assert found.budget_tokens is not None
    assert found.missed_tokens == found.budget_tokens - found.kept_tokens > 0
    assert any("low-ppl+tau=1 seed 0: not matched" in text for text in results.warnings)
    costs = command(capsys, "table", str(tmp_path / "run"), "--table", "cost")
    assert "Not matched: low-ppl+tau=1" in " ".join(costs.out.split())


POINTS = [*FEW, "--set", "training.evaluate_at=0.25,0.5,1", "--set", "training.epochs=4"]


def test_scores_intermediate(tiny_folder: Folders, tmp_path: Path, capsys) -> None:
    model = tiny_folder("llama")
    plan = command(capsys, *run_args(model, tmp_path, *POINTS, "--dry-run", methods="sft,low-ppl"))
    assert plan.out.count("evaluate mini_gsm at 0.25") == 2
    done = command(capsys, *run_args(model, tmp_path, *POINTS, methods="sft,low-ppl"))
    assert done.code == 0, done.err
    run = RunDirectory(tmp_path / "run")
    results = RunResults.load(run.path)
    for arm in results.arms:
        (one,) = arm.seeds
        assert [(point.fraction, point.step) for point in one.points] == [(0.25, 3), (0.5, 6)]
        assert all(point.scores.keys() == one.scores.keys() for point in one.points)
        hashes = {score.item_hash for point in one.points for score in point.scores.values()}
        assert hashes == {score.item_hash for score in one.scores.values()}
        folder = run.arm(arm.directory, 0)
        assert folder.points() == ["0.25", "0.5"]
        assert (folder.point("0.5").adapter / "adapter_model.safetensors").is_file()
        assert folder.point("0.5").evaluated() == ["mini_arc", "mini_gsm"]
    # Equal runs give equal files, and a second one computes nothing.
    first = artifacts(run.path)
    again = command(capsys, *run_args(model, tmp_path, *POINTS, methods="sft,low-ppl"))
    assert "computed in" not in again.out
    assert artifacts(run.path) == first
    table = command(capsys, "table", str(run.path), "--along")
    assert table.code == 0, table.err
    assert "25 %" in table.out
    # The answers of a point are graded again as all others are: what was tampered with is put right.
    samples = folder.point("0.5").samples("mini_gsm")
    row, *rest = [json.loads(line) for line in samples.read_text().splitlines()]
    row.update(score=1.0, correct=True, reason="correct", extracted=row["answer"])
    samples.write_text("".join(json.dumps(one) + "\n" for one in [row, *rest]))
    (one,) = results.arms[-1].seeds
    one.points[-1].scores["mini_gsm"] = dataclasses.replace(one.points[-1].scores["mini_gsm"], mean=1.0)
    results.save(run.path)
    regraded = command(capsys, "score", str(run.path))
    assert f"mini_gsm, {results.arms[-1].label} seed 0 at 0.5: 1 of 2 changed" in regraded.out, regraded.err
    assert artifacts(run.path) == first


@pytest.mark.parametrize("text", ["0.5,2", "none"])
def test_a_bad_fraction_is_told_before_any_work(text: str, tiny_folder: Folders, tmp_path: Path, capsys) -> None:
    more = ["--set", f"training.evaluate_at={text}"]
    done = command(capsys, *run_args(tiny_folder("llama"), tmp_path, *more, methods="sft"))
    assert done.code == 2
    assert "is not a fraction of training" in done.err
    assert not (tmp_path / "store").exists()


def test_early_stopping_holds_out_the_same_references(tiny_folder: Folders, tmp_path: Path, capsys) -> None:
    """Whatever an arm is trained on: with learning rate 0 all have the same held-out nll."""
    more = ["--set", "training.early_stop_patience=1", "--set", "training.held_out=0.3", "--set", "training.lr=0"]
    done = command(capsys, *run_args(tiny_folder("llama"), tmp_path, *FEW, *more, methods="sft,self-distill,low-ppl"))
    assert done.code == 0, done.err
    results = RunResults.load(tmp_path / "run")
    first = {arm.label: lines(tmp_path / "run", arm.label) for arm in results.arms}
    measured = {next(line["held_out_nll"] for line in one if "held_out_nll" in line) for one in first.values()}
    assert len(measured) == 1
    assert {one.best_held_out_nll for one in stats(results).values()} == measured
    assert {one.target_stats.n for arm in results.arms for one in arm.seeds if one.target_stats} == {10}
