"""Engine work in fixed shards, each stored when it is finished: a killed run repeats one shard at most.

Shards are a function of the request list alone, so a continued run computes every shard in the same company as an
undisturbed one and gets the same bytes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from dasd_bench.console import Console
from dasd_bench.store.store import Entry, Row, Store, gather, load_ragged, save_ragged, shards_of

T = TypeVar("T")
Report = Callable[[int, int], None]
"""Called with (items done, tokens) while a shard is computed."""


def run_sharded(
    store: Store,
    console: Console,
    stage: str,
    key: str,
    kind: type[T],
    lengths: Sequence[int],
    compute: Callable[[Sequence[int], Report], Sequence[T]],
    *,
    shard_size: int,
    label: str,
) -> tuple[list[T], bool]:
    """Results of all items in order, and whether the store had them.

    ``lengths`` are token counts by which items are grouped; ``compute`` gets the indices of one shard. ``kind`` is a
    dataclass whose numpy fields are stored as arrays and the others as JSON.
    """
    shards = shards_of(lengths, shard_size)

    def make(entry: Entry) -> Row:
        computed = 0
        with console.progress(label, len(lengths)) as meter:
            for number, indices in enumerate(shards):
                path = entry.path / f"{number:05d}.safetensors"
                if path.exists():
                    meter.advance(len(indices))
                    continue
                before = meter.done
                items = compute(indices, meter.advance)
                meter.advance(len(indices) - (meter.done - before))
                save_ragged(path, *pack(items))
                computed += 1
        return {"items": len(lengths), "shards": len(shards), "computed": computed}

    entry, reused = store.get_or_make(stage, key, make, console.say)
    pieces = []
    for number, indices in enumerate(shards):
        pieces.append((indices, unpack(kind, *load_ragged(entry.path / f"{number:05d}.safetensors"))))
    return gather(len(lengths), pieces), reused


def pack(items: Sequence[Any]) -> tuple[dict[str, list[Any]], list[Row]]:
    """Dataclass items as arrays by field and JSON rows; a None array is stored as an empty one and a flag."""
    arrays: dict[str, list[Any]] = {}
    rows: list[Row] = [{} for _ in items]
    for index, item in enumerate(items):
        for f in dataclasses.fields(item):
            value = getattr(item, f.name)
            if isinstance(value, np.ndarray):
                arrays.setdefault(f.name, [np.zeros(0, dtype=value.dtype) for _ in items])[index] = value
            else:
                rows[index][f.name] = value
    return arrays, rows


def unpack(kind: type[T], arrays: dict[str, list[Any]], rows: Sequence[Row]) -> list[T]:
    """The dataclass items that ``pack`` took apart."""
    items = []
    for index, row in enumerate(rows):
        own = {name: values[index] for name, values in arrays.items() if name not in row}
        items.append(kind(**row, **own))
    return items
