"""``dasd-bench samples``: the answers of a run, read in the terminal."""

from __future__ import annotations

from pathlib import Path

import click

from dasd_bench.cli.complete import run_names
from dasd_bench.cli.shared import runs_dir_option
from dasd_bench.console import Console


def _parts(values: tuple[str, ...]) -> list[str]:
    return [part.strip() for text in values for part in text.split(",") if part.strip()]


@click.command("samples")
@click.argument("run", shell_complete=run_names, required=False)
@click.option("-t", "--task", "--tasks", "tasks", multiple=True, help="Only these tasks.")
@click.option(
    "--reason",
    "reasons",
    multiple=True,
    help="correct, wrong, no_answer, truncated, timeout or infrastructure_error.",
)
@click.option("--method", "--methods", "methods", multiple=True, help="Only these rows of the table, including base.")
@click.option("--seed", "--seeds", "seeds", multiple=True, type=int, help="Only these seeds.")
@click.option("--item", default="", help="One item: its id (gsm8k/test/7) or the number at its end.")
@click.option(
    "-L", "--limit", default=20, show_default=True, type=click.IntRange(0), help="Records to show; 0 for all."
)
@click.option("--full", is_flag=True, help="Show whole prompts, including few-shot examples.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@runs_dir_option
def samples_command(
    run: str | None,
    tasks: tuple[str, ...],
    reasons: tuple[str, ...],
    methods: tuple[str, ...],
    seeds: tuple[int, ...],
    item: str,
    limit: int,
    full: bool,
    as_json: bool,
    runs_dir: Path,
) -> None:
    """Show prompts, completions and verdicts of RUN (default: the newest run).

    Panels on a terminal, plain text when piped.
    """
    from dasd_bench.reporting.browse import Query, pick, show
    from dasd_bench.results.runs import find_run, newest_run

    folder = find_run(run, runs_dir) if run else newest_run(runs_dir)
    reasons_asked = [name.replace("-", "_").replace(" ", "_") for name in _parts(reasons)]
    query = Query(_parts(tasks), reasons_asked, _parts(methods), list(seeds), item)
    show(Console(), pick(folder, query), limit, as_json=as_json, whole=full)
