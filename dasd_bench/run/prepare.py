"""From a specification to a run that can start: names checked, data and model found, the stage graph planned."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dasd_bench.config.spec import RunSpec, Weighing, arms, layer, read_file, resolve, to_yaml
from dasd_bench.console import Console
from dasd_bench.errors import UsageError
from dasd_bench.files.text import shown
from dasd_bench.files.yaml_file import parse_yaml
from dasd_bench.methods.context import RunFacts
from dasd_bench.methods.plugin_calls import call
from dasd_bench.models.chat import ChatTemplate
from dasd_bench.models.files import user_cache_dir
from dasd_bench.models.load import load_tokenizer, resolve_device, resolve_dtype
from dasd_bench.models.resolve import plan_model, resolve_model
from dasd_bench.registry import Registry
from dasd_bench.results.directory import RunDirectory
from dasd_bench.run.context import RunContext
from dasd_bench.run.data import TaskData, load_data
from dasd_bench.run.given_adapter import given_adapters
from dasd_bench.run.graph import Graph, build_graph
from dasd_bench.run.options import RunOptions
from dasd_bench.run.plan import PlanRow, make_plan
from dasd_bench.run.recorder import Recorder
from dasd_bench.run.stages.warmup import warmed
from dasd_bench.run.validation import load_validation
from dasd_bench.store.atomic import digest
from dasd_bench.store.journal import RunJournal
from dasd_bench.store.store import Store
from dasd_bench.training.checks import check_devices, check_quantization, check_rollouts, check_sharding, check_teacher


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """A run before its first stage."""

    context: RunContext
    data: list[TaskData]
    graph: Graph
    plan: list[PlanRow]
    notes: list[str]


def prepare(
    spec: RunSpec,
    registry: Registry,
    options: RunOptions,
    console: Console,
    data: list[TaskData] | None = None,
    planned: set[tuple[str, str]] | None = None,
) -> PreparedRun:
    """Finds all a run needs and plans it; loads no weights. ``data`` is loaded unless given.

    ``planned`` are the stages that earlier runs of a sweep make, by kind and key.

    Raises :class:`UsageError` for what cannot be run as asked, before anything is computed.
    """
    run_dir = options.output or Path("runs") / run_name(spec)
    check_run_dir(run_dir, spec)
    return prepare_in(run_dir, spec, registry, options, console, data, planned)


def prepare_in(
    run_dir: Path,
    spec: RunSpec,
    registry: Registry,
    options: RunOptions,
    console: Console,
    data: list[TaskData] | None = None,
    planned: set[tuple[str, str]] | None = None,
) -> PreparedRun:
    """:func:`prepare` for a run directory that is the run's own, or that will not be written."""
    if data is None:
        data = load(spec, registry, console)
    context = warmed(build_context(spec, registry, console, run_dir, options))
    check_training(context, here=not options.device)
    check_methods(context, data)
    graph = build_graph(context, data)
    planner = make_plan(context, graph, planned)
    return PreparedRun(context, data, graph, planner.rows, planner.notes())


def load(spec: RunSpec, registry: Registry, console: Console) -> list[TaskData]:
    """The rows of every task. Names are checked first: a typing error is reported before any data is looked for."""
    arms(spec, registry)
    return (load_validation if spec.validation else load_data)(spec, registry, console)


def check_training(context: RunContext, *, here: bool) -> None:
    """Raises :class:`UsageError` where training cannot go as asked, before anything is computed.

    Where it runs ``here``, this machine's devices are counted too.
    """
    for arm in context.arms:
        _ = arm.training.points  # Raises for what is no fraction.
        check_quantization(arm.training)
        check_teacher(arm.method, arm.training)
        check_rollouts(arm.method, sharded=context.parallel == "fsdp")
        check_sharding(context.processes, arm.training, sharded=context.parallel == "fsdp")
    if here:
        check_devices(context.device, context.processes)


def check_methods(context: RunContext, data: Sequence[TaskData]) -> None:
    """Raises :class:`UsageError` where a method needs what this run cannot give, before anything is computed."""
    spec = context.spec
    trained = tuple(one.name for one in data if one.train)
    for arm in context.arms:
        lora = arm.training.lora_rank > 0
        facts = RunFacts(spec.engine.backend, spec.chat_template, spec.offline, lora, trained)
        for one in (Weighing(arm.method, arm.plugin), *([arm.second] if arm.second else [])):
            if missing := call("lacking()", one.plugin.path, one.method.lacking, facts):
                raise UsageError(f"--method {shown(arm.label)} {missing}.")
        for name in call("files()", arm.plugin.path, arm.method.files):
            if not Path(name).expanduser().is_file():
                raise UsageError(f"--method {shown(arm.label)}: there is no file {shown(name)}.")


def plan_unfetched(spec: RunSpec) -> str:
    """A sentence on what would be fetched where the model is not downloaded, else an empty text."""
    plan = plan_model(spec.model, offline=spec.offline)
    if plan.cached:
        return ""
    return f"{plan.sentence()}; download it (dasd-bench models fetch {spec.model}) to see which stages are stored."


def build_context(
    spec: RunSpec, registry: Registry, console: Console, run_dir: Path, options: RunOptions
) -> RunContext:
    """Everything the stages share; the weights are not loaded yet."""
    chosen = arms(spec, registry)
    cache = user_cache_dir()
    model = resolve_model(
        spec.model,
        offline=spec.offline,
        cache_dir=cache,
        console=console,
        accept_licences=options.accept_licences,
    )
    root = options.store or cache / "store"
    if options.device:
        # The nodes have it; each checks for itself.
        device = options.device if spec.device == "auto" else spec.device
        dtype = spec.dtype if spec.dtype != "auto" else "bf16" if device == "cuda" else "fp32"
    else:
        found = resolve_device(spec.device)
        device = str(found)
        dtype = "bf16" if str(resolve_dtype(spec.dtype, found, console)).endswith("bfloat16") else "fp32"
    tokenizer = load_tokenizer(model.path)
    student, teacher, evaluation = chat_templates(spec, tokenizer)
    adapters = given_adapters(spec, [arm.label for arm in chosen], model, console)
    return RunContext(
        spec=spec,
        registry=registry,
        arms=chosen,
        adapters=adapters,
        console=console,
        store=Store(root, RunJournal(root, run_dir.resolve())),
        recorder=Recorder(console),
        run_dir=run_dir,
        model=model,
        tokenizer=tokenizer,
        chat=student,
        teacher_chat=teacher,
        evaluation_chat=evaluation,
        dtype=dtype,
        device=device,
        processes=options.processes,
        parallel=options.parallel,
        accept_licences=options.accept_licences,
        assumed_gpu=options.assumed_gpu,
    )


def chat_templates(spec: RunSpec, tokenizer: Any) -> list[ChatTemplate]:
    """The template as student, teacher and evaluation use it; one object where they think alike.

    Raises :class:`UsageError` for a wish about thinking that the template has no switch for.
    """
    auto = ChatTemplate(tokenizer, mode=spec.chat_template)
    found = {"auto": auto}
    chosen = []
    for role in ("student", "teacher", "evaluation"):
        thinking = getattr(spec.thinking, role)
        if thinking != "auto" and not auto.has_switch:
            raise UsageError(
                f"thinking.{role}={thinking}: the chat template of '{spec.model}' has no switch for thinking "
                "(enable_thinking); leave it at auto."
            )
        name = "on" if thinking == "on" else "auto"
        if name not in found:
            found[name] = ChatTemplate(tokenizer, mode=spec.chat_template, thinking=name)
        chosen.append(found[name])
    return chosen


def run_name(spec: RunSpec) -> str:
    """The run's folder name: model, methods and a hash of what decides its results."""
    plain = re.sub(r"^# .*\n", "", to_yaml(spec))
    plain = re.sub(r"(?m)^(data_dir|offline): .*\n", "", plain)
    model = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(spec.model).name).strip("-")
    methods = "-".join(re.sub(r"[^A-Za-z0-9._=-]+", "-", row) for row in spec.rows)
    return f"{model}-{methods[:48]}-{digest(plain)[:8]}"


def check_run_dir(run_dir: Path, spec: RunSpec) -> None:
    """Refuses a folder that holds another run, or that is no folder."""
    directory = RunDirectory(run_dir)
    try:
        there = run_dir.exists()
    except OSError as error:
        raise UsageError(f"--output {shown(run_dir)}: {error.strerror}; choose another folder.") from None
    if there and not run_dir.is_dir():
        raise UsageError(f"--output {run_dir} is a file; name a folder.")
    if directory.spec.is_file():
        if resolve(read_file(directory.spec)) != resolve(read_spec_text(to_yaml(spec))):
            raise UsageError(f"{run_dir} contains a run with other settings; choose another --name or --output.")
    elif run_dir.is_dir() and any(not path.name.startswith(".") for path in run_dir.iterdir()):
        raise UsageError(f"--output {run_dir} is not empty and contains no run; name an empty or a new folder.")


def read_spec_text(text: str) -> dict[str, Any]:
    """The layer that a saved specification's text stands for."""
    return layer("spec.yaml", parse_yaml(text, "spec.yaml"))
