"""The command line's options for a run specification, generated from its dataclass: one text of help, one default."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from dasd_bench.cli.complete import OF_SETTINGS, preset_names
from dasd_bench.cli.shared import config_option, settings_option, store_option
from dasd_bench.config.spec import PRESETS, RunSpec, split_commas
from dasd_bench.errors import UsageError
from dasd_bench.files.text import shown
from dasd_bench.options import OptionRule, build_options, option_rules
from dasd_bench.results.directory import LONGEST_FOLDER, folder_name
from dasd_bench.run.options import LAUNCHERS, RayOptions, RunOptions, SkyOptions, SlurmOptions

F = TypeVar("F", bound=Callable[..., Any])


FOLDERS = {"plugins": "FOLDER", "train_files": "FILE.jsonl", "adapters": "[NAME=]FOLDER"}
"""Options that hold paths, which may contain commas, with what help calls their values."""


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
        settings_option(
            "Set a training, engine, thinking or method option: training.lr=1e-4, engine.max_num_seqs=8, "
            "dasd.rho=0.5, method.tau=0.9 for all methods that have it (see: dasd-bench show training)."
        ),
        click.option(
            "--targets",
            type=click.Path(path_type=Path),
            multiple=True,
            metavar="FILE.jsonl",
            help="Train on the targets and weights of a file, as a row of its own (method external).",
        ),
        config_option,
        click.option(
            "--preset",
            shell_complete=preset_names,
            help=f"Named settings: {', '.join(PRESETS)} (see: dasd-bench show run).",
        ),
    ):
        command = extra(command)
    return command


def spec_fields(*names: str) -> Callable[[F], F]:
    """Adds the options of some fields of :class:`RunSpec`, for commands that take a part of a specification."""
    rules = option_rules(RunSpec)
    defaults = {f.name: f.default for f in dataclasses.fields(RunSpec)}

    def decorate(command: F) -> F:
        for name in reversed(names):
            command = _option(name, rules[name], defaults[name])(command)
        return command

    return decorate


def _option(name: str, rule: OptionRule, default: object) -> Callable[[F], F]:
    flags = [*rule.flags, f"--{name.replace('_', '-')}"]
    shown = default_text(default)
    text = rule.help + (f"  [default: {shown}]" if shown else "")
    if isinstance(default, bool):
        return click.option(*flags, name, is_flag=True, default=None, help=text)
    complete = OF_SETTINGS.get(name)
    if isinstance(default, tuple):
        bare: dict[str, Any] = {} if rule.bare is None else {"is_flag": False, "flag_value": rule.bare}
        folders = name in FOLDERS
        return click.option(
            *flags,
            name,
            multiple=True,
            callback=None if folders else comma_separated,
            metavar=FOLDERS.get(name, "A,B,..."),
            help=text,
            shell_complete=complete,
            **bare,
        )
    return click.option(
        *flags,
        name,
        type=int if isinstance(default, int) else str,
        help=text,
        shell_complete=complete or partial(_choices, rule.choices),
    )


def _choices(
    choices: Sequence[str], _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    return [CompletionItem(choice) for choice in choices if choice.startswith(incomplete)]


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
            "--slurm",
            "slurm_settings",
            multiple=True,
            callback=comma_separated,
            help="Options of sbatch for --launcher slurm: partition=gpu,gpus_per_node=8,time=4:00:00.",
        ),
        click.option(
            "--skypilot",
            "sky_settings",
            multiple=True,
            callback=comma_separated,
            help="Machines of --launcher skypilot: num_nodes, accelerators (H100:8), infra, storage.",
        ),
        click.option(
            "--ray",
            "ray_settings",
            multiple=True,
            callback=comma_separated,
            help="Options of --launcher ray: address=HOST:PORT, and what one stage asks for: num_cpus, num_gpus, "
            "memory_gib.",
        ),
        click.option(
            "--launcher",
            type=click.Choice(LAUNCHERS),
            default="local",
            show_default=True,
            help="Where stages are computed: here, or on a cluster that shares the store's file system.",
        ),
        click.option(
            "--parallel",
            type=click.Choice(("data", "fsdp")),
            default="data",
            show_default=True,
            help="data: a full replica in each process; fsdp: the layers sharded among them.",
        ),
        click.option(
            "--split",
            type=click.IntRange(1),
            default=1,
            show_default=True,
            help="Units that each evaluation is split into with --launcher ray or slurm.",
        ),
        click.option(
            "--processes",
            type=click.IntRange(1),
            default=1,
            show_default=True,
            help="Processes that train, generate and score together, each with a GPU or a share of the cores.",
        ),
        store_option,
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


def name_adapter(given: dict[str, Any], name: str) -> None:
    """Gives the row of a run that only evaluates one unnamed adapter the run's name."""
    adapters = given.get("adapters", ())
    if len(adapters) == 1 and "=" not in adapters[0] and "methods" not in given:
        given["adapters"] = (f"{name}={adapters[0]}",)


def run_folder(output: Path | None, name: str | None) -> Path | None:
    """The run directory of ``--output`` or ``--name``; None for neither. Raises :class:`UsageError` for both."""
    if name is None:
        return output
    if output is not None:
        raise UsageError("--name and --output both say where the run goes; give one of them.")
    if folder_name(name) != name:
        raise UsageError(
            f"--name {shown(name)} is not a valid run name; use up to {LONGEST_FOLDER} letters, digits, dots, dashes "
            "and underscores, or give a path to --output."
        )
    return Path("runs") / name


def given_run_options(values: dict[str, Any], output: Path | None) -> RunOptions:
    """Takes the options of :func:`run_options` out of ``values``.

    Raises :class:`UsageError` for options of another launcher than the one that is asked for.
    """
    launcher = values["launcher"]
    for wanted, name in (("ray", "ray_settings"), ("slurm", "slurm_settings"), ("skypilot", "sky_settings")):
        if values[name] and launcher != wanted:
            raise UsageError(f"--{wanted} is for --launcher {wanted}, and this command has --launcher {launcher}.")
    if values["split"] > 1 and launcher not in ("ray", "slurm"):
        raise UsageError(f"--split is for --launcher ray or slurm, and this command has --launcher {launcher}.")
    return RunOptions(
        output=output,
        store=values.pop("store"),
        processes=values.pop("processes"),
        parallel=values.pop("parallel"),
        accept_licences=tuple(values.pop("accept_licence")),
        track=tuple(values.pop("track") or ()),
        launcher=values.pop("launcher"),
        split=values.pop("split"),
        ray=build_options(RayOptions, dict(pairs("--ray", values.pop("ray_settings"))), "option of --ray", ""),
        slurm=SlurmOptions(tuple(pairs("--slurm", values.pop("slurm_settings")))),
        sky=build_options(
            SkyOptions, dict(pairs("--skypilot", values.pop("sky_settings"))), "option of --skypilot", ""
        ),
    )


def pairs(flag: str, texts: Sequence[str] | None) -> list[tuple[str, str]]:
    """Names and values from texts such as ``time=60``; raises :class:`UsageError` for any other form."""
    found = []
    for text in texts or ():
        name, sign, value = text.partition("=")
        if not (sign and name and value):
            raise UsageError(f"{flag} {shown(text)}: give NAME=VALUE.")
        found.append((name, value))
    return found


def settings_rows(kind: type[Any]) -> Iterator[tuple[str, str, str, str]]:
    """Name, default, allowed values and help of every option of a dataclass, for ``show``."""
    for f in dataclasses.fields(kind):
        if "option" in f.metadata:
            rule: OptionRule = f.metadata["option"]
            yield f.name, default_text(f.default) or ("false" if f.default is False else "-"), rule.range, rule.help
