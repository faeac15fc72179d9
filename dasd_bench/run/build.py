"""Builds the context of a run: the model found or fetched, its tokenizer and template, the store."""

from __future__ import annotations

from pathlib import Path

from dasd_bench.config.spec import RunSpec, arms
from dasd_bench.console import Console
from dasd_bench.models.chat import ChatTemplate
from dasd_bench.models.files import user_cache_dir
from dasd_bench.models.load import load_tokenizer, resolve_device, resolve_dtype
from dasd_bench.models.resolve import plan_model, resolve_model
from dasd_bench.registry import Registry
from dasd_bench.run.context import RunContext
from dasd_bench.run.recorder import Recorder
from dasd_bench.store.store import Store


def check_training(context: RunContext) -> None:
    """Raises :class:`UsageError` where this machine cannot train as asked, before anything is computed."""
    from dasd_bench.training.launch import check_count
    from dasd_bench.training.quantize import check_quantization

    for arm in context.arms:
        check_quantization(arm.training)
        check_count(context.device, context.processes, arm.training, sharded=context.parallel == "fsdp")


def plan_unfetched(spec: RunSpec) -> str:
    """A sentence on what would be fetched where the model is not here yet, else an empty text."""
    plan = plan_model(spec.model, offline=spec.offline)
    if plan.cached:
        return ""
    return f"{plan.sentence()}; fetch it (dasd-bench models fetch {spec.model}) to see which stages are stored."


def build_context(
    spec: RunSpec,
    registry: Registry,
    console: Console,
    run_dir: Path,
    store: Path | None,
    accept_licences: tuple[str, ...],
    processes: int = 1,
    parallel: str = "data",
) -> RunContext:
    """Everything the stages share; the weights are not loaded yet."""
    chosen = arms(spec, registry)
    cache = user_cache_dir()
    model = resolve_model(
        spec.model, offline=spec.offline, cache_dir=cache, console=console, accept_licences=accept_licences
    )
    device = resolve_device(spec.device)
    dtype = "bf16" if str(resolve_dtype(spec.dtype, device, console)).endswith("bfloat16") else "fp32"
    tokenizer = load_tokenizer(model.path)
    return RunContext(
        spec=spec,
        registry=registry,
        arms=chosen,
        console=console,
        store=Store(store or cache / "store"),
        recorder=Recorder(console),
        run_dir=run_dir,
        model=model,
        tokenizer=tokenizer,
        chat=ChatTemplate(tokenizer, mode=spec.chat_template),
        dtype=dtype,
        device=str(device),
        processes=processes,
        parallel=parallel,
    )
