"""Grades the completions of a run directory again: no model, new verdicts written atomically, differences kept."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dasd_bench.config.spec import RunSpec
from dasd_bench.console import Console
from dasd_bench.errors import DataError, StoreError, UsageError, unknown_name
from dasd_bench.evaluation.regrade import Graded, regrade
from dasd_bench.methods.base import BASE
from dasd_bench.registry import Registry
from dasd_bench.results.directory import RunDirectory
from dasd_bench.results.runs import read_manifest
from dasd_bench.results.samples import Sample, read_samples, write_samples
from dasd_bench.results.schema import RunResults, TaskScore
from dasd_bench.run.collect import task_score
from dasd_bench.run.data import evaluated_rows
from dasd_bench.store.atomic import write_json
from dasd_bench.tasks.base import Row


@dataclass(frozen=True, slots=True)
class Answers:
    """One ``samples.jsonl``: whose answers they are, to which task. ``seed`` is None for the base; ``point`` names an
    adapter saved during training."""

    path: Path
    task: str
    row: str
    seed: int | None
    point: str = ""

    @property
    def who(self) -> str:
        """``base``, ``dasd seed 0``, or ``dasd seed 0 at 0.5``."""
        who = self.row if self.seed is None else f"{self.row} seed {self.seed}"
        return f"{who} at {self.point}" if self.point else who


@dataclass(frozen=True, slots=True)
class VerdictChange:
    """One item whose verdict, reason or extracted answer is another one now."""

    task: str
    row: str
    seed: int | None
    item: str
    score_before: float
    score_after: float
    reason_before: str
    reason_after: str
    extracted_before: str | None
    extracted_after: str | None
    point: str = ""


@dataclass(frozen=True, slots=True)
class Regraded:
    """One file graded again."""

    answers: Answers
    items: int
    mean_before: float
    mean_after: float
    changes: list[VerdictChange]


def find_answers(run: Path) -> list[Answers]:
    """Every ``samples.jsonl`` of a run, the base's first."""
    directory = RunDirectory(run)
    found = [Answers(directory.base.samples(task), task, BASE, None) for task in directory.base.evaluated()]
    for folder, seed, one in directory.arms():
        found += [Answers(one.samples(task), task, folder, seed) for task in one.evaluated()]
        for name in one.points():
            saved = one.point(name)
            found += [Answers(saved.samples(task), task, folder, seed, name) for task in saved.evaluated()]
    if not found:
        raise StoreError(f"{run} has no completions; rerun its command to generate them.")
    return found


def regrade_run(
    run: Path,
    spec: RunSpec,
    registry: Registry,
    console: Console,
    *,
    tasks: Sequence[str] = (),
    allow_code: bool = False,
    write: bool = True,
) -> list[Regraded]:
    """Grades all completions of ``run`` (of ``tasks`` alone where named) with the graders as they are now.

    ``spec`` is the run's own, with ``data_dir`` where the rows lie now. With ``write`` the records, ``results.json``
    and the manifest's ``regraded`` list are written, each atomically, records first: an interrupted call is mended by
    the next one. Raises :class:`UsageError` for an unknown task or one whose code may not be run, :class:`DataError`
    where the rows are not those of the run.
    """
    answers = find_answers(run)
    known = list(dict.fromkeys(one.task for one in answers))
    for name in tasks:
        if name not in known:
            raise unknown_name(f"task of run {run.name}", name, known)
    results = RunResults.load(run) if RunDirectory(run).results.exists() else None
    done = []
    for name in tasks or known:
        mine = [one for one in answers if one.task == name]
        rows = rows_of_run(run, spec, registry, name, allow_code)
        task = registry.task(name).item
        with console.progress(f"grade {name}", len(mine), "files") as meter:
            for one in mine:
                before = read_samples(one.path)
                graded = regrade(task, rows, before)
                done.append(_difference(one, before, graded.records))
                if write:
                    write_samples(one.path, graded.records)
                    if results is not None:
                        _put(results, one, graded)
                meter.advance()
    if write:
        if results is not None:
            results.save(run)
        _note(run, done)
    return done


def rows_of_run(run: Path, spec: RunSpec, registry: Registry, name: str, allow_code: bool) -> list[Row]:
    """The rows that a task of a run was scored on, checked against the hash in its manifest."""
    task = registry.task(name).item
    if task.unsafe_code and not allow_code:
        raise UsageError(f"Task '{name}' executes model-written code; allow it with --confirm-run-unsafe-code.")
    loaded, *_ = evaluated_rows(spec, task, retention=name not in spec.tasks)
    noted = [one for one in read_manifest(run).get("tasks", []) if one.get("name") == name]
    wanted = (noted[0].get("evaluation") or {}).get("rows_sha256") if noted else None
    if wanted is not None and wanted != loaded.sha256:
        raise DataError(
            f"The rows of '{name}' from {loaded.source} are not those that {run.name} was scored on; "
            "give --data-dir the original folder."
        )
    return loaded.rows


def _difference(answers: Answers, before: Sequence[Sample], after: Sequence[Sample]) -> Regraded:
    changes = [
        VerdictChange(
            answers.task,
            answers.row,
            answers.seed,
            old.id,
            old.score,
            new.score,
            old.reason.value,
            new.reason.value,
            old.extracted,
            new.extracted,
            answers.point,
        )
        for old, new in zip(before, after, strict=True)
        if (old.score, old.reason, old.extracted) != (new.score, new.reason, new.extracted)
    ]
    size = len(before)
    means = [sum(record.score for record in records) / size for records in (before, after)]
    return Regraded(answers, size, means[0], means[1], changes)


def _put(results: RunResults, answers: Answers, graded: Graded) -> None:
    """The new score in place of the old one, with what does not hang on verdicts kept."""
    scores: dict[str, TaskScore] | None = None
    if answers.seed is None:
        scores = results.base
    for arm in results.arms:
        for one in arm.seeds:
            if arm.directory == answers.row and one.seed == answers.seed:
                saved = {point.name: point.scores for point in one.points}
                scores = saved.get(answers.point) if answers.point else one.scores
    if scores is None or answers.task not in scores:
        return
    scores[answers.task] = task_score(graded.records, graded.metrics, scores[answers.task].reference_nll)


def _note(run: Path, done: Sequence[Regraded]) -> None:
    """Adds what was done to the manifest, where the run has one."""
    manifest: dict[str, Any] = read_manifest(run)
    if not manifest:
        return
    manifest.setdefault("regraded", []).append(
        {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "lm_eval": importlib.metadata.version("lm_eval"),
            "math-verify": importlib.metadata.version("math-verify"),
            "tasks": sorted({one.answers.task for one in done}),
            "items": sum(one.items for one in done),
            "changed": [asdict(change) for one in done for change in one.changes],
        }
    )
    write_json(RunDirectory(run).manifest, manifest)
