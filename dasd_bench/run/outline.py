"""The plan of a run whose model is not here: the run's own stages over the alias's known shape and rough token counts.

Without the model's files keys are not those that the run will have, so no stage counts as stored; and tokens are
counted from characters, so which prompts fit into the context is known roughly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

from dasd_bench.config.spec import RunSpec, arms
from dasd_bench.console import Console
from dasd_bench.errors import ModelError
from dasd_bench.models.files import user_cache_dir
from dasd_bench.models.load import resolve_device, resolve_dtype
from dasd_bench.models.resolve import ResolvedModel
from dasd_bench.registry import Registry
from dasd_bench.resources.gpus import planned_gpu
from dasd_bench.resources.shapes import ModelShape, shape_of_model
from dasd_bench.run.context import RunContext
from dasd_bench.run.data import TaskData
from dasd_bench.run.given_adapter import given_adapters
from dasd_bench.run.graph import build_graph
from dasd_bench.run.options import RunOptions
from dasd_bench.run.plan import Planner, make_plan
from dasd_bench.run.recorder import Recorder
from dasd_bench.run.stages.warmup import warmed
from dasd_bench.run.work import TEMPLATE_TOKENS, text_tokens
from dasd_bench.store.store import Store
from dasd_bench.types import Message

if TYPE_CHECKING:
    from dasd_bench.models.chat import ChatTemplate


class _RoughTemplate:
    """In place of the model's chat template: gives as many ids as the text has tokens, about."""

    hash = ""
    thinking = False
    adds_bos = False

    def render(self, messages: Sequence[Message], **_: bool) -> str:
        return "\n".join(message.content for message in messages)

    def encode_text(self, text: str) -> list[int]:
        return [0] * (text_tokens(text) + TEMPLATE_TOKENS)

    def encode(self, messages: Sequence[Message]) -> list[int]:
        return self.encode_text(self.render(messages))


@dataclass
class _Unfetched(RunContext):
    """A context that can be planned with and nothing else."""

    known: ModelShape | None = None

    @cached_property
    def shape(self) -> ModelShape | None:
        return self.known

    @cached_property
    def context_length(self) -> int | None:
        return None if self.known is None else self.known.context


def outline(
    spec: RunSpec, registry: Registry, data: Sequence[TaskData], options: RunOptions, console: Console
) -> Planner | None:
    """The plan of ``spec`` over its loaded ``data``; None where nothing is known of the model's shape."""
    try:
        shape = shape_of_model(spec.model)
    except ModelError:
        return None
    chosen = arms(spec, registry)
    wanted = spec.device if spec.device != "auto" else options.device
    if planned_gpu(wanted, options.assumed_gpu) is None:
        here = resolve_device(wanted or "auto")
        device, dtype = str(here), "bf16" if str(resolve_dtype(spec.dtype, here)).endswith("bfloat16") else "fp32"
    else:
        device, dtype = "cuda", "bf16" if spec.dtype == "auto" else spec.dtype
    template = cast("ChatTemplate", _RoughTemplate())
    context = _Unfetched(
        spec=spec,
        registry=registry,
        arms=chosen,
        adapters=given_adapters(spec, [arm.label for arm in chosen], None, console),
        console=console,
        store=Store(options.store or user_cache_dir() / "store"),
        recorder=Recorder(console),
        run_dir=Path(),
        model=ResolvedModel(spec.model, Path(), "", "unknown", "unknown", "not downloaded", dtype),
        tokenizer=None,
        chat=template,
        teacher_chat=template,
        evaluation_chat=template,
        dtype=dtype,
        device=device,
        processes=options.processes,
        parallel=options.parallel,
        assumed_gpu=options.assumed_gpu,
        known=shape,
    )
    begun = warmed(context)
    return make_plan(begun, build_graph(begun, data))
