"""Captions: what a reader must know to read the numbers, and what numbers of this size cannot show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dasd_bench.reporting.collect import expected_seeds, task_infos
from dasd_bench.reporting.format import listing
from dasd_bench.reporting.results import RunResults, TaskInfo
from dasd_bench.stats.paired import Changes, Paired
from dasd_bench.stats.power import changed_items_needed, detectable_difference, smallest_significant_difference

Tests = Mapping[tuple[int, str], Paired]


def score_caption(results: Sequence[RunResults], tests: Tests, baseline: str) -> list[str]:
    """The sentences under the main table."""
    tasks = [task for task in task_infos(results) if not task.retention]
    lines = [_items(results, tasks), _errors(tasks, [len(expected_seeds(run)) for run in results])]
    if tests:
        kinds = listing(sorted({test.test for test in tests.values()}))
        corrected = f"over the {len(tests)} tests of this table" if len(tests) > 1 else "(one test)"
        lines.append(
            f"vs {baseline}: items won/lost and p by {kinds}; "
            f"* p < .05, ** p < .01 after Holm's correction {corrected}."
        )
        lines.append(power_line(tasks, tests))
    for run in results:
        lines += training_lines(run, named=len(results) > 1)
    lines += comparable_lines(tasks)
    if any(run.arms for run in results) and any(task.retention for task in task_infos(results)):
        lines.append(
            "TI, BWT: mean relative change to base on the trained tasks and on the others (see the retention table)."
        )
        lines += [line for run in results if (line := left_out_line(run, run.tasks, named=len(results) > 1))]
    return lines


def left_out_line(run: RunResults, tasks: Sequence[TaskInfo], *, named: bool = False) -> str:
    """Which tasks have no relative change because the untrained model got nothing right; empty where there is none."""
    zero = [task.name for task in tasks if (base := run.base.get(task.name)) is not None and base.mean == 0]
    if not zero:
        return ""
    start = f"Run {run.run_id}: left" if named else "Left"
    return f"{start} out of the mean relative change, base being at 0: {', '.join(zero)}."


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
    return f"one seed ({seeds[0]}), so nothing is known about the spread between seeds" if seeds else "no training"


def _errors(tasks: list[TaskInfo], seeds: list[int]) -> str:
    """What ± and [..] are. ``seeds`` counts those of each run: a row's spread is over the seeds of its own run."""
    unit = "Percent" if all(task.percent for task in tasks) else "Shares in percent"
    if max(seeds) > 1:
        counts = {count for count in seeds if count}
        over = f"{max(seeds)} seeds" if len(counts) == 1 else "the seeds of the row's run"
        rows = "base" if len(counts) == 1 else "base and rows of one seed"
        return (
            f"{unit}; ± is the standard deviation over {over}; [..] is the 95 % interval over items (Wilson for "
            f"{rows}, Agresti-Min for Δ). Intervals and tests are over items, for the seeds that were trained."
        )
    other = "" if all(task.percent for task in tasks) else " (bootstrap where it is not pass/fail)"
    return f"{unit} with 95 % intervals over items: Wilson for a score{other}, Agresti-Min for Δ."


def power_line(tasks: Sequence[TaskInfo], tests: Tests, power: float = 0.8) -> str:
    """The smallest true difference that each task's tests detect after Holm's correction, and the least that can count.

    The limit is that of Holm's first step, .05 / number of tests, which a method that alone differs has to meet.
    A task has a range where its tests differ in how many items changed and by how much.
    """
    alpha = 0.05 / len(tests)
    needed = changed_items_needed(alpha)
    parts = []
    for task in tasks:
        found = [test.changes for (_, name), test in tests.items() if name == task.name]
        if not found:
            continue
        # Where nothing changed, the sizes seen in the task's other tests are the best guess.
        seen = tuple(sorted(size for one in found for size in one.sizes))
        each = {replace(one, sizes=one.sizes or seen) for one in found}
        least = [value for one in each if (value := detectable_difference(one, power, alpha)) is not None]
        if len(least) < len(each):
            parts.append(f"{task.name} cannot reach p < .05 ({found[0].n} items, {needed} must change)")
            continue
        ends = [f"{100 * end:.1f}" if task.percent else f"{end:.3g}" for end in (min(least), max(least))]
        span = ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"
        parts.append(f"{task.name} {span}{' points' if task.percent else ''}{_floor(task, found, alpha)}")
    tested = f"p < .05 after Holm's correction for {len(tests)} tests" if len(tests) > 1 else "p < .05"
    return (
        f"Minimum detectable difference ({100 * power:.0f} % power, {tested}): {'; '.join(parts)}. "
        f"At least {needed} items must change in the same direction."
    )


def _floor(task: TaskInfo, found: Sequence[Changes], alpha: float) -> str:
    """The smallest observed difference of pass/fail scores that can be significant."""
    steps = {one.step for one in found}
    least = [smallest_significant_difference(found[0].n, step, alpha) for step in steps if step is not None]
    reached = [value for value in least if value is not None]
    if not reached:
        return ""
    return f" (no observed difference below {100 * min(reached):.1f} is significant)" if task.percent else ""


def training_lines(run: RunResults, *, named: bool) -> list[str]:
    """What the arms share and where they differ in their denominators."""
    about = "; ".join(part for part in (run.train.line, run.train.budget) if part)
    start = f"Run {run.run_id}: every" if named else "Every"
    lines = [f"{start} method trained alike: {about}."] if about else []
    if run.train.arms:
        each = "; ".join(f"{label}: {line}" for label, line in run.train.arms.items())
        lines = [
            f"{f'Run {run.run_id}: methods' if named else 'Methods'} not trained alike, {run.train.budget}: {each}."
        ]
    kinds: dict[str, list[str]] = {}
    for arm in run.arms:
        if arm.denominator:
            kinds.setdefault(arm.denominator, []).append(arm.label)
    if len(kinds) == 1:
        lines.append(f"Loss divided by {next(iter(kinds))} target tokens.")
    elif kinds:
        parts = "; ".join(f"{kind} ({', '.join(arms)})" for kind, arms in kinds.items())
        lines.append(f"Loss divided by target tokens, {parts}.")
    return lines


def comparable_lines(tasks: list[TaskInfo]) -> list[str]:
    """For every task whether its number is stock lm-eval's or our own variant."""
    lines = []
    for task in tasks:
        kind = "comparable with stock lm-eval" if task.comparable else "our own variant, not a stock lm-eval number"
        why = f" ({task.note})" if task.note else ""
        lines.append(
            f"{task.name} v{task.version}: {task.metric}, filter {task.filter}, {task.num_fewshot}-shot, {kind}{why}."
        )
    return lines
