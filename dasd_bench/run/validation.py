"""Validation data: rows of the train split that are evaluated on and never trained on. The test split is not read."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from dasd_bench.config.spec import RunSpec
from dasd_bench.console import Console
from dasd_bench.errors import DataError, UsageError
from dasd_bench.registry import Registry
from dasd_bench.run.data import (
    TaskData,
    data_folder,
    examples_key,
    load_data,
    prompt_key,
    styled,
    train_rows,
    train_tasks,
)
from dasd_bench.store.atomic import digest
from dasd_bench.tasks.loading import examples_of
from dasd_bench.types import Example

SEED = 0x5EED
"""Which rows are taken is the same for every run, so that sweeps can be compared."""


def load_validation(spec: RunSpec, registry: Registry, console: Console) -> list[TaskData]:
    """The tasks of a run with ``spec.validation`` rows of each train split as their evaluated rows.

    They are rows that ``--train-limit`` leaves out where those are enough: then training data, and every target and
    score made of it, are those of the final run. Else they are taken out of the training rows. Rows whose prompt is
    also a training prompt are passed over.
    """
    if spec.train_files:
        raise UsageError(
            "--validation (and a sweep) scores held-out rows of the tasks' train split, and rows of --train-file "
            "cannot be scored; give --train-tasks instead."
        )
    names = train_tasks(spec, registry)
    data = load_data(replace(spec, tasks=(), train_tasks=names), registry, console)
    data_dir = data_folder(spec)
    left_out = [name for name in spec.tasks if name not in names]
    splitless = [name for name in left_out if "train" not in registry.task(name).item.data.splits]
    untrained = [name for name in left_out if name not in splitless]
    for reason, tasks in (("without a train split", splitless), ("that are not trained on", untrained)):
        if tasks:
            console.say(f"Validation leaves out tasks {reason}: {', '.join(tasks)}.")
    found = []
    for one in data:
        if not one.train:
            continue
        loaded = train_rows(spec, one.task)
        every = styled(one.task, examples_of(one.task, loaded, "train"), spec.reference_style)
        used = {example.id for example in one.train}
        trained = [i for i, example in enumerate(every) if example.id in used]
        chosen = choose(every, trained, spec.validation, one.name)
        taken = {every[i].id for i in chosen}
        train = [example for example in one.train if example.id not in taken]
        test = [every[i] for i in chosen]
        same = len(train) == len(one.train)
        found.append(
            replace(
                one,
                train=train,
                train_key=one.train_key if same else digest(one.train_key, sorted(taken)),
                test=test,
                test_rows=[loaded.rows[i] for i in chosen],
                test_key=digest("validation", loaded.sha256, chosen, examples_key(one.task, test)),
                prompt_key=prompt_key(one.task, spec, data_dir, [loaded.rows[i] for i in chosen]),
            )
        )
        where = "none of them a training row" if same else "taken out of the training rows"
        console.say(f"[load] {one.name}: {len(test)} rows of the train split for validation, {where}")
    return found


def choose(every: list[Example], trained: list[int], count: int, name: str) -> list[int]:
    """Indices of ``count`` validation rows in order, drawn from those that are not ``trained``, else from among them.

    Raises :class:`UsageError` where training would be left with nothing.
    """
    rng = np.random.default_rng(SEED)
    prompts = Counter(every[i].prompt for i in trained)
    spare = [i for i, example in enumerate(every) if example.prompt not in prompts]
    if len(spare) >= count:
        return sorted(int(i) for i in rng.choice(spare, size=count, replace=False))
    if count >= len(trained):
        raise UsageError(
            f"Task '{name}': {count} validation rows cannot be taken from {len(every)} training rows, of which "
            f"{len(trained)} are used for training; lower --validation or --train-limit."
        )
    single = [i for i in map(int, rng.permutation(trained)) if prompts[every[i].prompt] == 1]
    if len(single) < count:
        raise DataError(
            f"Task '{name}': too many training rows share a prompt to hold out {count} for validation; "
            "lower --validation."
        )
    return sorted(single[:count])
