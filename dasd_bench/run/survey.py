"""What one model needs on this device, stage by stage, for runs of ordinary size: before a run is even specified."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from dasd_bench.config.spec import EngineConfig
from dasd_bench.config.training import TrainingConfig
from dasd_bench.engine.limits import available_bytes
from dasd_bench.models.files import user_cache_dir
from dasd_bench.models.load import resolve_device, resolve_dtype
from dasd_bench.resources.fit import gib
from dasd_bench.resources.shapes import shape_of_model
from dasd_bench.resources.work import Work
from dasd_bench.run.estimate import Estimator

PROMPT, ANSWER, SEQUENCES = 512, 256, 64
"""Tokens of a prompt and of an answer, and how many decode at once, in the survey."""


@dataclass(frozen=True, slots=True)
class SurveyRow:
    """One kind of stage: ``needs`` in words; ``advice`` where it does not fit."""

    stage: str
    needs: str
    advice: str = ""


def survey(name: str, dtype: str, device: str) -> list[SurveyRow]:
    """The rows for model ``name`` (an alias or a folder; its weights need not be here).

    Raises :class:`UsageError` and :class:`ModelError` where the model or its shape is not known.
    """
    shape = shape_of_model(name)
    where = resolve_device(device)
    short = "bf16" if resolve_dtype(dtype, where) == torch.bfloat16 else "fp32"
    estimator = Estimator(shape, short, str(where), available_bytes(where), EngineConfig().max_num_seqs)
    itemsize = estimator.itemsize
    token = 2 * shape.layers * shape.key_heads * shape.head_dim * itemsize
    rows = [
        SurveyRow("model", f"{shape.parameters / 1e9:.2f}B parameters, {shape.layers} layers, {short} on {where}"),
        SurveyRow("available memory", gib(estimator.free)),
        SurveyRow("weights", gib(shape.parameters * itemsize)),
        SurveyRow("KV cache", f"{gib(token * 1000)} per 1000 tokens of one sequence"),
    ]
    long = PROMPT + ANSWER
    works = {
        f"generation, {SEQUENCES} sequences of {long} tokens": Work(
            "generate", SEQUENCES * PROMPT, SEQUENCES * ANSWER, SEQUENCES, PROMPT, ANSWER
        ),
        f"scoring, sequences of {long} tokens": Work("score", SEQUENCES * long, SEQUENCES * ANSWER, SEQUENCES, long),
        f"LoRA training, rows of {long} tokens": Work("train", 8 * long, 0, 8, long, config=TrainingConfig(), steps=1),
        f"training all weights, rows of {long} tokens": Work(
            "train", 8 * long, 0, 8, long, config=TrainingConfig(lora_rank=0), steps=1
        ),
    }
    for stage, work in works.items():
        found = estimator.estimate(work, stage.split(",")[0].capitalize())
        how = f", with {', '.join(found.changes)}" if found.changes and not found.advice else ""
        disk = f"; {gib(found.disk_bytes)} on disk" if work.config is not None else ""
        rate = work.tokens / estimator.seconds(work)
        speed = "" if found.advice else f"; about {rate:,.0f} tokens/s"
        rows.append(SurveyRow(stage, f"{gib(found.memory_bytes)}{how}{disk}{speed}", found.advice))
    short_of = _disk(user_cache_dir(), shape.parameters)
    rows.append(SurveyRow("disk", f"{gib(shape.parameters * 2)} for the downloaded weights", short_of))
    rows.append(SurveyRow("assumed", estimator.speed.sentence()))
    return rows


def _disk(folder: Path, parameters: int) -> str:
    import shutil

    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    return "" if free > parameters * 2 else f"{gib(free)} is free in {folder}: set HF_HOME to another disk"
