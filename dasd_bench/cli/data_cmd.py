"""``dasd-bench data``: checks a folder of benchmark data, or fills one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import click

from dasd_bench.cli.shared import json_option, plugins_option
from dasd_bench.console import Console
from dasd_bench.errors import DasdError, DataError, UsageError, did_you_mean
from dasd_bench.files.jsonl import dump_rows, split_file
from dasd_bench.files.text import read_text
from dasd_bench.registry import Registry, discover
from dasd_bench.store.atomic import write_bytes
from dasd_bench.tasks.base import Row, Task


@click.group("data")
def data_group() -> None:
    """Validate or fill a folder of benchmark data for --data-dir."""


@data_group.command("check")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("-t", "--tasks", default="", help="Only these tasks, comma-separated; the data of each must exist.")
@plugins_option
@json_option
def check(folder: Path, tasks: str, plugins: tuple[Path, ...], json_events: bool) -> None:
    """Read every split of every task that has a folder in FOLDER and report the file and line of each problem.

    FOLDER may also be a file of your own training rows, as --train-file reads it.

    Checks the columns, that each task can use each row, the checksums if there is a SHA256SUMS file, and the overlap
    of train and test split. The exit code is 1 if there is a problem.
    """
    console = Console(json_events=json_events)
    if folder.is_file():
        _check_train_file(folder, console)
        return
    if not folder.is_dir():
        raise DataError(f"The data folder {folder} does not exist.")
    registry = discover(plugins)
    chosen = _chosen(registry, tasks)
    faults = _checksum_faults(folder, {task.data.folder for task in chosen})
    known: set[str] = {task.data.folder for task in chosen}
    found = 0
    for task in chosen:
        if (folder / task.data.folder).is_dir():
            found += 1
            # Tasks share folders; a fault of one file is one fault.
            faults += [fault for fault in _check_task(task, folder, console) if fault not in faults]
        elif tasks:
            faults.append(f"{folder / task.data.folder} is missing; put the data of task '{task.name}' there.")
    if not tasks:
        for path in sorted(p for p in folder.iterdir() if p.is_dir() and p.name not in known):
            hint = did_you_mean(path.name, known)
            console.say(f"{path.name}: no task uses this folder.{hint}", folder=path.name, task=None)
    for fault in faults:
        console.event("fault", text=f"WRONG: {fault}", fault=fault)
    if faults:
        raise DataError(f"{len(faults)} of the checks of {folder} failed; see the lines above.")
    if not found:
        raise DataError(f"{folder} has no folder of a known task; known: {', '.join(sorted(known))}.")
    console.result(f"{folder}: {found} tasks checked, no problems found.", tasks=found)


def _check_train_file(path: Path, console: Console) -> None:
    """Reads a file of training rows and says what is in it."""
    from dasd_bench.tasks.loading import examples_of, load_rows
    from dasd_bench.tasks.train_file import TrainFile, file_task_name

    task = TrainFile(path, file_task_name(path, ()))
    loaded = load_rows(task, "train")
    examples = examples_of(task, loaded, "train")
    prompts = [(example.prompt, example.chat) for example in examples]
    counts = {
        "rows": len(examples),
        "chats": sum(bool(example.chat) for example in examples),
        "with_answer": sum(example.answer is not None for example in examples),
        "repeated_prompts": len(prompts) - len(set(prompts)),
    }
    console.result(
        f"{path}: {counts['rows']} training rows, {counts['chats']} with a system prompt or earlier turns, "
        f"{counts['with_answer']} with a final answer, {counts['repeated_prompts']} with the prompt of an earlier row; "
        "no problems found.",
        **counts,
    )


def _chosen(registry: Registry, tasks: str) -> list[Task]:
    if tasks:
        return [registry.task(name.strip()).item for name in tasks.split(",")]
    return [plugin.item for _, plugin in sorted(registry.tasks.items())]


def _check_task(task: Task, folder: Path, console: Console) -> list[str]:
    """Faults of one task's files; says what was read."""
    from dasd_bench.tasks.loading import examples_of, load_rows, real_split
    from dasd_bench.tasks.overlap import overlap

    faults: list[str] = []
    rows = {}
    examples = {}
    for split in task.data.splits:
        if not split_file(folder / task.data.folder, real_split(task, split)).exists():
            console.say(f"{task.name}: no {split} split", task=task.name, split=split, rows=0)
            continue
        try:
            loaded = load_rows(task, split, data_dir=folder, offline=True)
            examples[split] = examples_of(task, loaded, split)
            rows[split] = loaded.rows
        except DasdError as error:
            faults.append(str(error))
            continue
        console.say(
            f"{task.name}: {split} {len(loaded.rows)} rows, sha256 {loaded.sha256[:12]}",
            task=task.name,
            split=split,
            rows=len(loaded.rows),
            sha256=loaded.sha256,
        )
    if "train" in examples and "test" in examples:
        sentence = overlap(examples["train"], examples["test"]).sentence()
        if sentence:
            console.warn(f"{task.name}: {sentence}")
    evaluated = next((rows[split] for split in ("test", "validation") if split in rows), None)
    if evaluated is not None and not faults:
        faults += _shot_faults(task, evaluated, folder, console)
    return faults


def _shot_faults(task: Task, evaluated: list[Row], folder: Path, console: Console) -> list[str]:
    """What ``run`` would refuse about the task's own few-shot examples."""
    from dasd_bench.evaluation.evaluator import fewshot_rows
    from dasd_bench.tasks import derive

    config = derive.config_of(task)
    shots = derive.task_shots(task, config, None)
    split = derive.fewshot_split(config) if shots else None
    if split is not None and not split_file(folder / task.data.folder, split).exists():
        console.warn(f"{task.name}: its {shots} shots come from the split '{split}', which is missing.")
        return []
    try:
        fewshot_rows(task, config, shots, evaluated, folder, True)
    except UsageError as error:
        console.warn(str(error))
    except DasdError as error:
        return [str(error)]
    return []


def _checksum_faults(folder: Path, names: set[str]) -> list[str]:
    sums = folder / "SHA256SUMS"
    if not sums.is_file():
        return []
    faults = []
    for line in read_text(sums).splitlines():
        expected, _, name = line.partition(" ")
        path = folder / name.strip().lstrip("*").removeprefix("./")
        if path.parent.name not in names or path.suffix != ".jsonl":
            continue
        if not path.is_file():
            faults.append(f"{path} is listed in SHA256SUMS but missing.")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            faults.append(f"{path} differs from its checksum in SHA256SUMS; download it again.")
    return faults


@data_group.command("prepare")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("-t", "--tasks", required=True, help="Tasks, comma-separated.")
@click.option("--offline", is_flag=True, help="Never contact the hub: built-in tasks only.")
@plugins_option
@json_option
def prepare(folder: Path, tasks: str, offline: bool, plugins: tuple[Path, ...], json_events: bool) -> None:
    """Write the rows of tasks, from the hub or built in, to FOLDER as JSON Lines, for use without network access."""
    from dasd_bench.tasks.loading import load_rows, real_split

    console = Console(json_events=json_events)
    for task in _chosen(discover(plugins), tasks):
        for split in task.data.splits:
            path = folder / task.data.folder / f"{real_split(task, split)}.jsonl"
            if path.exists():
                console.say(f"{path} already exists and is kept.", path=str(path))
                continue
            loaded = load_rows(task, split, offline=offline)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, dump_rows(loaded.rows))
            console.result(f"{path}: {len(loaded.rows)} rows from {loaded.source}", path=str(path))
