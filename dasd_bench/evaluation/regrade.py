"""Grades stored completions again, without a model: lm-eval's filters and metrics over the text that was recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from lm_eval.api.model import LM

from dasd_bench.errors import DataError
from dasd_bench.evaluation.evaluator import quiet
from dasd_bench.evaluation.items import make_records, task_metrics
from dasd_bench.results.samples import Sample
from dasd_bench.tasks import derive, plugin_calls
from dasd_bench.tasks.base import Row, Task


class Replay(LM):  # type: ignore[misc]  # lm-eval has no types
    """An lm-eval model that answers with what was recorded. ``answers`` is what :func:`make_records` wants to know."""

    def __init__(self, task: Task, records: Sequence[Sample]) -> None:
        super().__init__()
        self.task = task
        self.records = records
        self.answers: dict[tuple[int, int], Row] = {}

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """The recorded completions; of an item that was sampled several times one after the other."""
        texts = []
        asked: Counter[int] = Counter()
        for request in requests:
            record = self.records[request.doc_id]
            written = record.completions or [record.completion]
            if asked[request.doc_id] >= len(written):
                raise DataError(f"{record.id}: the task asks for more samples than the {len(written)} recorded.")
            texts.append(written[asked[request.doc_id]])
            asked[request.doc_id] += 1
            self.answers[request.doc_id, request.idx] = {
                "finish": record.finish,
                "tokens": record.tokens,
                "seconds": record.seconds,
                "confidence": record.confidence,
            }
        plugin_calls.grade_ahead(self.task, [request.doc for request in requests], texts)
        return texts

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """The recorded log-likelihoods of the choices; whether greedy decoding gives them is not recorded."""
        found = []
        for request in requests:
            record = self.records[request.doc_id]
            if record.choice_logp is None or request.idx >= len(record.choice_logp):
                raise DataError(f"{record.id}: the record has no log-likelihood of choice {request.idx + 1}.")
            first = request.idx == 0
            self.answers[request.doc_id, request.idx] = {
                "logp": record.choice_logp[request.idx],
                "tokens": record.tokens if first else 0,
                "seconds": record.seconds if first else 0.0,
            }
            found.append((record.choice_logp[request.idx], False))
        return found

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Whole texts leave nothing that could be graded again. Raises :class:`DataError`."""
        raise DataError(
            f"Task '{self.task.name}' scores whole texts, which the records lack; repeat the run to score it again."
        )


@dataclass(frozen=True, slots=True)
class Graded:
    """Records after grading again, and the task's metrics over them, named ``metric,filter``."""

    records: list[Sample]
    metrics: dict[str, float]


def regrade(task: Task, rows: Sequence[Row], records: Sequence[Sample]) -> Graded:
    """New records of the same answers under the task's grader as it is now; prompts stay as they were recorded.

    ``rows`` are the evaluated rows, ``records`` one per row in order. Raises :class:`DataError` where they do not
    belong together.
    """
    import lm_eval

    if len(rows) != len(records):
        raise DataError(f"Task '{task.name}': {len(records)} records for {len(rows)} rows; the data has changed.")
    lm = Replay(task, records)
    with quiet():
        # Prompts and shots play no part in grading, so none are drawn.
        built = derive.build(task, {derive.evaluation_split(derive.config_of(task)): list(rows)}, 0, 0)
        results = lm_eval.evaluate(
            lm,
            {"tasks": {task.name: built}},
            bootstrap_iters=0,
            log_samples=True,
            confirm_run_unsafe_code=task.unsafe_code,
        )
    graded = make_records(task, built, rows, results["samples"][task.name], lm.answers)
    return Graded(
        [_with_prompt(new, old) for new, old in zip(graded, records, strict=True)],
        task_metrics(graded, results["results"][task.name]),
    )


def _with_prompt(new: Sample, old: Sample) -> Sample:
    # A sample's ids have the rows' places in the whole set, which is not read here.
    if old.choices is None and old.answer is not None and new.answer != old.answer:
        raise DataError(f"The right answer of {old.id} was {old.answer!r} and is {new.answer!r}; the data has changed.")
    return replace(new, id=old.id, prompt=old.prompt, seconds=old.seconds)
