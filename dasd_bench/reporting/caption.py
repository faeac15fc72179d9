"""Captions and notes: what a reader must know to read the numbers, and what they cannot show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dasd_bench.reporting.entries import expected_seeds, task_infos
from dasd_bench.reporting.format import listing
from dasd_bench.reporting.notes import remarks
from dasd_bench.reporting.table import Note
from dasd_bench.results.schema import RunResults, TaskInfo
from dasd_bench.stats.paired import Changes, Paired
from dasd_bench.stats.power import changed_items_needed, detectable_difference, smallest_significant_difference

Tests = Mapping[tuple[int, str], Paired]


def score_caption(results: Sequence[RunResults], tests: Tests, baseline: str) -> list[str]:
    """The two lines under the main table, and one more for each remark of a method."""
    tasks = [task for task in task_infos(results) if not task.retention]
    lines = [f"{_items(results, tasks)} {_spread([len(expected_seeds(run)) for run in results])}"]
    if tests:
        corrected = f", Holm's correction for {len(tests)} tests" if len(tests) > 1 else ""
        kinds = listing(sorted({test.test for test in tests.values()}))
        lines.append(f"* p < .05, ** p < .01 against {baseline} ({kinds}{corrected}). {power_line(tasks, tests)}")
    return lines + remarks(results)


def score_notes(results: Sequence[RunResults], tests: Tests, baseline: str) -> list[Note]:
    """How the main table was made: intervals, tests, training, and whether each score compares with lm-eval's."""
    tasks = [task for task in task_infos(results) if not task.retention]
    notes = [Note(_intervals(tasks, [len(expected_seeds(run)) for run in results]))]
    if tests:
        notes.append(Note(f"vs {baseline}: items gained/lost and the uncorrected p.", "paired"))
        notes += [Note(text) for text in power_notes(tasks, tests)]
    notes.append(Note("ref. NLL: teacher-forced nats per token of the test references.", "nll"))
    notes.append(Note("Bold: best of the column, whether or not significant; underlined: second best."))
    for run in results:
        notes += [Note(text) for text in training_lines(run, named=len(results) > 1)]
    notes += [Note(text) for text in comparable_lines(tasks)]
    if any(run.arms for run in results) and any(task.retention for task in task_infos(results)):
        notes.append(
            Note(
                "TI, BWT: mean relative change from base on the trained tasks and on the others (see the retention "
                "table).",
                "change",
            )
        )
        left_out = [left_out_line(run, run.tasks, named=len(results) > 1) for run in results]
        notes += [Note(line, "change") for line in left_out if line]
    return notes


def left_out_line(run: RunResults, tasks: Sequence[TaskInfo], *, named: bool = False) -> str:
    """Which tasks have no relative change because the base scored 0; empty where there is none."""
    zero = [task.name for task in tasks if (base := run.base.get(task.name)) is not None and base.mean == 0]
    if not zero:
        return ""
    start = f"Run {run.run_id}: excluded" if named else "Excluded"
    return f"{start} from the mean relative change, because base scores 0: {', '.join(zero)}."


def _items(results: Sequence[RunResults], tasks: list[TaskInfo]) -> str:
    """n of every task and the seeds: once where all runs share them, else by run."""
    sizes = []
    for task in tasks:
        counts = [(run.run_id, one.n_items) for run in results for one in run.tasks if one.name == task.name]
        if len({n for _, n in counts}) == 1:
            sizes.append(f"{task.name} {task.n_items}")
        else:
            sizes.append(f"{task.name} {', '.join(f'{n} in {name}' for name, n in counts)}")
    seeds = [expected_seeds(run) for run in results]
    start = f"n: {', '.join(sizes)} test items"
    if all(one == seeds[0] for one in seeds):
        return f"{start}; {_seeds(seeds[0])}."
    by_run = "; ".join(f"{run.run_id}: {_seeds(one)}" for run, one in zip(results, seeds, strict=True))
    return f"{start}. {by_run}."


def _seeds(seeds: list[int]) -> str:
    if len(seeds) > 1:
        return f"{len(seeds)} seeds ({', '.join(map(str, seeds))})"
    return f"one seed ({seeds[0]}), seed variance unknown" if seeds else "no training"


def _spread(seeds: list[int]) -> str:
    """What ± and [..] are. ``seeds`` counts those of each run: a row's spread is over the seeds of its own run."""
    if max(seeds) < 2:
        return "[..]: 95 % interval over items."
    over = f"{max(seeds)} seeds" if len({count for count in seeds if count}) == 1 else "the seeds of the row's run"
    return f"±: standard deviation over {over}; [..]: 95 % interval over items."


def _intervals(tasks: list[TaskInfo], seeds: list[int]) -> str:
    unit = "Percent" if all(task.percent for task in tasks) else "Shares in percent"
    other = "" if all(task.percent for task in tasks) else ", bootstrap where it is not pass/fail"
    several = " Intervals and tests are over items with the seeds averaged inside each item." if max(seeds) > 1 else ""
    return f"{unit}. Intervals: Wilson for a score of one model{other}, Agresti-Min for a difference (Δ).{several}"


def power_line(tasks: Sequence[TaskInfo], tests: Tests, power: float = 0.8) -> str:
    """The smallest true difference that each task's tests detect after Holm's correction.

    The limit is that of Holm's first step, .05 / number of tests, which a method that alone differs has to meet.
    A task has a range where its tests differ in how many items changed and by how much.
    """
    alpha = 0.05 / len(tests)
    needed = changed_items_needed(alpha)
    parts = []
    for task, found in _by_task(tasks, tests):
        # Where nothing changed, the sizes seen in the task's other tests are the best guess.
        seen = tuple(sorted(size for one in found for size in one.sizes))
        each = {replace(one, sizes=one.sizes or seen) for one in found}
        least = [value for one in each if (value := detectable_difference(one, power, alpha)) is not None]
        if len(least) < len(each):
            parts.append(f"{task.name} cannot reach p < .05 ({found[0].n} items, {needed} must change)")
            continue
        ends = [f"{100 * end:.1f}" if task.percent else f"{end:.3g}" for end in (min(least), max(least))]
        span = ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"
        parts.append(f"{task.name} {span}{' points' if task.percent else ''}")
    corrected = ", corrected" if len(tests) > 1 else ""
    return f"Minimum detectable difference ({100 * power:.0f} % power{corrected}): {'; '.join(parts)}."


def power_notes(tasks: Sequence[TaskInfo], tests: Tests) -> list[str]:
    """What the minimum detectable difference rests on, and the smallest difference that can be significant at all."""
    alpha = 0.05 / len(tests)
    needed = changed_items_needed(alpha)
    floors = []
    for task, found in _by_task(tasks, tests):
        steps = {one.step for one in found if one.step is not None}
        values = [smallest_significant_difference(found[0].n, step, alpha) for step in steps]
        reached = [value for value in values if value is not None]
        if reached and task.percent:
            floors.append(f"{task.name} {100 * min(reached):.1f}")
    limit = f"p < .05 / {len(tests)}, the first step of Holm's correction" if len(tests) > 1 else "p < .05"
    lines = [
        f"The minimum detectable difference is for {limit}, at the observed rates of change (a range where methods "
        f"differ). At least {needed} items must change in the same direction. No mark does not mean no effect."
    ]
    if floors:
        lines.append(f"No observed difference below this many points can be significant: {', '.join(floors)}.")
    return lines


def _by_task(tasks: Sequence[TaskInfo], tests: Tests) -> list[tuple[TaskInfo, list[Changes]]]:
    found = [(task, [test.changes for (_, name), test in tests.items() if name == task.name]) for task in tasks]
    return [(task, changes) for task, changes in found if changes]


_SHORT = {"rows": "kept in each row, then by rows"}
"""What needs more words than its name in "Loss normalised by the number of target tokens: ..."."""


def training_lines(run: RunResults, *, named: bool) -> list[str]:
    """What the arms share and where they differ in their denominators."""
    about = "; ".join(part for part in (run.train.line, run.train.budget) if part)
    start = f"Run {run.run_id}: every" if named else "Every"
    lines = [f"{start} method has identical training settings: {about}."] if about else []
    if run.train.arms:
        each = "; ".join(f"{label}: {line}" for label, line in run.train.arms.items())
        lines = [
            f"{f'Run {run.run_id}: training' if named else 'Training'} settings differ, {run.train.budget}: {each}."
        ]
    lines += [
        f"{arm.label}: an adapter trained elsewhere ({arm.adapter.line}; sha256 {arm.adapter.sha256[:12]}), whose "
        "training data and budget are unknown here."
        for arm in run.arms
        if arm.adapter is not None
    ]
    kinds: dict[str, list[str]] = {}
    for arm in run.arms:
        if arm.denominator:
            kinds.setdefault(arm.denominator, []).append(arm.label)
    if len(kinds) <= 1 and "rows" not in kinds:
        lines += [f"Loss normalised by the number of {kind} target tokens." for kind in kinds]
    else:
        parts = "; ".join(f"{_SHORT.get(kind, kind)} ({', '.join(arms)})" for kind, arms in kinds.items())
        lines.append(f"Loss normalised by the number of target tokens: {parts}.")
    return lines


def comparable_lines(tasks: list[TaskInfo]) -> list[str]:
    """For every task whether its number is stock lm-eval's or our own variant."""
    lines = []
    for task in tasks:
        kind = "comparable with lm-eval" if task.comparable else "own variant, not comparable with lm-eval"
        why = f" ({task.note})" if task.note else ""
        lines.append(
            f"{task.name} v{task.version}: {task.metric}, filter {task.filter}, {task.num_fewshot}-shot, {kind}{why}."
        )
    return lines
