"""One record per item from what lm-eval logged: prompt, completion, extracted answer, verdict and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dasd_bench.evaluation.confidence import choice_confidence
from dasd_bench.results.samples import Sample
from dasd_bench.tasks import plugin_calls
from dasd_bench.tasks.base import Row, Task
from dasd_bench.tasks.grading import declares_answer, letters_shown
from dasd_bench.types import Example, Reason

INVALID = "[invalid]"
"""What lm-eval's regex filter gives where it found nothing."""


def make_records(
    task: Task,
    built: Any,
    rows: Sequence[Row],
    samples: Sequence[Mapping[str, Any]],
    answers: Mapping[tuple[int, int], Row],
) -> list[Sample]:
    """Records in document order.

    ``built`` is lm-eval's task; ``samples`` are lm-eval's, one per document and filter; ``answers`` the engine's.
    """
    by_doc: dict[int, dict[str, Mapping[str, Any]]] = {}
    for sample in samples:
        by_doc.setdefault(int(sample["doc_id"]), {})[str(sample["filter"])] = sample
    records = []
    for doc_id, filters in sorted(by_doc.items()):
        metrics = {
            f"{metric},{name}": float(sample[metric])
            for name, sample in filters.items()
            for metric in sample["metrics"]
            if isinstance(sample[metric], (int, float))
        }
        example = plugin_calls.example(task, rows[doc_id], "test", doc_id)
        count = len(next(iter(filters.values()))["arguments"])
        mine = [answers[(doc_id, i)] for i in range(count)]
        headline = filters.get(task.filter) or next(iter(filters.values()))
        score = metrics.get(f"{task.metric},{task.filter}", 0.0)
        if "logp" in mine[0]:
            # lm-eval divides by the length of the choice as the row has it, spaces included.
            normed = (
                [len(choice) for choice in built.doc_to_choice(headline["doc"])] if task.metric == "acc_norm" else []
            )
            lengths = [max(length, 1) for length in normed] or [1] * count
            records.append(_choice_record(example, doc_id, headline, metrics, score, mine, lengths))
        else:
            records.append(_text_record(task, example, doc_id, headline, metrics, score, mine))
    return records


def task_metrics(records: Sequence[Sample], aggregated: Mapping[str, Any]) -> dict[str, float]:
    """Every metric of a task as ``metric,filter``: the mean over its items.

    ``aggregated`` are lm-eval's results for the task: a metric that is no number per item (IFEval's has one value per
    instruction) is what lm-eval's own aggregation gives.
    """
    metrics = {name: sum(record.metrics[name] for record in records) / len(records) for name in records[0].metrics}
    for name, value in aggregated.items():
        if "," in name and "_stderr," not in name and isinstance(value, (int, float)):
            metrics.setdefault(name, float(value))
    return metrics


def _text_record(
    task: Task,
    example: Example,
    doc_id: int,
    sample: Mapping[str, Any],
    metrics: dict[str, float],
    score: float,
    answers: Sequence[Row],
) -> Sample:
    completion = str(sample["resps"][0][0])
    answer = answers[0]
    filtered = sample["filtered_resps"][0]
    # A task without an extracting filter hands the whole text to its metric: its grader says what the answer is.
    verdict = plugin_calls.grade_scored(task, example, completion) if task.filter == "none" else None
    extracted = str(filtered) if verdict is None else verdict.extracted
    if extracted is not None and (extracted == INVALID or not extracted.strip()):
        extracted = None
    correct = score > 0
    cut = answer["finish"] == "length" and not declares_answer(completion)
    if correct:
        reason = Reason.CORRECT
    elif verdict is not None and verdict.reason in (Reason.TIMEOUT, Reason.INFRASTRUCTURE_ERROR):
        reason = verdict.reason
    elif cut:
        reason = Reason.TRUNCATED
    else:
        reason = Reason.NO_ANSWER if extracted is None else Reason.WRONG
    return Sample(
        id=example.id,
        index=doc_id,
        prompt=str(sample["arguments"][0][0]),
        completion=completion,
        extracted=extracted,
        score=score,
        reason=reason,
        tokens=int(answer["tokens"]),
        metrics=metrics,
        finish=answer["finish"],
        level=example.level,
        subject=example.subject,
        completions=[str(text) for text in sample["resps"][0]] if len(sample["resps"][0]) > 1 else None,
        answer=_asked_answer(example),
        confidence=answer.get("confidence"),
        seconds=float(answer["seconds"]),
    )


def _asked_answer(example: Example) -> str | None:
    """The right answer in the terms the prompt asks for: a letter where it lists the choices by letter."""
    choices, labels = example.extra.get("choices"), example.extra.get("labels")
    if choices is None or labels is None or not letters_shown(example.prompt, choices, labels):
        return example.answer
    return str(labels[example.extra["gold"]])


def _choice_record(
    example: Example,
    doc_id: int,
    sample: Mapping[str, Any],
    metrics: dict[str, float],
    score: float,
    answers: Sequence[Row],
    lengths: Sequence[int],
) -> Sample:
    contexts = [str(arguments[0]) for arguments in sample["arguments"]]
    choices = [str(arguments[1]).strip() for arguments in sample["arguments"]]
    # Where the choices stand in the context (WinoGrande), the continuations are all the same.
    prompt, shown = contexts[0], choices
    if len(set(contexts)) > 1:
        spans = _differing(contexts)
        prompt = contexts[0][: spans[0][0]]
        shown = [text[start:end].strip() for text, (start, end) in zip(contexts, spans, strict=True)]
    logps = [float(answer["logp"]) for answer in answers]
    gold = example.extra.get("gold")
    best = max(range(len(choices)), key=lambda i: logps[i] / lengths[i])
    correct = score > 0
    return Sample(
        id=example.id,
        index=doc_id,
        prompt=prompt,
        completion=shown[best],
        extracted=shown[best],
        score=score,
        reason=Reason.CORRECT if correct else Reason.WRONG,
        tokens=sum(int(answer["tokens"]) for answer in answers),
        metrics=metrics,
        level=example.level,
        subject=example.subject,
        choices=shown,
        choice_logp=logps,
        # As the model was asked for it: a letter where letters were scored.
        answer=example.answer if gold is None else shown[gold],
        confidence=choice_confidence(logps, lengths),
        seconds=sum(float(answer["seconds"]) for answer in answers),
    )


def _differing(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Where each text is its own: from the end of what all begin with to the start of what all end with, whole words.

    What follows a choice in the context is a chat template's, the same for all.
    """
    start = _alike(texts)
    start = texts[0].rfind(" ", 0, start + 1) + 1
    tail = _alike([text[start:][::-1] for text in texts])
    while tail and texts[0][-tail].isalnum():
        tail -= 1
    return [(start, len(text) - tail) for text in texts]


def _alike(texts: Sequence[str]) -> int:
    """Characters that all texts begin with."""
    same = 0
    while same < min(map(len, texts)) and len({text[same] for text in texts}) == 1:
        same += 1
    return same
