"""``dasd-bench models``: ``list`` and ``fetch``."""

from __future__ import annotations

import json

import click

from dasd_bench.cli.complete import model_names
from dasd_bench.cli.shared import console_of, show_table
from dasd_bench.console import Console

accept_licence_option = click.option(
    "--accept-licence",
    "accept_licences",
    multiple=True,
    metavar="NAME",
    help="Accept the terms of a model that requires it (gemma); or set DASD_ACCEPT_LICENCE.",
)


@click.group("models")
def models_group() -> None:
    """List model aliases and download models before a run."""


@models_group.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@click.pass_context
def list_models(context: click.Context, as_json: bool) -> None:
    """List the model aliases with family, size, kind, licence and source."""
    if as_json:
        from dasd_bench.models.resolve import alias_rows

        click.echo(json.dumps(alias_rows(), indent=2))
    else:
        print_models(console_of(context))


def print_models(console: Console) -> None:
    """The alias table for a person, or one event a model where the console speaks JSON."""
    from dasd_bench.models.resolve import alias_rows

    rows = alias_rows()
    if console.json_events:
        for row in rows:
            console.result(row["name"], model=row)
        return
    header = ("name", "family", "size", "kind", "licence", "on disk", "source")
    cells = [
        (
            row["name"],
            row["family"],
            f"{row['parameters_billion']:g}B" if row["parameters_billion"] else "?",
            row["kind"],
            row["licence"],
            "yes" if row["on_disk"] else "no",
            row["path"] or " ".join(filter(None, [row["hub_id"], "(or a wheel)" if row["wheels"] else ""])),
        )
        for row in rows
    ]
    show_table(console, header, cells)
    console.result("A local folder, a .gguf file or a hub id (owner/name) also works as --model.")


@models_group.command("fetch")
@click.argument("names", shell_complete=model_names, nargs=-1, required=True, metavar="NAME...")
@accept_licence_option
@click.option("--offline", is_flag=True, help="Never contact the hub; the package index is still used.")
@click.option("--json", "as_json", is_flag=True, help="Emit JSON Lines events.")
@click.pass_context
def fetch_models(
    context: click.Context, names: tuple[str, ...], accept_licences: tuple[str, ...], offline: bool, as_json: bool
) -> None:
    """Download and verify models and print their folders."""
    from dasd_bench.models.resolve import resolve_model

    console = console_of(context, as_json)
    for name in names:
        model = resolve_model(name, offline=offline, console=console, accept_licences=accept_licences)
        console.result(
            f"{name}: {model.path} ({model.kind}, {model.licence}, {model.dtype}, sha256 {model.sha256[:16]})",
            name=name,
            path=str(model.path),
            sha256=model.sha256,
            model_kind=model.kind,
            licence=model.licence,
            dtype=model.dtype,
            source=model.source,
        )
