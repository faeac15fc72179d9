"""The answer viewer's data: what the untrained model and every method wrote for each test item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dasd_bench.errors import StoreError
from dasd_bench.reporting.entries import entries
from dasd_bench.reporting.plots import Source
from dasd_bench.reporting.report.blocks import Blocks
from dasd_bench.reporting.report.sample import sampled_sentence, shown_rows
from dasd_bench.results.samples import Sample, read_samples


def answer_sets(sources: Sequence[Source], blocks: Blocks) -> tuple[list[dict[str, Any]], list[str]]:
    """One entry per run and task: its items, and a column of answers per row and seed; and what could not be shown."""
    sets: list[dict[str, Any]] = []
    problems: list[str] = []
    count = 2 * sum(len(source.results.tasks) for source in sources)
    for source in sources:
        for task in source.results.tasks:
            columns: list[dict[str, Any]] = []
            items: list[Sample] = []
            rows: list[int] = []
            models = sum(len(entry.seeds(task.name)) for entry in entries(source.results))
            for entry in entries(source.results):
                for seed in entry.seeds(task.name):
                    path = entry.directory(source.path, seed).samples(task.name)
                    try:
                        samples = read_samples(path)
                    except StoreError as error:
                        problems.append(str(error))
                        continue
                    if not items:
                        items = samples
                        sizes = [len(one.prompt) + models * len(str(_answer(one))) for one in items]
                        rows = shown_rows(sizes, count)
                        if len(rows) < len(items):
                            what = f"Answers of {source.results.run_id} on {task.name}"
                            problems.append(sampled_sentence(what, len(rows), len(items)))
                    if [sample.id for sample in samples] != [item.id for item in items]:
                        problems.append(f"{path} has different items from the first row and is skipped.")
                        continue
                    answers = blocks.add_json([_answer(samples[row]) for row in rows])
                    columns.append({"method": entry.label, "seed": seed, "answers": answers})
            if columns:
                sets.append(
                    {
                        "run": source.results.run_id,
                        "task": task.name,
                        "items": blocks.add_json([[items[row].id, items[row].prompt] for row in rows]),
                        "columns": columns,
                    }
                )
    return sets, problems


def _answer(sample: Sample) -> list[Any]:
    return [sample.completion, sample.extracted, sample.score, sample.reason]
