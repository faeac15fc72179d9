"""``manifest.json``: what a run's numbers are numbers of; and the lines that close a run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from dasd_bench.console import format_seconds
from dasd_bench.errors import StoreError
from dasd_bench.methods.base import has_token_loss
from dasd_bench.results.directory import RunDirectory
from dasd_bench.results.schema import RunResults
from dasd_bench.run.artifacts import command_line, environment
from dasd_bench.run.budget import budget_name, shared_training
from dasd_bench.run.context import RunContext
from dasd_bench.run.data import TaskData
from dasd_bench.run.recorder import GIB, peak_memory_gib
from dasd_bench.store.atomic import digest, is_plain_file, remove, write_bytes, write_json
from dasd_bench.types import Reason


def conditions(context: RunContext, data: list[TaskData]) -> dict[str, str]:
    """What must be equal for two runs to be compared."""
    found = {
        "dtype": context.dtype,
        "chat template": context.chat.hash,
        "model weights": context.model.sha256,
        # Where an adapter is evaluated during training is no part of how it is trained.
        "training": digest(sorted({digest(replace(arm.training, evaluate_at=())) for arm in context.arms})),
        "budget": budget_name(context),
        "target tokens": str(context.spec.max_new_tokens or "each task's own"),
        "prompt form": context.spec.chat_template,
    }
    for role, how in context.thinking.items():
        if how == "on":
            found[f"thinking of {role}"] = f"on, {context.spec.thinking.tokens} tokens"
    for one in data:
        found[f"data {one.name}"] = digest(one.train_key, one.test_key)
        found[f"task code {one.name}"] = one.plugin_sha256
        found[f"sampling {one.name}"] = one.sampling
    return found


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Training examples of one arm and seed that were not trained on, or not whole, for one reason."""

    arm: str
    seed: int
    reason: str
    examples: list[str]


def write_manifest(
    context: RunContext, data: list[TaskData], status: str, failures: list[str], left_out: Sequence[LeftOut]
) -> None:
    """``manifest.json``, written last: everything needed to know what the numbers are numbers of."""
    spec = context.spec
    reused, computed = context.recorder.reuse_counts()
    manifest: dict[str, Any] = {
        "status": status,
        "failures": failures,
        "left_out": [asdict(one) for one in left_out],
        "created": _now(),
        "command": command_line(),
        "model": {
            "name": spec.model,
            "sha256": context.model.sha256,
            "source": context.model.source,
            "licence": context.model.licence,
            "kind": context.model.kind,
            "dtype": context.dtype,
            "device": context.device,
        },
        "warmup": None if context.warmup is None else context.warmup.describe(),
        "reference_style": spec.reference_style or None,
        "chat_template": {"mode": spec.chat_template, "sha256": context.chat.hash},
        "thinking": context.thinking | {"tokens": spec.thinking.tokens},
        "engine": context.engine_path or "not loaded: everything was reused",
        "adapter_at_evaluation": context.adapter_at_evaluation,
        "seeds": list(spec.seeds),
        "training": shared_training(context),
        "budget": budget_name(context),
        "training_processes": {"count": context.processes, "parallel": context.parallel},
        "arms": [
            {
                "label": arm.label,
                "method": arm.name,
                "options": arm.options,
                "denominator": arm.weighing.method.denominator,
                "online": arm.weighing.method.online,
                "scope": arm.weighing.method.scope,
                "token_loss": "nll" if not has_token_loss(type(arm.weighing.method)) else "own",
                "teacher": arm.weighing.method.teacher,
                "rollouts": arm.weighing.method.rollouts,
                "training": asdict(arm.training),
                "plugin": arm.plugin.origin,
                "plugin_sha256": arm.plugin.sha256,
                **({} if arm.second is None else {"weights_plugin_sha256": arm.second.plugin.sha256}),
            }
            for arm in context.arms
        ],
        "adapters": [{"label": one.label, **asdict(one.summary())} for one in context.adapters],
        "tasks": [
            {
                "name": one.name,
                "plugin": one.origin,
                "plugin_sha256": one.plugin_sha256,
                "data": one.source,
                "train_rows": len(one.train),
                "train_sha256": one.train_key,
                "test_rows": len(one.test),
                "test_sha256": one.test_key,
                "sampling": one.sampling,
                "overlap": None if one.overlap is None else one.overlap.summary(),
                "evaluation": context.evaluation.get(one.name),
            }
            for one in data
        ],
        "unsafe_code": {"allowed": spec.confirm_run_unsafe_code},
        "stages": {"reused": reused, "computed": computed, "each": [asdict(s) for s in context.recorder.stages]},
        "store_entries": sorted(set(context.store.used)),
        "peak_memory_gib": round(peak_memory_gib(), 3),
        "environment": environment(),
    }
    write_json(context.directory.manifest, manifest)


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier session of a run left in its directory: the manifest, and the results it belongs to."""

    manifest: bytes
    results: bytes

    def holds_under(self, now: Mapping[str, str]) -> bool:
        """True where the results were measured under the conditions of ``now``."""
        try:
            return bool(json.loads(self.results)["conditions"] == now)
        except (ValueError, KeyError, TypeError):
            return False

    def unfinished(self) -> bytes:
        """The results as those of a run that has not finished: what stands while the run is repeated."""
        try:
            found = RunResults.from_json(self.results.decode("utf-8"))
        except (StoreError, UnicodeDecodeError):
            return self.results
        # Values per item in a file of their own stay there.
        found.status = "partial"
        return found.to_json().encode("utf-8")

    def put_back(self, run_dir: Path) -> None:
        """Writes both again as they were."""
        directory = RunDirectory(run_dir)
        write_bytes(directory.results, self.results)
        write_bytes(directory.manifest, self.manifest)


def take_manifest(run_dir: Path) -> Earlier | None:
    """Takes the manifest away before work begins: killed from here on, the run is not taken for a finished one."""
    manifest, results = RunDirectory(run_dir).manifest, RunDirectory(run_dir).results
    whole = is_plain_file(manifest) and is_plain_file(results)
    earlier = Earlier(manifest.read_bytes(), results.read_bytes()) if whole else None
    # Links, folders and the like in the place of either go too.
    remove(manifest)
    if not is_plain_file(results):
        remove(results)
    if earlier is not None:
        write_bytes(results, earlier.unfinished())
    return earlier


def write_cancelled(context: RunContext) -> None:
    """The manifest of an interrupted run: ``cancelled``, so that no table takes it for a finished one."""
    write_json(
        context.directory.manifest,
        {"status": "cancelled", "created": _now(), "command": command_line(), "model": {"name": context.spec.model}},
    )


def interrupted_line(context: RunContext) -> str:
    """What an interrupted run has saved, and how to go on."""
    done: dict[str, int] = {}
    for stage in context.recorder.stages:
        done[stage.name] = done.get(stage.name, 0) + 1
    saved = ", ".join(f"{name} ({count})" if count > 1 else name for name, count in done.items())
    return (
        f"Interrupted. Saved: {saved or 'no complete stage yet'}; of the running stage, its finished requests or its "
        f"last training checkpoint. Resume with: {command_line()}  (run directory: {context.run_dir})"
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def closing_lines(results: RunResults, run_dir: Path, seconds: float) -> list[str]:
    """What a reader needs after the table: reuse, time, memory, where everything is."""
    reused = sum(stage.reused for stage in results.stages)
    computed = len(results.stages) - reused
    return [
        f"Stages: {computed} computed, {reused} reused from the store. "
        f"{format_seconds(seconds)} in all, peak memory {peak_memory_gib():.2f} GiB of "
        f"{psutil.virtual_memory().total / GIB:.0f} GiB.",
        f"Results saved to {run_dir}",
        f"Next: {next_command(results, run_dir)}",
    ]


def next_command(results: RunResults, run_dir: Path) -> str:
    """The one most useful thing to do with a finished run, as a command and what it is for.

    What failed comes first; then the answers that were cut off or not found, where they are many; then more seeds,
    without which no claim about training holds; then the report.
    """
    place = shlex.quote(str(run_dir))
    if results.status == "partial":
        return f"{command_line()}  (repeat what failed; finished work is kept)"
    if unread := most_unread(results):
        return f"dasd-bench samples {place} --task {unread[0]} --reason {unread[1]}  (why so many have no score)"
    trained = [arm for arm in results.arms if arm.adapter is None]
    if trained and len(results.seeds) == 1:
        return f"dasd-bench run -c {place}/spec.yaml --seeds 0,1,2 --output {place}-3seeds  (variance over seeds)"
    return f"dasd-bench report {place}  (one page: tables, figures, token viewer, answers)"


UNREAD = (Reason.NO_ANSWER.value, Reason.TRUNCATED.value)
"""Reasons for which an answer was not read."""

MANY = 0.5
"""The share of a task's items from which on unread answers are the first thing to look at."""


def most_unread(results: RunResults) -> tuple[str, str] | None:
    """The task and reason of most unread answers of a trained row, where they are many; None where nowhere."""
    counts = [
        (score.reasons.get(reason, 0) / max(score.n, 1), name, reason)
        for arm in results.arms
        for seed in arm.seeds
        for name, score in seed.scores.items()
        for reason in UNREAD
    ]
    share, name, reason = max(counts, default=(0.0, "", ""))
    return (name, reason) if share >= MANY else None
