"""A specification from what a user gives: environment, preset, file, options and settings, in increasing precedence."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dasd_bench.config.spec import PRESETS, RunSpec, layer, parse_set, read_file, resolve
from dasd_bench.console import Console
from dasd_bench.errors import UsageError, unknown_name
from dasd_bench.files.text import expand_user
from dasd_bench.registry import Registry, discover

PAPER_TASKS = ("math", "gsm8k", "mbpp", "arc_challenge")
BUILTIN_TASKS = ("mini_gsm", "mini_math", "mini_arc")


def make_spec(
    preset: str | None = None, config: Path | None = None, settings: Sequence[str] = (), **options: Any
) -> RunSpec:
    """The specification that ``dasd-bench run`` would make of the same options.

    ``options`` are the fields of :class:`RunSpec`; ``settings`` are texts such as ``training.lr=1e-4``, as ``--set``
    takes them; ``config`` is a YAML file. Raises :class:`UsageError` for unknown names and values out of range.
    """
    return build_spec(preset, config, settings, options, Console(quiet=True))[0]


def build_spec(
    preset: str | None, config: Path | None, settings: Sequence[str], options: Mapping[str, Any], console: Console
) -> tuple[RunSpec, Registry]:
    """The specification, and the plugins that it can name."""
    from_file = read_file(config) if config is not None else {}
    if preset is not None and preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    environment = {"data_dir": os.environ["DASD_DATA_DIR"]} if os.environ.get("DASD_DATA_DIR") else {}
    # The user named the preset, not its options: where they are the defaults the methods' cards win over them.
    from_preset = layer(f"preset {preset}", PRESETS[preset] | {"training_given": ()}) if preset else {}
    spec = resolve(environment, from_preset, from_file, layer("the command line", options), parse_set(settings))
    if spec.engine.backend == "vllm" and spec.retention:
        raise UsageError("--retention compares whole distributions, which vLLM does not return; omit --engine vllm.")
    registry = registry_of(spec)
    if spec.tasks == ("auto",):
        spec = replace(spec, tasks=auto_tasks(spec, registry, console))
    return spec, registry


def registry_of(spec: RunSpec) -> Registry:
    """The plugins that a run can name, and the tasks that stand for its files of training rows."""
    registry = discover(plugin_folders(spec))
    for file in spec.train_files:
        registry.add_train_file(expand_user(file, "--train-file"))
    return registry


def plugin_folders(spec: RunSpec) -> tuple[Path, ...]:
    """The folders of ``--plugins``."""
    if "" in spec.plugins:
        raise UsageError("--plugins '' is empty; name a folder or omit the option.")
    return tuple(expand_user(folder, "--plugins") for folder in spec.plugins)


def auto_tasks(spec: RunSpec, registry: Registry, console: Console) -> tuple[str, ...]:
    """The paper's tasks, or the built-in ones where no data can be had; without those whose code may not be run."""
    builtin = spec.offline and not spec.data_dir
    names = BUILTIN_TASKS if builtin else PAPER_TASKS
    found = [name for name in names if name in registry.tasks]
    allowed = tuple(n for n in found if spec.confirm_run_unsafe_code or not registry.task(n).item.unsafe_code)
    if len(allowed) < len(found):
        skipped = ", ".join(n for n in found if n not in allowed)
        console.say(f"Skipped {skipped}, which runs model-written code (needs --confirm-run-unsafe-code).")
    return allowed
