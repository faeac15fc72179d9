"""The evaluate stage: one model on one task, item by item."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dasd_bench.config.spec import ArmSpec
from dasd_bench.evaluation.records import EvalSettings, TaskResult
from dasd_bench.resources.work import Work
from dasd_bench.results.directory import SAMPLES_FILE
from dasd_bench.results.samples import Sample, parse_samples, samples_bytes, write_samples
from dasd_bench.results.schema import TaskInfo
from dasd_bench.run.context import RunContext
from dasd_bench.run.data import TaskData, data_folder
from dasd_bench.run.given_adapter import GivenAdapter
from dasd_bench.run.memory import check_stage
from dasd_bench.run.stages.base import Stage
from dasd_bench.run.stages.train import Train
from dasd_bench.run.work import answer_budget, evaluate_work
from dasd_bench.store.atomic import remove
from dasd_bench.store.store import Entry, EntryShards, Finished, Row


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One model on one task. ``summary`` is :meth:`dasd_bench.evaluation.records.TaskResult.summary`."""

    records: list[Sample]
    summary: dict[str, Any]


@dataclass(eq=False)
class Evaluate(Stage[Evaluation]):
    """The base (``train`` None), an arm's adapter or one from elsewhere, on one task; with ``point`` the adapter of
    that name saved during training."""

    data: TaskData
    train: Train | GivenAdapter | None
    point: str = ""

    kind = "evaluate"
    version = 4

    @property
    def name(self) -> str:
        return f"evaluate {self.data.name}" + (f" at {self.point}" if self.point else "")

    @property
    def arm(self) -> ArmSpec | GivenAdapter | None:
        return None if self.train is None else self.train.arm

    @property
    def adapter(self) -> Path | None:
        """The adapter that is evaluated; None for the base."""
        if self.train is None:
            return None
        if isinstance(self.train, Train) and self.point:
            return self.train.value.points[self.point].adapter
        return self.train.adapter

    @property
    def reached(self) -> bool:
        """False where training was stopped before the point."""
        return not (isinstance(self.train, Train) and self.point) or self.point in self.train.value.points

    def run(self) -> None:
        if self.reached:
            super().run()

    def parts(self) -> Sequence[object]:
        data, spec = self.data, self.context.spec
        budget = answer_budget(data.task, spec)
        return (
            self.context.model_key | {"template": self.context.evaluation_chat.hash},
            None if self.train is None else self.train.key,
            data.name,
            data.plugin_sha256,
            data.test_key,
            data.prompt_key,
            spec.chat_template,
            *([spec.thinking.tokens] if self.context.evaluation_chat.thinking else ()),
            *([self.point] if self.point else []),
            *([f"answers of {budget}"] if budget != data.task.max_new_tokens else []),
        )

    def work(self) -> Work:
        return evaluate_work(self.data, self.context.spec)

    @property
    def trained(self) -> str | None:
        return None if self.train is None else self.train.key

    def needs(self) -> Sequence[Stage[Any]]:
        return (self.train,) if isinstance(self.train, Train) else ()

    def make_share(self, share: tuple[int, int]) -> None:
        """Computes the ``share`` (i of n) of the answers, which :meth:`make` finds then, also on another machine."""
        from dasd_bench.evaluation.lm_eval_model import ShareDone

        if self.entry.finished() is None:
            check_stage(self.context, self.work(), f"Stage '{self.name}' of {self.label}")
            self.entry.path.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(ShareDone):
                self._evaluate(self.entry, share)

    def make(self, entry: Entry) -> Row:
        context, data = self.context, self.data
        result = self._evaluate(entry)
        # Validation items keep the names that their rows have in the train split.
        records = [replace(record, id=data.test[record.index].id) for record in result.records]
        entry.put(SAMPLES_FILE, samples_bytes(records))
        remove(entry.path / EntryShards.FOLDER)
        return result.summary() | {"engine": context.engine_path}

    def _evaluate(self, entry: Entry, share: tuple[int, int] | None = None) -> TaskResult:
        from dasd_bench.evaluation import evaluate

        context, data = self.context, self.data
        return evaluate(
            data.task,
            context.engine(self.adapter),
            context.tokenizer,
            rows=data.test_rows,
            settings=eval_settings(context, data),
            chat=context.evaluation_chat,
            stop_ids=context.stop_ids,
            shards=EntryShards(entry),
            console=context.console,
            share=share,
        )

    def read(self, entry: Finished) -> Evaluation:
        # A run that takes everything from the store still says which engine its numbers come from.
        self.context.engine_path = self.context.engine_path or entry.meta["engine"]
        return Evaluation(parse_samples(entry.read(SAMPLES_FILE), entry.path / SAMPLES_FILE), entry.meta)

    def publish(self) -> None:
        directory = self.context.directory
        folder = directory.base if self.arm is None else directory.arm(self.arm.folder, int(self.seed or 0))
        folder = folder.point(self.point) if self.point else folder
        write_samples(folder.samples(self.data.name), self.value.records)

    def info(self) -> TaskInfo:
        """The task as the tables describe it."""
        summary, data = self.value.summary, self.data
        validation = self.context.spec.validation > 0
        note = summary["note"]
        return TaskInfo(
            name=data.name,
            metric=summary["metric"],
            filter=summary["filter"],
            higher_is_better=True,
            comparable=summary["comparable"] and not validation,
            num_fewshot=summary["num_fewshot"],
            n_items=len(data.test),
            n_train=len(data.train),
            version=data.task.version,
            note=f"validation on rows of the train split, {note}" if validation else note,
            max_new_tokens=answer_budget(data.task, self.context.spec),
            retention=data.retention,
        )


def eval_settings(context: RunContext, data: TaskData) -> EvalSettings:
    """The evaluation settings of a run for one task."""
    spec = context.spec
    return EvalSettings(
        num_fewshot=None if spec.num_fewshot < 0 or data.retention else spec.num_fewshot,
        limit=None if spec.validation else spec.limit or None,
        validation=spec.validation > 0,
        chat_template=spec.chat_template != "off",
        data_dir=data_folder(spec),
        offline=spec.offline,
        thinking_tokens=spec.thinking.tokens if context.evaluation_chat.thinking else 0,
        max_answer_tokens=spec.max_answer_tokens,
    )
