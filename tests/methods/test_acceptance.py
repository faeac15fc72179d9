"""The acceptance check: every reason, in the examples' order, with all programs in the sandbox at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from dasd_bench.methods.acceptance import check_rewrites
from dasd_bench.methods.context import Generation
from dasd_bench.registry import discover
from dasd_bench.run.method_context import EngineMethodContext
from dasd_bench.tasks.loading import examples_of, load_rows
from dasd_bench.types import Finish


def rewrite(text: str, finish: Finish = "stop") -> Generation:
    ids = np.arange(len(text.split()) + 1, dtype=np.int32)
    return Generation(ids, np.zeros(len(ids), dtype=np.float32), text, finish)


def test_two_tasks_are_graded_in_order_and_all_programs_at_once(sandbox_batches: list[int]) -> None:
    registry = discover()
    code, words = registry.task("mini_mbpp").item, registry.task("mini_gsm").item
    programs = list(examples_of(code, load_rows(code, "train", limit=4), "train"))
    problems = list(examples_of(words, load_rows(words, "train", limit=4), "train"))
    run = SimpleNamespace(
        registry=registry,
        chat=SimpleNamespace(end_token_id=0),
        teacher_chat=SimpleNamespace(answer_text=lambda text: text),
        stop_ids=(0,),
        encode_reply=lambda text: list(range(len(text.split()))),
    )
    arm = SimpleNamespace(plugin=SimpleNamespace(sha256=""))
    context = EngineMethodContext(cast("Any", run), cast("Any", arm), seed=0)
    examples = [one for pair in zip(programs, problems, strict=True) for one in pair]
    rewrites = [
        rewrite(programs[0].reference),
        rewrite(problems[0].reference),
        rewrite("def nothing():\n    return 1"),
        rewrite(problems[0].reference + " 987654321\n#### 987654321"),
        rewrite(programs[2].reference, "length"),
        rewrite(problems[2].reference.rpartition("#### ")[2]),
        rewrite(programs[3].reference),
        rewrite("As the reference answer says: " + problems[3].reference),
    ]
    checks = check_rewrites(examples, rewrites, context, min_ratio=0.5)
    assert [check.reason for check in checks] == [
        "right", "right", "wrong", "wrong", "truncated", "too_short", "right", "leak",
    ]  # fmt: skip
    assert [check.accepted for check in checks] == [True, True, False, False, False, False, True, False]
    assert sandbox_batches == [3]
