"""The command line's options for a run specification, generated from its dataclass: one text of help, one default."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from dasd_bench.config.spec import PRESETS, RunSpec, split_commas
from dasd_bench.errors import UsageError
from dasd_bench.files.text import shown
from dasd_bench.options import OptionRule, option_rules
from dasd_bench.run.options import RunOptions

F = TypeVar("F", bound=Callable[..., Any])


def comma_separated(_ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> list[str] | None:
    """The parts of a repeatable, comma-separated option; None where it was not given."""
    parts = [part for text in value for part in split_commas(text)]
    if value and not parts:
        raise click.BadParameter("it is empty; name at least one, or omit the option.")
    return parts or None


def default_text(value: object) -> str:
    """A default as help shows it; empty for none."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "" if value is None or value is False else str(value)


def spec_options(command: F) -> F:
    """Adds an option for every field of :class:`RunSpec`, and those that say where a specification comes from."""
    rules = option_rules(RunSpec)
    defaults = {f.name: f.default for f in dataclasses.fields(RunSpec)}
    for name, rule in reversed(rules.items()):
        command = _option(name, rule, defaults[name])(command)
    for extra in (
        click.option("--engine", "backend", help="hf (this project's engine) or vllm (extra [vllm])  [default: hf]"),
        click.option(
            "--warmup",
            multiple=True,
            callback=comma_separated,
            metavar="A,B,...",
            help="Tasks to tune the model on first; all methods start from the result (see: dasd-bench show warmup).",
        ),
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="SECTION.NAME=VALUE",
            help="Set a training, engine, thinking or method option: training.lr=1e-4, engine.max_num_seqs=8, "
            "dasd.tau=0.9, method.tau=0.9 for all methods that have it (see: dasd-bench show training).",
        ),
        click.option(
            "--targets",
            type=click.Path(path_type=Path),
            multiple=True,
            metavar="FILE.jsonl",
            help="Train on the targets and weights of a file, as a row of its own (method external).",
        ),
        click.option(
            "-c", "--config", type=click.Path(path_type=Path), help="YAML file, overridden by the command line."
        ),
        click.option("--preset", help=f"Named settings: {', '.join(PRESETS)} (see: dasd-bench show run)."),
    ):
        command = extra(command)
    return command


def _option(name: str, rule: OptionRule, default: object) -> Callable[[F], F]:
    flags = [*rule.flags, f"--{name.replace('_', '-')}"]
    shown = default_text(default)
    text = rule.help + (f"  [default: {shown}]" if shown else "")
    if isinstance(default, bool):
        return click.option(*flags, name, is_flag=True, default=None, help=text)
    if isinstance(default, tuple):
        bare: dict[str, Any] = {} if rule.bare is None else {"is_flag": False, "flag_value": rule.bare}
        folders = name == "plugins"
        return click.option(
            *flags,
            name,
            multiple=True,
            callback=None if folders else comma_separated,
            metavar="FOLDER" if folders else "A,B,...",
            help=text,
            **bare,
        )
    return click.option(*flags, name, type=int if isinstance(default, int) else str, help=text)


def run_options(command: F) -> F:
    """Adds the options of :class:`RunOptions`, but for the output folder."""
    for extra in (
        click.option("--accept-licence", multiple=True, help="Accept a model's terms, for instance gemma."),
        click.option(
            "--track",
            multiple=True,
            callback=comma_separated,
            help="Send finished arms to tensorboard, mlflow, wandb or trackio.",
        ),
        click.option(
            "--parallel",
            type=click.Choice(("data", "fsdp")),
            default="data",
            show_default=True,
            help="data: a full replica in each process; fsdp: the layers sharded among them.",
        ),
        click.option(
            "--processes", type=click.IntRange(1), default=1, show_default=True, help="Number of training processes."
        ),
        click.option(
            "--store",
            type=click.Path(path_type=Path),
            help="Folder for stored results  [default: in the user's cache]",
        ),
    ):
        command = extra(command)
    return command


def given_spec(values: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Takes the options of :func:`spec_options` out of ``values``: those given by name, and the settings."""
    options = {name: values.pop(name) for name in option_rules(RunSpec)}
    settings = values.pop("settings")
    files = values.pop("targets")
    warmup = values.pop("warmup")
    if warmup:
        settings = (f"warmup.tasks={','.join(warmup)}", *settings)
    if files:
        options["methods"] = (*(options["methods"] or ()), *map(external_arm, files))
    backend = values.pop("backend")
    if backend is not None:
        settings = (*settings, f"engine.backend={backend}")
    return {name: value for name, value in options.items() if value not in (None, ())}, settings


def external_arm(file: Path) -> str:
    """The arm that trains on a file of targets. Raises :class:`UsageError` for a name that an arm cannot hold."""
    if any(sign in str(file) for sign in "+*"):
        raise UsageError(f"--targets {shown(str(file))}: rename the file; an arm's options cannot hold + or *.")
    return f"external+file={file}"


def given_run_options(values: dict[str, Any], output: Path | None) -> RunOptions:
    """Takes the options of :func:`run_options` out of ``values``."""
    return RunOptions(
        output=output,
        store=values.pop("store"),
        processes=values.pop("processes"),
        parallel=values.pop("parallel"),
        accept_licences=tuple(values.pop("accept_licence")),
        track=tuple(values.pop("track") or ()),
    )


def settings_rows(kind: type[Any]) -> Iterator[tuple[str, str, str, str]]:
    """Name, default, allowed values and help of every option of a dataclass, for ``show``."""
    for f in dataclasses.fields(kind):
        if "option" in f.metadata:
            rule: OptionRule = f.metadata["option"]
            yield f.name, default_text(f.default) or ("false" if f.default is False else "-"), rule.range, rule.help
