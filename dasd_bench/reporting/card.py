"""A model card for a trained adapter, in the form that the hub reads: metadata, scores, the run's table, limits."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from dasd_bench.errors import DasdError, StoreError, UsageError, unknown_name
from dasd_bench.files.json_file import read_object
from dasd_bench.reporting.entries import usable
from dasd_bench.reporting.format import bracket, score
from dasd_bench.reporting.plots.source import Source
from dasd_bench.reporting.render.markup import markdown
from dasd_bench.reporting.scores import item_interval, run_table
from dasd_bench.results.runs import read_manifest
from dasd_bench.results.schema import Arm, RunResults, SeedArm, TaskInfo, TaskScore
from dasd_bench.results.training_text import training_line, training_settings
from dasd_bench.store.atomic import write_json, write_text

LICENCES = {
    "apache-2.0": "apache-2.0",
    "mit": "mit",
    "gemma terms": "gemma",
    "llama 2 community": "llama2",
    "llama 3 community": "llama3",
    "llama 3.1 community": "llama3.1",
    "llama 3.2 community": "llama3.2",
}
"""Licence names of the model table in the hub's words; any other becomes ``other`` with its name."""

ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json")
MODEL_FILE = "config.json"
"""Lies in the place of an adapter where all weights were trained."""


@dataclass(frozen=True, slots=True)
class HubNames:
    """What the hub calls the base model (None for a local one) and each task's data set, by task name."""

    model: str | None = None
    datasets: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Adapter:
    """One adapter of a run: its row, its seed, and where it lies."""

    arm: Arm
    seed_arm: SeedArm
    folder: Path

    @property
    def name(self) -> str:
        """``<label>-seed<k>``."""
        return f"{self.arm.label}-seed{self.seed_arm.seed}"


def adapters(source: Source, row: str | None = None, seed: int | None = None) -> list[Adapter]:
    """The run's adapters, or those of one row or one seed.

    Raises :class:`DasdError` for a cancelled or empty run, :class:`UsageError` for an unknown row or seed.
    """
    usable([source.results])
    arms = [arm for arm in source.results.arms if arm.adapter is None]
    if not arms:
        raise UsageError(f"Run {source.results.run_id} has no trained row; a model card describes an adapter.")
    if row is not None and row not in {arm.label for arm in arms}:
        raise unknown_name("row", row, [arm.label for arm in arms])
    found = [
        Adapter(arm, one, source.directory.arm(arm.directory, one.seed).adapter)
        for arm in arms
        for one in arm.seeds
        if row in (None, arm.label) and seed in (None, one.seed)
    ]
    kept = [one for one in found if (one.folder / ADAPTER_FILES[1]).is_file()]
    if not found:
        seeds = ", ".join(map(str, source.results.seeds))
        raise UsageError(f"Run {source.results.run_id} has no finished seed {seed}; its seeds are {seeds}.")
    whole = [one.name for one in found if _whole_model(source.results, one)]
    if whole and not kept:
        raise DasdError(
            f"Run {source.results.run_id} trained all weights ({', '.join(whole)}), so it has no adapter: "
            "model cards are written for LoRA adapters only."
        )
    if not kept:
        raise DasdError(f"Run {source.results.run_id} has no adapter; rerun its command to write them.")
    return kept


def _whole_model(run: RunResults, one: Adapter) -> bool:
    """True where training changed all weights: by the settings, or by what lies in the adapter's folder."""
    return training_settings(run, one.arm).get("lora_rank") == 0 or (one.folder / MODEL_FILE).is_file()


def export_cards(source: Source, chosen: list[Adapter], names: HubNames, output: Path | None) -> list[Path]:
    """Writes ``README.md`` beside every chosen adapter, or copies adapter and card into ``output``, ready to upload.

    In a copy the adapter's configuration names the base model as the hub does. Several adapters become sub-folders
    of ``output``. Gives the folders.
    """
    folders = []
    for adapter in chosen:
        folder = adapter.folder
        if output is not None:
            folder = output if len(chosen) == 1 else output / adapter.name
            _copy(adapter, folder, names)
        write_text(folder / "README.md", card_text(source, adapter, names))
        folders.append(folder)
    return folders


def _copy(adapter: Adapter, folder: Path, names: HubNames) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    weights, config = ADAPTER_FILES
    try:
        shutil.copyfile(adapter.folder / weights, folder / weights)
        settings = read_object(adapter.folder / config, hint="run the command again to rebuild it")
    except OSError as error:
        raise StoreError(f"{adapter.folder} cannot be copied: {error}; run the command again to rebuild it.") from None
    if names.model:
        settings["base_model_name_or_path"] = names.model
    write_json(folder / config, settings)


def card_text(source: Source, adapter: Adapter, names: HubNames) -> str:
    """The card of one adapter: YAML metadata between dashes, then Markdown."""
    from jinja2 import Environment, StrictUndefined

    run = source.results
    manifest = read_manifest(source.path)
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = resources.files("dasd_bench.reporting").joinpath("card.md.j2").read_text(encoding="utf-8")
    scored = [(task, adapter.seed_arm.scores[task.name]) for task in run.tasks if task.name in adapter.seed_arm.scores]
    body = environment.from_string(template).render(
        name=adapter.name,
        run=run,
        arm=adapter.arm,
        seed=adapter.seed_arm.seed,
        options=", ".join(f"{key}={value}" for key, value in adapter.arm.options.items()),
        base=names.model or run.model,
        known_base=names.model is not None,
        scored=[(task, score_text(task, one), _base_text(run, task)) for task, one in scored],
        missing=[task.name for task in run.tasks if task.name not in adapter.seed_arm.scores],
        table=markdown(run_table([run]), notes=True),
        command=str(manifest.get("command", "")),
        training=training_line(run, adapter.arm),
        stats=adapter.seed_arm.train_stats,
        environment=manifest.get("environment", {}),
        partial=run.status != "finished",
    )
    return f"---\n{metadata(source, adapter, names).to_yaml()}\n---\n\n{body}"


def score_text(task: TaskInfo, one: TaskScore) -> str:
    """A score with its 95 % interval over items."""
    return f"{score(one.mean, task.percent)} {bracket(item_interval(task, [one]), task.percent)}".strip()


def _base_text(run: RunResults, task: TaskInfo) -> str:
    return score_text(task, run.base[task.name]) if task.name in run.base else "–"


def metadata(source: Source, adapter: Adapter, names: HubNames) -> Any:
    """The card's ``ModelCardData``: base model, licence, tags, data sets, and a ``model-index`` of the scores."""
    from huggingface_hub import EvalResult, ModelCardData

    run = source.results
    licence = str(read_manifest(source.path).get("model", {}).get("licence", ""))
    known = LICENCES.get(licence.lower())
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=names.datasets.get(task.name, task.name),
            dataset_name=task.name,
            dataset_split="test",
            metric_type=task.metric,
            metric_name=f"{task.metric} ({task.filter}, {task.num_fewshot}-shot, {one.n} items)",
            metric_value=one.mean,
        )
        for task in run.tasks
        if (one := adapter.seed_arm.scores.get(task.name)) is not None
    ]
    trained = sorted({names.datasets[t.name] for t in run.tasks if t.n_train and t.name in names.datasets})
    slug = re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-")
    return ModelCardData(
        base_model=names.model,
        datasets=trained or None,
        library_name="peft",
        license=known or ("other" if licence else None),
        pipeline_tag="text-generation",
        tags=["lora", "dasd-bench", adapter.arm.method],
        model_name=f"{run.model.rstrip('/').rpartition('/')[2]}-{adapter.name}",
        eval_results=results or None,
        license_name=None if known or not licence else slug,
    )
