"""The plan of a run whose model is not here: the same stages and estimates from the alias's known shape.

Without the model's files no key can be made, so every stage counts as to do, and prompts that would not fit into the
context or targets that two arms share are not found out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dasd_bench.config.spec import RunSpec, arms
from dasd_bench.engine.limits import available_bytes
from dasd_bench.errors import ModelError
from dasd_bench.methods.base import BASE
from dasd_bench.models.load import resolve_device, resolve_dtype
from dasd_bench.registry import Registry
from dasd_bench.resources.gpus import planned_gpu
from dasd_bench.resources.shapes import shape_of_model
from dasd_bench.run.data import TaskData
from dasd_bench.run.estimate import Estimator
from dasd_bench.run.options import RunOptions
from dasd_bench.run.plan import Planner
from dasd_bench.run.work import evaluate_work, score_work, targets_work, train_work


def outline(spec: RunSpec, registry: Registry, data: Sequence[TaskData], options: RunOptions) -> Planner | None:
    """The plan of ``spec`` over its loaded ``data``; None where nothing is known of the model's shape."""
    try:
        shape = shape_of_model(spec.model)
    except ModelError:
        return None
    wanted = spec.device if spec.device != "auto" else options.device
    gpu = planned_gpu(wanted, options.assumed_gpu)
    if gpu is None:
        device = resolve_device(wanted or "auto")
        dtype = "bf16" if resolve_dtype(spec.dtype, device) == torch.bfloat16 else "fp32"
        free = available_bytes(device) // (options.processes if device.type == "cpu" else 1)
        estimator = Estimator(shape, dtype, str(device), free, spec.engine.max_num_seqs)
    else:
        dtype = "bf16" if spec.dtype == "auto" else spec.dtype
        estimator = Estimator(shape, dtype, "cuda", gpu.free, spec.engine.max_num_seqs, gpu.speed(dtype))
    planner = Planner(estimator, {})
    examples = [example for one in data for example in one.train]
    chosen = [(arm, seed) for arm in arms(spec, registry) for seed in spec.seeds]
    for arm, seed in chosen:
        work = targets_work(arm.method, examples, spec.max_new_tokens)
        planner.add("targets", "targets", arm.label, seed, "to do", work, None)
        planner.add("scores", "score", arm.label, seed, "to do", score_work(examples), None)
    _measured(planner, spec, data, BASE, None, None)
    for arm, seed in chosen:
        work = train_work(arm.training, examples, shape.context)
        planner.add("train", "train", arm.label, seed, "to do", work, None)
        _measured(planner, spec, data, arm.label, seed, f"{arm.label} {seed}")
    return planner


def _measured(
    planner: Planner, spec: RunSpec, data: Sequence[TaskData], label: str, seed: int | None, trained: str | None
) -> None:
    for one in data:
        if not one.test:
            continue
        work = evaluate_work(one, spec)
        planner.add("evaluate", f"evaluate {one.name}", label, seed, "to do", work, trained)
        if not one.retention:
            planner.add("nll", f"reference nll {one.name}", label, seed, "to do", score_work(one.test), trained)
