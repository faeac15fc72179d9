"""``--track``: what TensorBoard and MLflow hold afterwards, read back with their own readers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.made_run import Size, make_run
from dasd_bench.console import Console
from dasd_bench.errors import DasdError, UsageError
from dasd_bench.results.runs import load_run
from dasd_bench.results.schema import RunResults
from dasd_bench.run.tracking import MODULES, Tracking, check_trackers, configuration, send, summary
from tests.run.helpers import command, run_args

# Other people's packages warn of their own future.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "alpha", Size(examples=4, tokens=8, items=10, steps=5))


def metrics(run: Path, label: str, seed: int) -> list[dict[str, Any]]:
    path = run / "arms" / label / f"seed{seed}" / "train" / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_holds_the_curve_and_the_scores(run: Path) -> None:
    results = load_run(run)
    arm = results.arms[2]
    one = arm.seeds[1]
    assert send("tensorboard", run, results, arm, one)
    found = scalars(run / "tracking" / "tensorboard" / arm.label / "seed1")
    expected = [(row["step"], pytest.approx(row["loss"], rel=1e-6)) for row in metrics(run, arm.label, 1)]
    assert found["train/loss"] == expected
    assert found["train/kept_share"][0] == (1, 1.0)
    assert found["eval/gsm8k"] == [(5, pytest.approx(one.scores["gsm8k"].mean))]
    assert found["eval/gsm8k_minus_base"] == [
        (5, pytest.approx(one.scores["gsm8k"].mean - results.base["gsm8k"].mean, abs=1e-6))
    ]
    (settings,) = (run / "tracking").rglob("hparams.yml")
    assert "options.tau: 0.5" in settings.read_text(encoding="utf-8")


def test_the_same_results_are_sent_once_and_changed_ones_replace_them(run: Path) -> None:
    results = load_run(run)
    arm = results.arms[0]
    assert send("tensorboard", run, results, arm, arm.seeds[0])
    assert not send("tensorboard", run, results, arm, arm.seeds[0])
    assert send("tensorboard", run, results, arm, arm.seeds[1])
    arm.seeds[0].scores["gsm8k"].mean = 0.125
    assert send("tensorboard", run, results, arm, arm.seeds[0])
    found = scalars(run / "tracking" / "tensorboard" / "sft" / "seed0")
    assert found["eval/gsm8k"] == [(5, 0.125)]
    assert len(found["train/loss"]) == 5


def test_mlflow_file_store(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    from mlflow.tracking import MlflowClient

    results = load_run(run)
    arm = results.arms[3]
    for one in arm.seeds:
        assert send("mlflow", run, results, arm, one)
    client = MlflowClient((run / "tracking" / "mlflow").as_uri())
    experiment = client.get_experiment_by_name("dasd-bench")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(one.info.run_name for one in runs) == [f"alpha/dasd+tau=0.7/seed{seed}" for seed in (0, 1)]
    for found in runs:
        seed = int(found.data.params["seed"])
        assert found.info.status == "FINISHED"
        assert found.data.params["options.tau"] == "0.7"
        assert found.data.metrics["eval/math"] == arm.seeds[seed].scores["math"].mean
        history = client.get_metric_history(found.info.run_id, "train/loss")
        expected = [(row["step"], row["loss"]) for row in metrics(run, arm.label, seed)]
        assert sorted((point.step, point.value) for point in history) == expected


def test_a_tracker_that_refuses_costs_no_results(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = load_run(run)
    arm = results.arms[0]
    (run / "tracking").mkdir()
    (run / "tracking" / "mlflow").write_text("in the way")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(DasdError, match="mlflow rejected sft/seed0"):
        send("mlflow", run, results, arm, arm.seeds[0])
    console = Console()
    Tracking(["mlflow"], run, console).arm_done(results, arm, arm.seeds[0])
    assert "mlflow rejected" in capsys.readouterr().out
    assert not (run / "tracking" / "mlflow.json").exists()


def test_unknown_and_missing_trackers(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="Did you mean 'tensorboard'"):
        check_trackers(["tensorbord"])
    monkeypatch.setitem(MODULES, "wandb", "a_module_that_is_not_here")
    with pytest.raises(UsageError, match=r"pip install 'dasd-bench\[wandb\]'"):
        check_trackers(["wandb"])
    assert check_trackers([]) == []


def test_only_plain_values_are_sent(run: Path) -> None:
    results: RunResults = load_run(run)
    arm = results.arms[0]
    arm.options["words"] = ("a", "b")
    stats = arm.seeds[0].target_stats
    assert stats is not None
    stats.ppl = float("nan")
    assert configuration(results, arm, arm.seeds[0])["options.words"] == "('a', 'b')"
    assert "targets/ppl" not in summary(results, arm.seeds[0])


def test_run_tracks_every_arm(
    tiny_folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = run_args(
        tiny_folder("llama"),
        tmp_path,
        "--track",
        "tensorboard",
        "--limit",
        "2",
        "--train-limit",
        "2",
        methods="sft,profit",
    )
    result = command(capsys, *args)
    assert result.code == 0, result.err
    assert "Sent sft seed 0 to tensorboard." in result.out
    for label in ("sft", "profit"):
        assert "train/loss" in scalars(tmp_path / "run" / "tracking" / "tensorboard" / label / "seed0")
    again = command(capsys, *args)
    assert again.code == 0
    assert "Sent" not in again.out
