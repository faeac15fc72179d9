"""``dasd-bench run``: from a model and methods to a table."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from dasd_bench.config.spec import PRESETS, RunSpec, arms, layer, parse_set, read_file, resolve, split_commas, to_yaml
from dasd_bench.console import Console
from dasd_bench.errors import UsageError, unknown_name
from dasd_bench.registry import Registry, discover
from dasd_bench.store.atomic import digest

PAPER_TASKS = ("math", "gsm8k", "mbpp", "arc_challenge")
BUILTIN_TASKS = ("mini_gsm", "mini_math", "mini_arc")


def _commas(_ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> list[str] | None:
    return [part for text in value for part in split_commas(text)] or None


@click.command()
@click.option("-m", "--model", help="Alias, local folder, GGUF file or hub id (see: dasd-bench list models).")
@click.option(
    "--method",
    "--methods",
    "methods",
    multiple=True,
    callback=_commas,
    help='Methods, comma-separated or repeated; options as dasd+tau=0.7, with commas "x+NAME=A,B". '
    "base: the model as it is, nothing trained.",
)
@click.option("-t", "--tasks", "--task", multiple=True, callback=_commas, help="Tasks to evaluate on.")
@click.option("--train-tasks", multiple=True, callback=_commas, help="Tasks to train on [default: those of --tasks].")
@click.option("--preset", help=f"Named settings: {', '.join(PRESETS)}.")
@click.option("-c", "--config", type=click.Path(path_type=Path), help="YAML file; the command line wins over it.")
@click.option(
    "--set", "settings", multiple=True, help="method.tau=0.9, dasd.rule=..., training.lr=1e-4, engine.slots=8."
)
@click.option("--train-limit", type=int, help="Training rows per task; 0 for all.")
@click.option("-L", "--limit", type=int, help="Evaluated rows per task; 0 for all.")
@click.option("--seeds", "--seed", multiple=True, callback=_commas, help="Seeds, comma-separated.")
@click.option(
    "-f",
    "--num-fewshot",
    type=int,
    help="Few-shot examples; -1 keeps each task's own. --tasks NAME@K sets it for one task.",
)
@click.option("--chat-template", help="auto, plain or off.")
@click.option("--budget", help="equal: one training for all methods; card: as each method's authors trained it.")
@click.option("--validation", type=int, help="Evaluate on so many held-back rows of each train split, not on test.")
@click.option("--max-new-tokens", type=int, help="Token budget of generated targets; 0 keeps each task's own.")
@click.option("--dtype", help="auto, fp32 or bf16.")
@click.option("--device", help="auto, cpu or cuda.")
@click.option(
    "--engine", "backend", type=click.Choice(("hf", "vllm")), help="hf, our own, or vllm (extra [vllm]) [default: hf]."
)
@click.option("--data-dir", help="Folder with <dataset>/<split>.jsonl [default: DASD_DATA_DIR].")
@click.option("--offline", is_flag=True, default=None, help="Never ask the hub.")
@click.option(
    "--retention",
    is_flag=False,
    flag_value="all",
    multiple=True,
    callback=_commas,
    help="Look for forgetting on sets outside the training tasks: alone for all that can be had, or named.",
)
@click.option("--retention-limit", type=int, help="Rows per retention set; 0 for all  [default: 100].")
@click.option("--plugins", multiple=True, help="Folder with more methods and tasks (repeatable).")
@click.option("--confirm-run-unsafe-code", is_flag=True, default=None, help="Allow tasks that run model-written code.")
@click.option("--accept-licence", multiple=True, help="Accept a model's terms, for instance gemma.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Run directory [default: runs/<name of the run>]."
)
@click.option("--store", type=click.Path(path_type=Path), help="Folder of shared results [default: the user's cache].")
@click.option(
    "--processes", type=click.IntRange(1), default=1, show_default=True, help="Processes that train together."
)
@click.option(
    "--parallel",
    type=click.Choice(("data", "fsdp")),
    default="data",
    show_default=True,
    help="How they do: a whole model each, or the layers cut among them (for models that do not fit).",
)
@click.option(
    "--track",
    multiple=True,
    callback=_commas,
    help="Send finished arms to tensorboard, mlflow, wandb or trackio (comma-separated or repeated).",
)
@click.option("--dry-run", is_flag=True, help="Print the plan; load no weights.")
@click.option("--json", "json_events", is_flag=True, help="One JSON event a line.")
@click.option("-q", "--quiet", is_flag=True, help="Only warnings and the table.")
def run(
    config: Path | None,
    preset: str | None,
    settings: tuple[str, ...],
    accept_licence: tuple[str, ...],
    output: Path | None,
    store: Path | None,
    processes: int,
    parallel: str,
    track: list[str] | None,
    dry_run: bool,
    json_events: bool,
    quiet: bool,
    backend: str | None,
    **options: Any,
) -> int:
    """Make targets, train one adapter per method and seed, evaluate, and print the table."""
    started = time.monotonic()
    console = Console(json_events=json_events, quiet=quiet)
    if backend is not None:
        settings = (*settings, f"engine.backend={backend}")
    values = {key: value for key, value in options.items() if value not in (None, ())}
    spec, registry = build_spec(config, preset, settings, values, console)
    return run_spec(
        spec,
        registry,
        console,
        output=output,
        store=store,
        track=track or [],
        dry_run=dry_run,
        accept_licences=accept_licence,
        processes=processes,
        parallel=parallel,
        started=started,
    )


def build_spec(
    config: Path | None,
    preset: str | None,
    settings: tuple[str, ...],
    options: dict[str, Any],
    console: Console,
) -> tuple[RunSpec, Registry]:
    """The resolved specification and the plugins: default < preset < file < command line."""
    from_file = read_file(config) if config is not None else {}
    if preset is not None and preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    environment = {"data_dir": os.environ["DASD_DATA_DIR"]} if os.environ.get("DASD_DATA_DIR") else {}
    # The user named the preset, not its options: where they are the defaults the methods' cards win over them.
    from_preset = layer(f"preset {preset}", PRESETS[preset] | {"training_given": ()}) if preset else {}
    spec = resolve(environment, from_preset, from_file, layer("the command line", options), parse_set(settings))
    if spec.engine.backend == "vllm" and spec.retention:
        raise UsageError("--retention compares whole distributions, which vLLM does not give: leave out --engine vllm.")
    registry = discover(tuple(Path(folder).expanduser() for folder in spec.plugins))
    if spec.tasks == ("auto",):
        builtin = spec.offline and not spec.data_dir
        wanted = [n for n in (BUILTIN_TASKS if builtin else PAPER_TASKS) if n in registry.tasks]
        names = [n for n in wanted if spec.confirm_run_unsafe_code or not registry.task(n).item.unsafe_code]
        if len(names) < len(wanted):
            left_out = ", ".join(n for n in wanted if n not in names)
            console.say(f"Left out: {left_out}, which runs code that the model writes (--confirm-run-unsafe-code).")
        spec = replace(spec, tasks=tuple(names))
    return spec, registry


def run_name(spec: RunSpec) -> str:
    """The run's folder name: model, methods and a hash of what decides its results."""
    plain = re.sub(r"^# .*\n", "", to_yaml(spec))
    plain = re.sub(r"(?m)^(data_dir|offline): .*\n", "", plain)
    model = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(spec.model).name).strip("-")
    methods = "-".join(re.sub(r"[^A-Za-z0-9._=-]+", "-", method) for method in spec.methods)
    return f"{model}-{methods[:48]}-{digest(plain)[:8]}"


def run_spec(
    spec: RunSpec,
    registry: Registry,
    console: Console,
    *,
    output: Path | None,
    store: Path | None,
    track: Sequence[str] = (),
    dry_run: bool,
    accept_licences: tuple[str, ...],
    processes: int,
    parallel: str,
    started: float,
) -> int:
    """Plans and runs a specification; gives the exit code (0, or 3 where some arms failed)."""
    from dasd_bench.reporting.show import print_tables, run_tables
    from dasd_bench.run.build import build_context, check_training, plan_unfetched
    from dasd_bench.run.data import load_data
    from dasd_bench.run.manifest import closing_lines, interrupted_line
    from dasd_bench.run.plan import learn_rates, make_plan, plan_lines
    from dasd_bench.run.runner import execute
    from dasd_bench.run.tracking import Tracking, check_trackers
    from dasd_bench.run.validation import load_validation
    from dasd_bench.store.locks import FileLock

    trackers = check_trackers(track)
    run_dir = output or Path("runs") / run_name(spec)
    check_run_dir(run_dir, spec)
    for broken in registry.broken:
        console.warn(f"Plugin {broken.origin} could not be loaded: {broken.error}")
    # Names first: a typing error is told before any data or model is looked for.
    arms(spec, registry)
    unfetched = plan_unfetched(spec)
    data = (load_validation if spec.validation else load_data)(spec, registry, console)
    if dry_run and unfetched:
        console.result(unfetched)
        return 0
    context = build_context(spec, registry, console, run_dir, store, accept_licences, processes, parallel)
    check_training(context)
    plan = make_plan(context, data)
    if dry_run:
        console.result(f"Plan of run {run_dir.name} with {spec.model} ({context.dtype} on {context.device})")
        console.result("\n".join(plan_lines(plan)), plan=plan)
        return 0
    console.say(plan_lines(plan)[-1])
    with FileLock(run_dir / ".lock", on_wait=console.say):
        try:
            results = execute(context, data, Tracking(trackers, run_dir, console).arm_done)
        except KeyboardInterrupt:
            console.result(interrupted_line(context))
            return 130
    learn_rates(context, plan, context.recorder.stages)
    print_tables(console, run_tables([results]))
    for line in closing_lines(context, time.monotonic() - started):
        console.result(line)
    return 3 if results.status == "partial" else 0


def check_run_dir(run_dir: Path, spec: RunSpec) -> None:
    """Refuses a folder that holds another run, or that is no folder."""
    if run_dir.exists() and not run_dir.is_dir():
        raise UsageError(f"--output {run_dir} is a file; name a folder.")
    saved = run_dir / "spec.yaml"
    if saved.is_file():
        if read_file(saved) != read_spec_text(to_yaml(spec)):
            raise UsageError(f"{run_dir} holds a run with other settings; choose another folder with --output.")
    elif run_dir.is_dir() and any(run_dir.iterdir()) and not (run_dir / ".lock").exists():
        raise UsageError(f"--output {run_dir} is not empty and holds no run; name an empty or a new folder.")


def read_spec_text(text: str) -> dict[str, Any]:
    """The layer that a saved specification's text stands for."""
    import yaml

    return layer("spec.yaml", yaml.safe_load(text))
