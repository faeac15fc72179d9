"""The same command again on a finished run, interrupted or killed; and what a run says of each arm's training."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dasd_bench.cli.main import run_cli
from dasd_bench.errors import DasdError
from dasd_bench.results.runs import load_run
from dasd_bench.results.schema import RunResults, TrainStats
from dasd_bench.run.stages.reference_nll import NllOfReferences
from dasd_bench.run.stages.train import CUT, NO_ROOM, NO_WEIGHT, Train, Trained, left_out
from dasd_bench.store.atomic import remove
from dasd_bench.store.locks import FileLock
from dasd_bench.store.store import Entry, Row
from dasd_bench.types import Example, ScoredTarget, Target, TokenScores, WeightedTarget
from tests.run.helpers import artifacts, command, run_args
from tests.run.test_resume import start
from tests.tiny_models import tiny_model
from tests.training.helpers import make_examples
from tests.training.helpers import run as train

FEW = ["--limit", "2", "--train-limit", "2"]

SOME = """
import numpy as np
from dataclasses import dataclass
from dasd_bench.api import Method

@dataclass(frozen=True)
class Some(Method):
    name = "some"
    summary = "masks the whole first example of a task"

    def select(self, scored):
        weights = super().select(scored)
        return weights * 0 if scored.example.id.endswith("/0") else weights
"""


@pytest.fixture(scope="module")
def finished(tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small finished run of two arms; tests work on copies."""
    folder = tmp_path_factory.mktemp("rerun")
    assert run_cli([*run_args(tiny_folder("llama"), folder, *FEW, methods="sft,low-ppl"), "--quiet"]) == 0
    return folder


@pytest.fixture
def again(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "again")


def interrupt_training(monkeypatch: pytest.MonkeyPatch, arm: int) -> None:
    """Ctrl-C where the training stage of the arm with this number begins."""
    original, calls = Train.run, iter(range(9))

    def run(stage: Train) -> None:
        if next(calls) == arm:
            signal.raise_signal(signal.SIGINT)
        original(stage)

    monkeypatch.setattr(Train, "run", run)


@pytest.mark.parametrize(("arm", "without"), [(0, ""), (1, ""), (0, "train")])
def test_ctrl_c_before_anything_changed_leaves_the_run_as_it_was(
    arm: int, without: str, again: Path, tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """All reused until then; with the adapters gone from the store the first one is just begun."""
    before, manifest = artifacts(again / "run"), (again / "run" / "manifest.json").read_bytes()
    results = (again / "run" / "results.json").read_bytes()
    if without:
        shutil.rmtree(again / "store" / without)
    interrupt_training(monkeypatch, arm)
    result = command(capsys, *run_args(tiny_folder("llama"), again, *FEW, methods="sft,low-ppl"))
    assert result.code == 130
    assert (again / "run" / "manifest.json").read_bytes() == manifest
    assert (again / "run" / "results.json").read_bytes() == results
    assert artifacts(again / "run") == before
    assert command(capsys, "table", str(again / "run")).code == 0


def test_ctrl_c_after_new_work_is_a_cancelled_run(
    again: Path, tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    shutil.rmtree(again / "store" / "train")
    interrupt_training(monkeypatch, 1)
    args = run_args(tiny_folder("llama"), again, *FEW, methods="sft,low-ppl")
    assert command(capsys, *args).code == 130
    assert load_run(again / "run").status == "cancelled"
    monkeypatch.undo()
    assert command(capsys, *args).code == 0
    assert load_run(again / "run").status == "finished"


@pytest.mark.parametrize("error", [OSError("no more"), MemoryError(), DasdError("failed"), SystemExit(0)])
def test_a_failed_repetition_leaves_the_run_as_it_was(
    error: BaseException, again: Path, tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """Whatever ends it, as long as nothing new was written: also where the first stage to be made again fails."""
    manifest, results = ((again / "run" / name).read_bytes() for name in ("manifest.json", "results.json"))
    shutil.rmtree(again / "store" / "nll")

    def fail(_: NllOfReferences, entry: Entry) -> Row:
        raise error

    monkeypatch.setattr(NllOfReferences, "make", fail)
    args = run_args(tiny_folder("llama"), again, *FEW, methods="sft,low-ppl")
    assert command(capsys, *args).code == 1
    assert (again / "run" / "manifest.json").read_bytes() == manifest
    assert (again / "run" / "results.json").read_bytes() == results


def test_arms_that_fail_in_a_repetition_take_nothing_from_the_run(
    again: Path, tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    manifest, results = ((again / "run" / name).read_bytes() for name in ("manifest.json", "results.json"))
    original = Train.run

    def run(stage: Train) -> None:
        if stage.label == "low-ppl":
            raise DasdError("no memory")
        original(stage)

    monkeypatch.setattr(Train, "run", run)
    result = command(capsys, *run_args(tiny_folder("llama"), again, *FEW, methods="sft,low-ppl"))
    assert result.code == 3
    assert "were kept" in result.out
    assert (again / "run" / "manifest.json").read_bytes() == manifest
    assert (again / "run" / "results.json").read_bytes() == results


def test_a_repetition_still_names_the_engine(again: Path, tiny_folder: Callable[[str], Path], capsys) -> None:
    engine = json.loads((again / "run" / "manifest.json").read_text())["engine"]
    for folder in ("run", "another"):
        args = run_args(tiny_folder("llama"), again, *FEW, "--output", str(again / folder), methods="sft,low-ppl")
        assert command(capsys, *args).code == 0
        manifest = json.loads((again / folder / "manifest.json").read_text())
        assert manifest["engine"] == engine
        assert manifest["stages"]["computed"] == 0
        assert all((again / "store" / name / "done.json").is_file() for name in manifest["store_entries"])


@pytest.mark.parametrize("part", ["", "arms/sft", "base/eval/mini_gsm/samples.jsonl"])
def test_a_run_directory_removed_meanwhile_is_no_finished_run(
    part: str, again: Path, tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    expected = artifacts(again / "run")
    original = Train.run

    def run(stage: Train) -> None:
        original(stage)
        if stage.label == "low-ppl":
            remove(stage.context.run_dir / part)

    monkeypatch.setattr(Train, "run", run)
    args = run_args(tiny_folder("llama"), again, *FEW, methods="sft,low-ppl")
    result = command(capsys, *args)
    assert result.code == 1
    assert "removed" in result.err
    assert not (again / "run" / "manifest.json").exists()
    monkeypatch.undo()
    assert command(capsys, *args).code == 0
    assert artifacts(again / "run") == expected


def test_the_folder_is_looked_at_under_the_lock(
    tiny_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """Another run with other settings takes the new folder while this one is getting ready."""
    other = run_args(tiny_folder("llama"), tmp_path, *FEW, methods="sft")
    original = FileLock.acquire

    def acquire(lock: FileLock) -> None:
        if lock.path.parent == tmp_path / "run":
            with monkeypatch.context() as patch:
                patch.setattr(FileLock, "acquire", original)
                assert run_cli([*other, "--quiet"]) == 0
        original(lock)

    monkeypatch.setattr(FileLock, "acquire", acquire)
    result = command(capsys, *run_args(tiny_folder("llama"), tmp_path, *FEW, methods="low-ppl"))
    assert result.code == 2
    assert "contains a run with other settings" in result.err
    assert [arm.label for arm in load_run(tmp_path / "run").arms] == ["sft"]


def test_weights_lie_on_the_disk_once(again: Path, tiny_folder: Callable[[str], Path], capsys) -> None:
    args = run_args(tiny_folder("llama"), again, *FEW, methods="sft,low-ppl")
    assert command(capsys, *args).code == 0
    for path in (again / "run" / "arms").rglob("adapter_model.safetensors"):
        assert path.stat().st_nlink == 2


def test_all_files_of_a_run_and_its_store_have_the_permissions_of_new_files(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "new").write_text("")
    wanted = (tmp_path / "new").stat().st_mode
    assert {path.stat().st_mode for path in finished.rglob("*") if path.is_file()} == {wanted}


def test_a_killed_repetition_is_not_taken_for_a_finished_run(again: Path, tiny_folder: Callable[[str], Path]) -> None:
    code, _ = start("write", 4, again, tiny_folder("llama"), *FEW, methods="sft,low-ppl")
    assert code == -signal.SIGKILL
    assert not (again / "run" / "manifest.json").exists()
    assert load_run(again / "run").status == "partial"


def test_every_arm_has_its_own_training_in_the_results(
    tiny_folder: Callable[[str], Path], tmp_path: Path, capsys
) -> None:
    """Alike or not; what all share is what they really share, not what the run was given."""
    methods = "sft+training.lr=1e-3,profit+training.lr=1e-3"
    assert command(capsys, *run_args(tiny_folder("llama"), tmp_path, *FEW, methods=methods)).code == 0
    results = RunResults.load(tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    for arms in (manifest["arms"], json.loads((tmp_path / "run" / "results.json").read_text())["arms"]):
        assert [(arm["training"]["lr"], arm["training"]["lora_rank"], arm["online"]) for arm in arms] == [
            (1e-3, 2, False),
            (1e-3, 2, True),
        ]
    assert results.train.config == results.arms[0].training == manifest["training"]
    assert not results.train.arms


def test_only_what_all_arms_share_is_shared(tiny_folder: Callable[[str], Path], tmp_path: Path, capsys) -> None:
    args = run_args(tiny_folder("llama"), tmp_path, *FEW, methods="sft,sft+training.lr=1e-3")
    assert command(capsys, *args).code == 0
    results = RunResults.load(tmp_path / "run")
    assert [arm.training["lr"] for arm in results.arms] == [2e-4, 1e-3]
    assert results.train.config == {key: value for key, value in results.arms[0].training.items() if key != "lr"}


def test_skipped_examples_are_told_once_and_named_in_the_manifest(
    tiny_folder: Callable[[str], Path], tmp_path: Path, capsys
) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "some.py").write_text(SOME)
    more = ["--plugins", str(tmp_path / "plugins"), "--sample", "first"]
    args = run_args(tiny_folder("llama"), tmp_path, *FEW, *more, methods="some")
    for _ in range(2):
        result = command(capsys, *args)
        assert result.code == 0, result.err
        warned = [text for text in RunResults.load(tmp_path / "run").warnings if "example" in text]
        assert warned == [f"some seed 0: 2 of 4 training examples were {NO_WEIGHT}."]
        manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
        names = ["mini_gsm/train/0", "mini_arc/train/0"]
        assert manifest["left_out"] == [{"arm": "some", "seed": 0, "reason": NO_WEIGHT, "examples": names}]


def test_every_example_has_one_reason(tmp_path: Path) -> None:
    """A prompt that fills the context is not an example without weights, and neither is counted as cut."""
    room = 32
    examples = make_examples(12, longest=30)
    long = np.arange(10, 10 + room, dtype=np.int32)
    for number in (0, 2):
        examples[number] = replace(examples[number], weights=np.zeros_like(examples[number].weights))
    for number in (1, 2):
        examples[number] = replace(examples[number], prompt_ids=long)
    result = train(tiny_model("llama"), examples, tmp_path, max_length=room)
    cut = [e.example_id for e in examples[3:] if len(e.prompt_ids) + len(e.target_ids) > room]
    assert cut
    scored, none = [], np.zeros(0, dtype=np.float32)
    for e in examples:
        target = Target(e.example_id, e.target_ids, none.astype(np.uint8), none.astype(np.uint8), "", True, "gold")
        scores = TokenScores(none, none, none, none.astype(np.int32))
        scored.append(ScoredTarget(Example(e.example_id, "t", "", ""), target, scores))
    stats = TrainStats(result.steps, 0, 0, 0.0, 0.0, 0.0)
    trained = Trained(result.adapter_dir, tmp_path, stats, list(result.skipped), list(result.truncated), {})
    assert left_out([WeightedTarget.of(one, e.weights) for one, e in zip(scored, examples, strict=True)], trained) == {
        NO_WEIGHT: [examples[0].example_id, examples[2].example_id],
        NO_ROOM: [examples[1].example_id],
        CUT: cut,
    }


def test_a_run_that_only_warms_up_is_told(tiny_folder: Callable[[str], Path], tmp_path: Path, capsys) -> None:
    one = ["--set", "training.epochs=1"]
    result = command(capsys, *run_args(tiny_folder("llama"), tmp_path / "one", *FEW, *one, methods="sft"))
    told = "sft seed 0: 1 of 1 training steps are warm-up, the first one at learning rate 0, so nothing is learned"
    assert f"{told}; lower training.warmup or train for more steps." in " ".join(result.out.split())
    most = ["--set", "training.epochs=3", "--set", "training.warmup=0.6"]
    result = command(capsys, *run_args(tiny_folder("llama"), tmp_path / "most", *FEW, *most, methods="sft"))
    assert "2 of 3 training steps are warm-up" in " ".join(result.out.split())
    some = ["--set", "training.epochs=3"]
    result = command(capsys, *run_args(tiny_folder("llama"), tmp_path / "some", *FEW, *some, methods="sft"))
    assert "warm-up" not in result.out
