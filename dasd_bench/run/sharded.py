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
from dasd_bench.engine.side_by_side import side_by_side
from dasd_bench.store.store import Entry, Row, Store, gather, parse_ragged, ragged_bytes, shards_of

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
    at_once: int = 1,
) -> tuple[list[T], bool]:
    """Results of all items in order, and whether the store had them.

    ``lengths`` are token counts by which items are grouped; ``compute`` gets the indices of one shard, ``at_once``
    shards are computed side by side in threads. ``kind`` is a dataclass whose numpy fields are stored as arrays and the
    others as JSON.
    """
    shards = shards_of(lengths, shard_size)

    def make(entry: Entry) -> Row:
        missing = []
        with console.progress(label, len(lengths)) as meter:
            for number, indices in enumerate(shards):
                if entry.get(_shard(number)) is None:
                    missing.append(number)
                else:
                    meter.go_on(len(indices))

            def one(number: int) -> None:
                with meter.part(len(shards[number])) as report:
                    items = compute(shards[number], report)
                entry.put(_shard(number), ragged_bytes(*pack(items)))

            side_by_side(one, missing, at_once)
        return {"items": len(lengths), "shards": len(shards), "computed": len(missing)}

    entry, reused = store.get_or_make(stage, key, make, console.notice)
    pieces = []
    for number, indices in enumerate(shards):
        name = _shard(number)
        pieces.append((indices, unpack(kind, *parse_ragged(entry.read(name), entry.path / name))))
    return gather(len(lengths), pieces), reused


def _shard(number: int) -> str:
    return f"{number:05d}.safetensors"


def pack(items: Sequence[Any]) -> tuple[dict[str, list[Any]], list[Row]]:
    """Dataclass items as arrays by field and JSON rows, in time linear in their number.

    An item that has None where others have an array gets an empty array, and the None in its row.
    """
    arrays: dict[str, list[Any]] = {}
    rows: list[Row] = [{} for _ in items]
    for f in dataclasses.fields(items[0]) if items else ():
        values = [getattr(item, f.name) for item in items]
        first = next((value for value in values if isinstance(value, np.ndarray)), None)
        if first is not None:
            absent = np.zeros(0, dtype=first.dtype)
            arrays[f.name] = [value if isinstance(value, np.ndarray) else absent for value in values]
        for row, value in zip(rows, values, strict=True):
            if not isinstance(value, np.ndarray):
                row[f.name] = value
    return arrays, rows


def unpack(kind: type[T], arrays: dict[str, list[Any]], rows: Sequence[Row]) -> list[T]:
    """The dataclass items that ``pack`` took apart."""
    items = []
    for index, row in enumerate(rows):
        own = {name: values[index] for name, values in arrays.items() if name not in row}
        items.append(kind(**row, **own))
    return items
