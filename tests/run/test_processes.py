"""``--processes N``: what several engine processes make side by side has the bytes that one makes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dasd_bench.api import RunOptions, make_spec
from dasd_bench.config.resolve import plugin_folders
from dasd_bench.console import Console
from dasd_bench.engine.errors import EngineError
from dasd_bench.engine.pool import EnginePool
from dasd_bench.engine.requests import GenerateRequest
from dasd_bench.engine.side_by_side import side_by_side
from dasd_bench.registry import discover
from dasd_bench.run.graph import ArmStages
from dasd_bench.run.prepare import PreparedRun, prepare


def prepared(model: Path, folder: Path, processes: int) -> PreparedRun:
    spec = make_spec(
        model=str(model),
        methods=["dasd"],
        tasks=["mini_gsm"],
        seeds=[0],
        train_limit=5,
        limit=5,
        num_fewshot=0,
        max_new_tokens=6,
        settings=["engine.max_num_seqs=1", "training.lora_rank=2"],
    )
    options = RunOptions(output=folder / "run", store=folder / "store", processes=processes)
    return prepare(spec, discover(plugin_folders(spec)), options, Console(quiet=True))


def made(run: PreparedRun) -> dict[str, tuple[int, str]]:
    """Size and hash of every file that an arm's targets and scores and the base's evaluation leave in the store."""
    arm = run.graph.arms[0]
    assert isinstance(arm, ArmStages)
    for stage in (*arm.prepared(), *run.graph.base.evaluations.values()):
        stage.obtain()
    store = run.context.store
    names = sorted(set(store.used))
    assert {name.split("/")[0] for name in names} >= {"dual", "generate", "score", "targets", "evaluate"}
    entries = [store.entry(*name.split("/")).finished() for name in names]
    return {
        f"{name}/{file}": facts
        for name, entry in zip(names, entries, strict=True)
        if entry is not None
        for file, facts in entry.files.items()
        # Samples hold their seconds.
        if not file.endswith("samples.jsonl")
    }


def test_targets_scores_and_evaluation_have_the_bytes_of_one_process(
    tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    model = tiny_folder("llama")
    several = prepared(model, tmp_path / "several", 2)
    found = made(several)
    one = prepared(model, tmp_path / "one", 1)
    assert found == made(one)
    answers = [
        [(sample.completion, sample.metrics) for sample in run.graph.base.evaluations["mini_gsm"].value.records]
        for run in (several, one)
    ]
    assert answers[0] == answers[1]

    # A process that dies is one sentence, and the next call starts another.
    pool = several.context.engine()
    assert isinstance(pool, EnginePool)
    asked = [GenerateRequest([20, 21, 22], 3, frozenset(), name="one")]
    expected = pool.generate(asked)[0].token_ids.tolist()
    for process in several.context._pool:
        assert process._process is not None
        process._process.send_signal(signal.SIGKILL)
    for _ in several.context._pool:
        with pytest.raises(EngineError, match="An engine process ended with code -9, perhaps for lack of memory"):
            pool.generate(asked)
    assert pool.generate(asked)[0].token_ids.tolist() == expected
    several.context.release()


def test_side_by_side_runs_all_and_raises_the_first_error() -> None:
    seen: list[int] = []
    meeting = threading.Barrier(3, timeout=60)

    def work(item: int) -> None:
        if item < 3:
            meeting.wait()  # ends only where three threads are at work
        seen.append(item)

    side_by_side(work, range(9), 3)
    assert sorted(seen) == list(range(9))

    def faulty(item: int) -> None:
        raise EngineError(f"item {item}")

    with pytest.raises(EngineError, match="item"):
        side_by_side(faulty, range(9), 3)
