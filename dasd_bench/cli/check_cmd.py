"""``dasd-bench check``: a run against a published result."""

from __future__ import annotations

from pathlib import Path

import click

from dasd_bench.cli.shared import json_option, runs_dir_option
from dasd_bench.console import Console


@click.command("check")
@click.argument("run")
@click.option("--against", required=True, metavar="NAME", help="A name in results/replications, or a YAML file.")
@json_option
@runs_dir_option
def check_command(run: str, against: str, json_events: bool, runs_dir: Path) -> int:
    """Check RUN against a published result: expected difference, seen difference, interval, verdict by claim.

    Exit code 0 if every claim passes, 1 if one fails or could not be tested. The run itself is made with
    'dasd-bench run -c results/replications/NAME.yaml'.
    """
    from dasd_bench.config.spec import read_file, resolve
    from dasd_bench.reporting.replication import check, check_table, deviations, find_replication, read_replication
    from dasd_bench.reporting.show import print_tables
    from dasd_bench.results.directory import RunDirectory
    from dasd_bench.results.runs import find_run, load_run

    console = Console(json_events=json_events)
    replication = read_replication(find_replication(against))
    folder = find_run(run, runs_dir)
    findings = check(load_run(folder), replication)
    spec = RunDirectory(folder).spec
    if not spec.is_file():
        console.warn(f"{folder} has no {spec.name}, so its settings cannot be compared with the replication's.")
    elif differences := deviations(resolve(read_file(spec)), replication):
        console.warn(f"This run departs from the replication, so no verdict is about it: {'; '.join(differences)}.")
    print_tables(console, [check_table(replication, findings)], notes=True)
    passed = sum(one.passed for one in findings)
    whole = passed == len(findings)
    console.result(
        f"{replication.name}: {'pass' if whole else 'fail'} ({passed} of {len(findings)} claims)", passed=whole
    )
    return 0 if whole else 1
