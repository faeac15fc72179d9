"""``dasd-bench export``: a run's adapters with a model card, ready for the hub, or its targets as JSON lines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dasd_bench.cli.complete import run_names
from dasd_bench.cli.shared import console_of, runs_dir_option
from dasd_bench.errors import UsageError

if TYPE_CHECKING:
    from dasd_bench.reporting.card import HubNames
    from dasd_bench.results.schema import RunResults


@click.command("export")
@click.argument("run", shell_complete=run_names, required=False)
@click.option(
    "--to", "form", type=click.Choice(("hf-card", "jsonl")), default="hf-card", show_default=True, help="What to write."
)
@click.option("--row", help="Only the adapters of this row (see: dasd-bench table RUN) [default: all].")
@click.option("--seed", type=int, help="Only this seed's adapters [default: all].")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write to; the adapter is copied too [default: the card is written next to each adapter].",
)
@runs_dir_option
@click.pass_context
def export_command(
    context: click.Context,
    run: str | None,
    form: str,
    row: str | None,
    seed: int | None,
    output: Path | None,
    runs_dir: Path,
) -> None:
    """Write a model card (README.md) for the adapters of RUN: hub metadata, scores, table, command, limits.

    With --to jsonl: write the training targets of RUN with their weights, which `run --targets FILE` trains on again.

    With --output the adapter is copied as well and names its base model by hub id, so the folder is ready to upload.
    """
    from dasd_bench.reporting.card import adapters, export_cards
    from dasd_bench.reporting.plots.source import Source
    from dasd_bench.results.runs import find_run, load_run, newest_run

    if form == "jsonl" and output is not None and output.suffix == ".jsonl":
        raise UsageError(f"--output {output} must be a folder: it receives one file per row and seed.")
    console = console_of(context)
    path = find_run(run, runs_dir) if run else newest_run(runs_dir)
    source = Source(path, load_run(path))
    if source.results.status == "partial":
        console.warn(f"Run {source.results.run_id} is partial; its cards say so.")
    if form == "jsonl":
        from dasd_bench.results.target_export import export_targets

        for file in export_targets(path, source.results, row, seed, output):
            console.result(f"Wrote {file}", path=str(file))
        return
    for folder in export_cards(source, adapters(source, row, seed), hub_names(source.results), output):
        console.result(f"Wrote {folder / 'README.md'}", path=str(folder))


def hub_names(results: RunResults) -> HubNames:
    """The hub's names of the model and the tasks' data sets, as far as the model table and the tasks know them."""
    from dasd_bench.models.aliases import load_aliases
    from dasd_bench.registry import discover
    from dasd_bench.reporting.card import HubNames

    aliases = load_aliases()
    model = aliases[results.model].hub_id if results.model in aliases else None
    if model is None and results.model.count("/") == 1 and not Path(results.model).exists():
        model = results.model
    known = discover(()).tasks
    names = [task.name for task in results.tasks if task.name in known]
    paths = {name: getattr(known[name].item.data, "hub_path", None) for name in names}
    return HubNames(model, {name: hub for name, hub in paths.items() if hub})
