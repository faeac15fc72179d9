"""One training run as files, so that other processes can do it: what to train, on what, how."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dasd_bench.config.training import TrainingConfig
from dasd_bench.console import Console
from dasd_bench.methods.base import Method, build_method
from dasd_bench.models.files import TOKENIZER_FILES
from dasd_bench.models.load import load_model, load_tokenizer
from dasd_bench.registry import discover
from dasd_bench.resources.fit import TrainingFit
from dasd_bench.store.atomic import write_json
from dasd_bench.store.store import load_ragged, save_ragged
from dasd_bench.training.batching import check_alike
from dasd_bench.training.distributed import Processes
from dasd_bench.training.memory import Memory
from dasd_bench.training.pace import TokenBudget
from dasd_bench.training.quantize import quantize
from dasd_bench.training.rollouts import Decoding
from dasd_bench.training.trainer import Point, TrainResult, train
from dasd_bench.types import TrainExample, TrainingSet

ARRAYS = ("prompt_ids", "target_ids", "weights", "keep")
COLUMN = "column:"
TEACHER = "teacher:"
"""What precedes a column's name and a teacher's number in an examples file."""


@dataclass(frozen=True, slots=True)
class TrainJob:
    """Everything a training run depends on, in plain values; ``examples`` travel beside it.

    ``model`` is a folder; ``device`` ``cpu`` or ``cuda``; ``method`` and ``options`` name a plugin that ``plugins``
    folders (and those installed) hold. ``sharded`` cuts the layers over the processes. ``stop_ids``
    end a completion, for methods that draw their own. ``budget`` stands in the place of the epochs; ``fit`` is how it
    was made to fit into memory.
    """

    model: str
    dtype: str
    device: str
    method: str
    options: dict[str, Any]
    plugins: tuple[str, ...]
    training: TrainingConfig
    seed: int
    out_dir: str
    base_model_name: str
    sharded: bool = False
    stop_ids: tuple[int, ...] = ()
    init: str = ""
    """Folder of an adapter of the same settings whose weights training begins with."""
    budget: TokenBudget | None = None
    fit: TrainingFit | None = None


def do_job(job: TrainJob, data: TrainingSet, processes: Processes, console: Console, method: Method) -> TrainResult:
    """Loads the model and trains it, as one of ``processes``."""
    memory = Memory(processes.device)
    # What is cut over processes or packed into 4 bits goes to its device piece by piece.
    early = not (job.sharded or job.training.qlora)
    model = load_model(Path(job.model), dtype=job.dtype, device=str(processes.device) if early else "cpu")
    if job.training.qlora:
        quantize(model, processes.device)
    decoding = None
    if method.rollouts:
        decoding = Decoding(load_tokenizer(Path(job.model)), frozenset(job.stop_ids))
    result = train(
        model,
        data.examples,
        job.training,
        method=method,
        seed=job.seed,
        out_dir=Path(job.out_dir),
        console=console,
        max_length=min(
            int(getattr(model.config, "max_position_embeddings", 0) or 2**31), job.training.max_length or 2**31
        ),
        base_model_name=job.base_model_name,
        processes=processes,
        sharded=job.sharded,
        memory=memory,
        decoding=decoding,
        init=Path(job.init) if job.init else None,
        held_out=data.held_out,
        budget=job.budget,
        fit=job.fit,
    )
    if job.training.lora_rank == 0 and processes.first:
        # All weights were trained: with the tokenizer the result is a model folder like any other.
        folders = [result.adapter_dir, *(Path(job.out_dir) / "points" / point.name for point in result.points)]
        for name in TOKENIZER_FILES:
            if (Path(job.model) / name).is_file():
                for folder in folders:
                    shutil.copyfile(Path(job.model) / name, folder / name)
    return result


def build_job_method(job: TrainJob) -> Method:
    """The method a job names, from the installed plugins and the job's folders."""
    registry = discover(tuple(Path(folder) for folder in job.plugins))
    return build_method(registry.method(job.method).item, job.options)


def write_job(folder: Path, job: TrainJob, data: TrainingSet) -> None:
    """Writes a job and its data to ``folder``."""
    write_json(folder / "job.json", asdict(job))
    _write_examples(folder / "examples.safetensors", data.examples)
    _write_examples(folder / "held_out.safetensors", data.held_out)


def _write_examples(path: Path, examples: Sequence[TrainExample]) -> None:
    arrays = {name: [getattr(example, name) for example in examples] for name in ARRAYS}
    check_alike(examples)
    for name in examples[0].columns if examples else ():
        arrays[COLUMN + name] = [np.asarray(example.columns[name], dtype=np.float32) for example in examples]
    for k in range(len(examples[0].teacher_prompts) if examples else 0):
        arrays[f"{TEACHER}{k}"] = [example.teacher_prompts[k] for example in examples]
    save_ragged(path, arrays, [{"id": example.example_id} for example in examples])


def read_job(folder: Path) -> tuple[TrainJob, TrainingSet]:
    """The job and the data that :func:`write_job` wrote."""
    fields = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    training = fields["training"]
    fields["training"] = TrainingConfig(**training | {"evaluate_at": tuple(training["evaluate_at"])})
    fields["budget"] = None if fields["budget"] is None else TokenBudget(**fields["budget"])
    fields["plugins"] = tuple(fields["plugins"])
    fields["stop_ids"] = tuple(fields["stop_ids"])
    fields["fit"] = None if fields["fit"] is None else TrainingFit(**fields["fit"])
    data = TrainingSet(_read_examples(folder / "examples.safetensors"), _read_examples(folder / "held_out.safetensors"))
    return TrainJob(**fields), data


def _read_examples(path: Path) -> list[TrainExample]:
    arrays, rows = load_ragged(path)
    columns = [name for name in arrays if name.startswith(COLUMN)]
    teachers = [f"{TEACHER}{k}" for k in range(sum(name.startswith(TEACHER) for name in arrays))]
    return [
        TrainExample(
            row["id"],
            arrays["prompt_ids"][i],
            arrays["target_ids"][i],
            arrays["weights"][i],
            arrays["keep"][i],
            {name.removeprefix(COLUMN): arrays[name][i] for name in columns},
            tuple(arrays[name][i] for name in teachers),
        )
        for i, row in enumerate(rows)
    ]


def write_result(folder: Path, result: TrainResult) -> None:
    """Writes what a job gave."""
    write_json(folder / "result.json", asdict(result))


def read_result(folder: Path) -> TrainResult:
    """What a job gave."""
    fields = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    fields["adapter_dir"] = Path(fields["adapter_dir"])
    for name in ("skipped", "truncated", "held_out"):
        fields[name] = tuple(fields[name])
    fields["points"] = tuple(Point(**point) for point in fields["points"])
    return TrainResult(**fields)
