"""``dasd-bench list`` and ``dasd-bench show``: what there is, and one of it in full."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dasd_bench.cli.complete import SETTINGS, shown_names
from dasd_bench.cli.shared import json_option, plugins_option
from dasd_bench.console import Console
from dasd_bench.errors import unknown_name
from dasd_bench.files.shipped import named_methods, named_tasks, others_installed
from dasd_bench.results.directory import SPEC_FILE

if TYPE_CHECKING:
    from dasd_bench.methods.base import Method
    from dasd_bench.registry import Plugin, Registry
    from dasd_bench.tasks.base import Task


@click.group("list")
def list_group() -> None:
    """List methods, models, tasks or runs."""


@list_group.command("methods")
@plugins_option
@json_option
@click.option("--debug-plugins", is_flag=True, help="Show the tracebacks of broken plugins.")
def list_methods(plugins: tuple[Path, ...], json_events: bool, debug_plugins: bool) -> None:
    """List the methods."""
    console = Console(json_events=json_events)
    if not plugins and not others_installed():
        _print_names(console, [(one.name, one.summary, "shipped") for one in named_methods()])
        return
    registry = _registry(plugins)
    found = sorted(registry.methods.items())
    _print_names(console, [(name, plugin.item.summary, plugin.origin) for name, plugin in found])
    _broken(registry, console, debug_plugins)


@list_group.command("tasks")
@plugins_option
@json_option
@click.option("--debug-plugins", is_flag=True, help="Show the tracebacks of broken plugins.")
def list_tasks(plugins: tuple[Path, ...], json_events: bool, debug_plugins: bool) -> None:
    """List the tasks."""
    console = Console(json_events=json_events)
    if not plugins and not others_installed():
        _print_names(console, [(one.name, _task_text(one.summary, one.comparable), "shipped") for one in named_tasks()])
        return
    registry = _registry(plugins)
    found = sorted(registry.tasks.items())
    _print_names(
        console,
        [(name, _task_text(plugin.item.summary, plugin.item.comparable), plugin.origin) for name, plugin in found],
    )
    _broken(registry, console, debug_plugins)


def _task_text(summary: str, comparable: bool) -> str:
    return f"{summary}  [{'as in lm-eval' if comparable else 'own'}]"


def _print_names(console: Console, rows: Sequence[tuple[str, str, str]]) -> None:
    """Name, text and origin of each plugin."""
    width = max(len(name) for name, _, _ in rows)
    for name, text, origin in rows:
        where = "" if origin == "shipped" else f"  ({origin})"
        console.result(f"{name:<{width}}  {text}{where}", name=name, origin=origin)


def _registry(plugins: tuple[Path, ...]) -> Registry:
    from dasd_bench.registry import discover

    return discover(plugins)


@list_group.command("models")
@json_option
@click.pass_context
def list_models_command(context: click.Context, json_events: bool) -> None:
    """List the model aliases: base or instruct, size, licence, sources."""
    from dasd_bench.cli.models_cmd import list_models

    context.invoke(list_models, as_json=json_events)


@list_group.command("runs")
@click.argument("folder", type=click.Path(path_type=Path), default=Path("runs"))
@json_option
def list_runs_command(folder: Path, json_events: bool) -> None:
    """List the runs in FOLDER (default: runs)."""
    from dasd_bench.reporting.show import print_runs

    print_runs(Console(json_events=json_events), folder)


def _broken(registry: Registry, console: Console, with_traceback: bool) -> None:
    for broken in registry.broken:
        console.warn(f"Plugin {broken.origin} could not be loaded: {broken.error}")
        if with_traceback:
            console.say(broken.traceback)


@click.command()
@click.argument("name", shell_complete=shown_names)
@plugins_option
@json_option
def show(name: str, plugins: tuple[Path, ...], json_events: bool) -> None:
    """Show the method, task, model or run called NAME (a run by its folder).

    NAME may be run, training, engine, thinking or warmup: every setting with its default, range and meaning.
    """
    console = Console(json_events=json_events)
    if name in SETTINGS:
        _show_settings(name, console)
        return
    for folder in (Path(name), Path("runs") / name):
        if (folder / SPEC_FILE).is_file():
            from dasd_bench.reporting.show import show_run

            show_run(console, folder)
            return
    registry = _registry(plugins)
    if name in registry.methods:
        _show_method(registry.methods[name], console)
    elif name in registry.tasks:
        _show_task(registry.tasks[name], console)
    else:
        from dasd_bench.models.aliases import load_aliases

        aliases = load_aliases()
        if name not in aliases:
            raise unknown_name("method, task, model or run", name, [*registry.methods, *registry.tasks, *aliases])
        for f in dataclasses.fields(aliases[name]):
            console.result(f"{f.name}: {getattr(aliases[name], f.name)}")


def _show_settings(name: str, console: Console) -> None:
    from dasd_bench.cli.shared import show_table
    from dasd_bench.cli.spec_options import settings_rows
    from dasd_bench.config.spec import PRESETS, SECTIONS, RunSpec

    kinds: dict[str, type[Any]] = {"run": RunSpec, **SECTIONS}
    rows = list(settings_rows(kinds[name]))
    how = "as an option or in a file" if name == "run" else f"with --set {name}.NAME=VALUE or in a file"
    console.result(f"Settings of {name}, {how}:")
    show_table(console, ("name", "default", "allowed", "meaning"), rows)
    if name == "run":
        for preset, values in PRESETS.items():
            console.result(f"preset {preset}: {json.dumps(values)}")


def _show_method(plugin: Plugin[type[Method]], console: Console) -> None:
    from dasd_bench.methods.base import build_method, has_token_loss
    from dasd_bench.options import option_rules

    method = plugin.item
    console.result(f"{method.name}: {method.summary}")
    if method.paper:
        console.result(f"paper: {method.paper}")
    parts = [f"divided by {'rows' if method.denominator == 'rows' else f'{method.denominator} tokens'}"]
    if has_token_loss(method):
        parts.insert(0, "its own, on the live logits")
    if method.online:
        parts.append(f"weights from the live model{', over the whole batch' if method.scope == 'batch' else ''}")
    if method.teacher != "none":
        parts.append(f"teacher: {method.teacher}")
    if method.rollouts:
        parts.append("targets drawn from the live model at every step")
    console.result(f"loss: {'; '.join(parts)}")
    console.result(f"from: {plugin.origin}, {plugin.path.name}")
    defaults = dataclasses.asdict(build_method(method, {}))
    for name, rule in option_rules(method).items():
        choices = f" One of: {', '.join(rule.choices)}." if rule.choices else ""
        console.result(f"  {name} = {defaults[name]}  {rule.help}{choices}")


def _show_task(plugin: Plugin[Task], console: Console) -> None:
    task = plugin.item
    console.result(f"{task.name} (version {task.version}): {task.summary}")
    kind = f"lm-eval's own '{task.stock}'" if task.stock else f"own YAML {task.yaml}"
    console.result(f"prompt and scoring: {kind}; metric {task.metric}, filter {task.filter}")
    console.result(f"comparable with stock lm-eval: {'yes' if task.comparable else 'no'}")
    hub = f"{task.data.hub_path} {task.data.hub_name or ''}".strip() if task.data.hub_path else "built in"
    if task.reference_styles:
        console.result(f"reference styles: {', '.join(task.reference_styles)}")
    console.result(f"data: folder {task.data.folder}, hub {hub}, splits {', '.join(task.data.splits)}")
