"""Hooks of mkdocs: the reference pages, made from the code at every build, and what Sphinx's roles become in HTML."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from dasd_bench import api
from dasd_bench.cli.main import COMMANDS, cli
from dasd_bench.cli.spec_options import settings_rows
from dasd_bench.config.spec import SECTIONS, RunSpec
from dasd_bench.registry import discover
from dasd_bench.run.options import RayOptions, SkyOptions

ROLE = re.compile(r":(?:class|func|mod|meth|data|attr):<code>[~]?([^<]*)</code>")
COMMENT = re.compile(r"<!-- (?:not run|file): .*? -->\n?")

OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./(?!running\.md)([^)#]+)(?:#[^)]*)?\)")

API = """\
# Python API

Plugins and notebooks import everything from `dasd_bench.api`; importing it loads no torch. `docs/notebook.py` in the
repository is a commented example that runs.

## Runs

::: dasd_bench.api
    options:
      show_root_heading: false
      show_root_toc_entry: false
      heading_level: 3
      members: [{runs}]

## Plugins

::: dasd_bench.api
    options:
      show_root_heading: false
      show_root_toc_entry: false
      show_docstring_description: false
      heading_level: 3
      members: [{rest}]
"""

RUNS = ["make_spec", "plan", "run", "evaluate", "sweep", "load_results", "RunSpec", "RunOptions", "RunResults"]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages of the reference."""
    rest = [name for name in api.__all__ if name not in RUNS]
    python = API.format(runs=", ".join(RUNS), rest=", ".join(rest))
    for name, text in (("command-line", command_line()), ("settings", settings()), ("api", python)):
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leaves out the comments that tell the tests which blocks to run, and links to files beyond the pages."""
    return OUTSIDE.sub(r"\1 (`\2` in the repository)", COMMENT.sub("", markdown))


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Docstrings refer to code in Sphinx's way: the name stays."""
    return ROLE.sub(r"<code>\1</code>", html)


def command_line() -> str:
    """The help of every command, as ``--help`` prints it."""
    parts = ["# Command line", f"```text\n{help_of(cli, 'dasd-bench', None)}\n```"]
    context = click.Context(cli, info_name="dasd-bench")
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        parts += sections(command, f"dasd-bench {name}", context)
    return "\n\n".join(parts) + "\n"


def sections(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    """A command's heading and help, then those of its subcommands."""
    yield f"## {name}"
    yield f"```text\n{help_of(command, name, parent)}\n```"
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=name.split()[-1], parent=parent)
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            assert found is not None
            yield from sections(found, f"{name} {inner}", context)


def help_of(command: click.Command, name: str, parent: click.Context | None) -> str:
    """The help text at 100 columns."""
    settings = {"terminal_width": 100, "max_content_width": 100}
    return command.get_help(click.Context(command, info_name=name.split()[-1], parent=parent, **settings))


def settings() -> str:
    """Every option of a run, of its sections, of the launchers and of the methods, with defaults."""
    parts = [
        "# Settings",
        "How they are set, and which source wins: [Settings](../running.md#settings).",
        *table("Run", "`--NAME VALUE` on the command line (with dashes), `NAME: VALUE` in the YAML file.", RunSpec),
        *(line for name, kind in SECTIONS.items() for line in section(name, kind)),
        *table("Ray", "`--ray NAME=VALUE`", RayOptions),
        *table("SkyPilot", "`--skypilot NAME=VALUE`", SkyOptions),
        "## Methods",
        "`--set METHOD.NAME=VALUE`, or `--method METHOD+NAME=VALUE` for a row of its own.",
    ]
    for name, plugin in sorted(discover(()).methods.items()):
        parts += table(name, plugin.item.summary, plugin.item, level=3)
    return "\n\n".join(parts) + "\n"


def section(name: str, kind: type[Any]) -> list[str]:
    """The options of one section of a specification."""
    return table(name.capitalize(), f"`--set {name}.NAME=VALUE`", kind)


def table(title: str, how: str, kind: type[Any], level: int = 2) -> list[str]:
    """Heading, sentence and table of the options of a dataclass."""
    assert dataclasses.is_dataclass(kind)
    rows = list(settings_rows(kind))
    found = [f"{'#' * level} {title}", how]
    if rows:
        lines = ["| name | default | values | meaning |", "| --- | --- | --- | --- |"]
        for name, default, values, text in rows:
            lines.append(f"| `{name}` | {code(default)} | {escaped(values)} | {escaped(text)} |")
        found.append("\n".join(lines))
    return found


def code(text: str) -> str:
    """A default as code; the dash that stands for none as it is."""
    return text if text == "-" else f"`{text}`".replace("|", "\\|")


def escaped(text: str) -> str:
    """Text that can stand in a cell."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")
