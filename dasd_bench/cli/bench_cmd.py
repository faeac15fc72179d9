"""``dasd-bench bench``: this project against what its users would otherwise run, on the same work in one session."""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

import click

from dasd_bench.cli.shared import console_of, show_table
from dasd_bench.console import Console
from dasd_bench.errors import DasdError, unknown_name
from dasd_bench.files.shipped import shipped_folder

HEADER = ("benchmark", "dtype", "peer", "ours", "unit", "ratio", "limit share", "max abs diff", "identical")


@click.command("bench")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--dtype", type=click.Choice(("fp32", "bf16")), default="fp32", show_default=True)
@click.option("--data-dir", envvar="DASD_DATA_DIR", help="Folder with real rows; default: generated rows.")
@click.option(
    "--runs", type=click.IntRange(1), default=3, show_default=True, help="Runs per side; the medians are shown."
)
@click.option("--limit", type=click.IntRange(1), help="Number of rows, prompts or documents.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line of the table, as each is measured.")
@click.pass_context
def bench(
    context: click.Context,
    names: tuple[str, ...],
    dtype: str,
    data_dir: str | None,
    runs: int,
    limit: int | None,
    as_json: bool,
) -> None:
    """Run speed benchmarks: figures of the peer and of this project, their ratio, and the share of the machine's limit.

    NAME is one of dual-decode, generate, arc, arc-prefix, fixed-shots, score, train, exec; without names all run.
    Use an idle machine: a second busy process distorts both sides.
    """
    console = console_of(context)
    known = benchmarks()
    for name in names:
        if name not in known:
            raise unknown_name("benchmark", name, known)
    rows = []
    for name in names or known:
        if not as_json:
            console.say(f"{name}: {known[name].summary}, {dtype}, {runs} runs per side ...")
        try:
            lines = known[name].run(dtype, data_dir, runs, limit)
        except ModuleNotFoundError as error:
            say_missing(console, name, error, as_json)
            continue
        for line in lines:
            rows.append(line)
            if as_json:
                sys.stdout.write(json.dumps(line) + "\n")
                sys.stdout.flush()
    if not as_json and rows:
        show_table(console, HEADER, [cells(line) for line in rows])
    if not rows:
        raise DasdError("No benchmark could be run.")


def benchmarks() -> dict[str, Any]:
    """The catalog of the shipped ``benchmarks/`` folder, which is no part of the package."""
    folder = shipped_folder("benchmarks")
    if not (folder / "catalog.py").is_file():
        raise DasdError(f"The folder {folder} with the benchmarks does not exist; reinstall dasd-bench.")
    if str(folder.parent) not in sys.path:
        sys.path.insert(0, str(folder.parent))
    catalog: dict[str, Any] = importlib.import_module("benchmarks.catalog").BENCHMARKS
    return catalog


def say_missing(console: Console, name: str, error: ModuleNotFoundError, as_json: bool) -> None:
    """A peer that is not installed: the benchmark is left out, with what to install."""
    package = str(error.name).partition(".")[0]
    text = f"{name} needs {package}, which is not installed: pip install -c constraints.txt {package}"
    if as_json:
        sys.stderr.write(text + "\n")
    else:
        console.warn(text)


def cells(line: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table as text; what was not measured as a dash."""
    keys = ("name", "dtype", "peer", "ours", "unit", "ratio", "limit_share", "max_abs_diff", "identical")
    shown = {
        **line,
        "peer": f"{line['peer']} ({line['peer_name']})" if "peer_name" in line else line["peer"],
        "ratio": f"{line['ratio']:.2f}x",
        "limit_share": None if line["limit_share"] is None else f"{line['limit_share']:.0%}",
    }
    return tuple("-" if shown[key] is None else str(shown[key]) for key in keys)
