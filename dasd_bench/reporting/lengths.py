"""Answer lengths and truncations beside the scores: a model that writes longer, or never stops, scores otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev

from dasd_bench.reporting.entries import entries, group_names, task_infos, usable
from dasd_bench.reporting.format import number, percent, score
from dasd_bench.reporting.table import Cell, Column, Row, Table
from dasd_bench.results.schema import RunResults


def answer_table(results: Sequence[RunResults]) -> Table:
    """Score, mean answer length and share of truncated answers of every row, task by task; means over seeds.

    Tasks whose answers are choices have no columns.
    """
    usable(results)
    rows = []
    written: dict[str, None] = {}
    for group, run in zip(group_names(results), results, strict=True):
        for entry in entries(run):
            cells: dict[str, Cell] = {}
            for task in run.tasks:
                scores = entry.scores(task.name)
                answers = [one.answers for one in scores if one.answers is not None]
                if not answers or len(answers) < len(scores):
                    continue
                written[task.name] = None
                mean = fmean(one.mean for one in scores)
                sound = not entry.missing(task)
                cells[f"{task.name}:score"] = Cell(score(mean, task.percent), mean, sound=sound)
                cells[f"{task.name}:tokens"] = _mean([one.mean_tokens for one in answers], 1)
                share = fmean(one.cut_share for one in answers)
                cells[f"{task.name}:cut"] = Cell(percent(share), share, n=sum(one.n for one in answers))
            if cells:
                rows.append(Row(entry.label, cells, group))
    columns = [
        Column(f"{task.name}:{key}", f"{task.name}\n{words}", block=task.name)
        for task in task_infos(results)
        if task.name in written
        for key, words in (("score", "score"), ("tokens", "tokens"), ("cut", "truncated %"))
    ]
    caption = [
        "Tokens: mean length of an answer. Truncated: answers that reached the token limit, right or not. A "
        "difference in score that goes with one in length may be a difference in when the model stops."
    ]
    return Table("answers", "Answer lengths", columns, rows, caption)


def _mean(values: Sequence[float], digits: int) -> Cell:
    spread = stdev(values) if len(values) > 1 else None
    detail = "" if spread is None else f"± {number(spread, digits)}"
    return Cell(number(fmean(values), digits), fmean(values), detail, spread=spread)
