"""The load stage: each task's training and test rows as examples, with the hash of what was read."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dasd_bench.config.spec import RunSpec
from dasd_bench.console import Console
from dasd_bench.errors import DataError, UsageError
from dasd_bench.evaluation.evaluator import fewshot_rows
from dasd_bench.evaluation.retention import RETENTION_SETS, spread
from dasd_bench.files.text import expand_user, shown
from dasd_bench.registry import Registry
from dasd_bench.store.atomic import digest
from dasd_bench.tasks import derive
from dasd_bench.tasks.base import Row, Task
from dasd_bench.tasks.loading import LoadedRows, examples_of, load_rows, rows_sha256
from dasd_bench.tasks.overlap import Overlap, overlap
from dasd_bench.tasks.plugin_calls import contained, restyle
from dasd_bench.tasks.sampling import sample_positions
from dasd_bench.types import Example


@dataclass(frozen=True, slots=True)
class TaskData:
    """One task's data. ``train`` is empty for a task that is only evaluated, ``test`` for one only trained on."""

    name: str
    task: Task
    plugin_sha256: str
    origin: str
    source: str
    train: list[Example]
    test: list[Example]
    test_rows: list[Row]
    train_key: str
    test_key: str
    prompt_key: str
    """Hash of what decides the prompts besides the test rows: lm-eval's version, the YAML, the few-shot rows."""
    overlap: Overlap | None = None
    """What the run's training rows, of all tasks, give away of the test rows; None where nothing is tested."""
    sampling: str = ""
    """How ``--limit`` and ``--train-limit`` took the rows: ``stratified`` or ``first``; ``all rows`` where none did."""
    retention: bool = False
    """True for a set that is evaluated for forgetting: its own number of shots, rows at even distances."""


def load_data(spec: RunSpec, registry: Registry, console: Console) -> list[TaskData]:
    """Rows and examples of every task of a run, in the order named; raises for unknown names and bad rows."""
    train_names = train_tasks(spec, registry) if spec.trains or spec.train_tasks else ()
    retention = retention_sets(spec, registry, train_names, console)
    if spec.reference_style:
        check_style(spec, registry, train_names, spec.reference_style)
    names = [*spec.tasks, *(name for name in train_names if name not in spec.tasks), *retention]
    data_dir = data_folder(spec)
    loaded = []
    for name in names:
        plugin = registry.task(name)
        task = plugin.item
        if task.unsafe_code and not spec.confirm_run_unsafe_code:
            raise UsageError(
                f"Task '{name}' executes model-written code in the sandbox; allow it with --confirm-run-unsafe-code."
            )
        train: list[Example] = []
        test: list[Example] = []
        test_rows: list[Row] = []
        train_key = test_key = source = ""
        limited = False
        if name in train_names:
            rows, train, limited = limited_rows(spec, task, "train", spec.train_limit)
            train_key, source = rows.sha256, rows.source
        if name in spec.tasks or name in retention:
            rows, test, fewer = evaluated_rows(spec, task, retention=name in retention)
            test_rows, limited = rows.rows, limited or fewer
            test_key, source = rows.sha256, rows.source
        loaded.append(
            TaskData(
                name,
                task,
                plugin.sha256,
                plugin.origin,
                source,
                train,
                test,
                test_rows,
                digest(train_key, examples_key(task, train)),
                digest(test_key, examples_key(task, test)),
                prompt_key(task, spec, data_dir, test_rows, retention=name in retention) if test else "",
                sampling=spec.sample if limited else "all rows",
                retention=name in retention,
            )
        )
        how = f" ({spec.sample})" if limited else ""
        console.say(f"[load] {name}: {len(train)} training rows, {len(test)} test rows from {source}{how}")
    return report_overlap(loaded, console)


def train_rows(spec: RunSpec, task: Task) -> LoadedRows:
    """The rows of a train split that the warm-up leaves to the methods."""
    rows = load_rows(task, "train", data_dir=data_folder(spec), offline=spec.offline)
    count = _warmup_count(spec, task, len(rows.rows))
    if not count:
        return rows
    kept = rows.rows[:-count]
    return LoadedRows(kept, rows.source, rows_sha256(kept))


def _warmup_count(spec: RunSpec, task: Task, total: int) -> int:
    """How many rows at the end of a train split are the warm-up's alone. Raises :class:`UsageError` for all of them."""
    count = spec.warmup.rows if _warms_up(spec, task) else 0
    if count and count >= total:
        raise UsageError(
            f"warmup.rows={count}: task '{task.name}' has {total} training rows, so none would be left to the methods; "
            "use fewer."
        )
    return count


def _warms_up(spec: RunSpec, task: Task) -> bool:
    """Whether the warm-up trains on the task, whatever its number of shots (``NAME@K``)."""
    return task.name.partition("@")[0] in {name.partition("@")[0] for name in spec.warmup.tasks}


def warmup_examples(spec: RunSpec, registry: Registry) -> tuple[list[Example], str]:
    """What the warm-up trains on, task by task, and the hash of it and of the code that made it."""
    if spec.warmup.style:
        check_style(spec, registry, spec.warmup.tasks, spec.warmup.style)
    examples: list[Example] = []
    key: list[object] = []
    for name in spec.warmup.tasks:
        plugin = registry.task(name)
        task = plugin.item
        if "train" not in task.data.splits:
            raise UsageError(f"warmup.tasks: task '{name}' has no train split; name another task.")
        rows = load_rows(task, "train", data_dir=data_folder(spec), offline=spec.offline)
        own = examples_of(task, rows, "train")[-_warmup_count(spec, task, len(rows.rows)) :]
        own = styled(task, own, spec.warmup.style)
        examples += own
        key.append((name, plugin.sha256, examples_key(task, own)))
    return examples, digest(key)


def check_style(spec: RunSpec, registry: Registry, names: Sequence[str], style: str) -> None:
    """Raises :class:`UsageError` for a reference style that none of the tasks ``names`` has."""
    known = {one for name in names for one in registry.task(name).item.reference_styles}
    if style not in known:
        have = f"choose from {', '.join(sorted(known))}" if known else "omit it, because they have none"
        raise UsageError(f"Unknown reference style '{shown(style)}' of the tasks {', '.join(names)}: {have}.")


def styled(task: Task, examples: list[Example], style: str) -> list[Example]:
    """The examples with references in a style; those of a task without that style as they are."""
    if style not in task.reference_styles:
        return examples
    return [replace(one, reference=restyle(task, one, style)) for one in examples]


def report_overlap(data: Sequence[TaskData], console: Console) -> list[TaskData]:
    """Compares every task's test rows with the training rows of all tasks and says what they share."""
    train = [example for one in data for example in one.train]
    found = [replace(one, overlap=overlap(train, one.test)) if one.test else one for one in data]
    for one in found:
        sentence = one.overlap.sentence() if one.overlap else ""
        if sentence:
            console.warn(f"{one.name}: {sentence}")
    clean = [one.name for one in found if one.overlap and not one.overlap.sentence()]
    if clean:
        console.say(f"[load] no train/test overlap (exact or 13-gram): {', '.join(clean)}")
    return found


def examples_key(task: Task, examples: Sequence[Example]) -> str:
    """Hash of what methods see: the examples' texts, and the task's rewrite request, markers and token budget."""
    # Keys of examples without a chat of their own stay what they were before there were any.
    texts = [(e.id, e.prompt, e.reference, e.answer, e.tests, *([e.chat] if e.chat else [])) for e in examples]
    return digest(texts, task.rewrite_instruction, task.answer_markers, task.train_new_tokens)


def data_folder(spec: RunSpec) -> Path | None:
    """The folder of ``--data-dir``, or None."""
    return expand_user(spec.data_dir, "--data-dir") if spec.data_dir else None


def limited_rows(spec: RunSpec, task: Task, split: str, limit: int) -> tuple[LoadedRows, list[Example], bool]:
    """The rows of a split that ``limit`` takes (0: all), as examples too, and whether it left any out.

    An example's id has the place of its row among all rows, however many are taken.
    """
    # The first rows are taken before they are made into examples, so that a fault behind them does not matter.
    first = spec.sample == "first" and limit
    if split == "train" and spec.warmup.rows and _warms_up(spec, task):
        rows = train_rows(spec, task)
    else:
        read = limit + 1 if first else None
        rows = load_rows(task, split, data_dir=data_folder(spec), offline=spec.offline, limit=read)
    more = 0 < limit < len(rows.rows)
    if first and more:
        rows = LoadedRows(rows.rows[:limit], rows.source, rows_sha256(rows.rows[:limit]))
    examples = styled(task, examples_of(task, rows, split), spec.reference_style)
    if first or not more:
        return rows, examples, more
    positions = sample_positions(examples, limit)
    taken = [rows.rows[i] for i in positions]
    return LoadedRows(taken, rows.source, rows_sha256(taken)), [examples[i] for i in positions], True


def evaluated_rows(spec: RunSpec, task: Task, *, retention: bool) -> tuple[LoadedRows, list[Example], bool]:
    """The rows a task is scored on, as :func:`limited_rows` gives them; of a retention set rows at even distances."""
    if not retention:
        return limited_rows(spec, task, "test", spec.limit)
    rows = load_rows(task, "test", data_dir=data_folder(spec), offline=spec.offline)
    chosen = spread(rows.rows, spec.retention_limit)
    rows = LoadedRows(chosen, rows.source, rows_sha256(chosen))
    return rows, examples_of(task, rows, "test"), False


def retention_sets(spec: RunSpec, registry: Registry, trained: Sequence[str], console: Console) -> list[str]:
    """The retention sets of a run, less what it trains or is scored on anyway.

    With ``all``, sets whose rows or packages are missing are skipped with a message; a set that was named raises.
    """
    folders = {registry.task(name).item.data.folder for name in trained}
    named = [name for name in spec.retention if name != "all"]
    found = list(named)
    absent = []
    for name in RETENTION_SETS if "all" in spec.retention else ():
        task = registry.task(name).item
        if name in named or task.data.folder in folders:
            continue
        if (missing := unavailable(spec, task)) is not None:
            absent.append(f"{name} ({missing})")
        else:
            found.append(name)
    if absent:
        console.say(f"[retention] skipped: {', '.join(absent)}.")
    for name in named:
        task = registry.task(name).item
        if task.data.folder in folders:
            raise UsageError(f"--retention {name}: this run trains on its data; omit it.")
        if (missing := lacking(task)) is not None:
            raise UsageError(f"--retention {name}: {missing}.")
    return [name for name in found if name not in spec.tasks]


def lacking(task: Task) -> str | None:
    """What a task's metric needs and this machine lacks, with what to do; None where nothing."""
    packages = [package for package in task.packages if importlib.util.find_spec(package) is None]
    if packages:
        return f"needs {', '.join(packages)}: pip install 'dasd-bench[ifeval]'"
    return contained(task, "lacking()", task.lacking)


def unavailable(spec: RunSpec, task: Task) -> str | None:
    """Why a task cannot be evaluated here, in a few words; None where it can (the hub is not asked)."""
    if (missing := lacking(task)) is not None:
        return missing
    folder = data_folder(spec)
    if folder is not None and not (folder / task.data.folder).is_dir():
        return f"no folder {task.data.folder} in the data folder"
    return "offline and no data folder" if folder is None and spec.offline else None


def prompt_key(
    task: Task, spec: RunSpec, data_dir: Path | None, scored: Sequence[Row], *, retention: bool = False
) -> str:
    """Hash of lm-eval's version, the task's YAML, the number of shots and the rows they are drawn from.

    Refuses shots that cannot be had, or that are ``scored`` themselves, before any work is done.
    """
    config = derive.config_of(task)
    shots = derive.task_shots(task, config, None if spec.num_fewshot < 0 or retention else spec.num_fewshot)
    pools = fewshot_rows(task, config, shots, scored, data_dir, spec.offline, bool(spec.validation))
    pool = "".join(rows_sha256(rows) for rows in pools.values())
    return digest(importlib.metadata.version("lm_eval"), derive.yaml_sha256(task), shots, pool)


def train_tasks(spec: RunSpec, registry: Registry) -> tuple[str, ...]:
    """The tasks trained on: files of rows and the tasks asked for, else all evaluated ones that have a train split."""
    if spec.train_tasks or spec.train_files:
        for name in spec.train_tasks:
            if "train" not in registry.task(name).item.data.splits:
                raise UsageError(f"Task '{name}' has no train split; omit it from --train-tasks.")
        return (*registry.train_files, *spec.train_tasks)
    # A task evaluated with several numbers of shots (NAME, NAME@K) is trained on once.
    trainable = [name for name in spec.tasks if "train" in registry.task(name).item.data.splits]
    names = tuple({name.partition("@")[0]: name for name in reversed(trainable)}.values())[::-1]
    if not names:
        raise UsageError(f"None of the tasks {', '.join(spec.tasks)} has a train split; name one with --train-tasks.")
    return names


def all_train(data: Sequence[TaskData]) -> list[Example]:
    """The training examples of all tasks, task by task."""
    examples = [example for one in data for example in one.train]
    if not examples:
        raise DataError("No training example was loaded; raise --train-limit or name another task.")
    return examples
