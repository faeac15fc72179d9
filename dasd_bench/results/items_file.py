"""``items-<hash>.parquet``: the values per test item of a large run, which would make its ``results.json`` grow.

One row per model, task and item, one row group per model and task::

    arm, seed, point   "base" or the arm's label; seed is null for the base, point for the adapter at the end
    task, item         the task's name, the item's position
    score, confidence, nll, nll_tokens, numeric_nll, numeric_nll_tokens, own_nll, own_nll_tokens, groups

A column is null where a model has no such value. See :class:`dasd_bench.results.schema.TaskScore`.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dasd_bench.errors import StoreError
from dasd_bench.store.atomic import write_bytes

if TYPE_CHECKING:
    from dasd_bench.results.schema import ReferenceNll, RunResults, TaskScore

PATTERN = "items-*.parquet"
"""The files of this kind in a run directory: of finished runs one at most."""

HINT = "copy it from the original run, or run the command again to rebuild it"

Columns = dict[str, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Place:
    """One model's score on one task; ``put`` puts another score in its place."""

    arm: str
    seed: int | None
    point: float | None
    task: str
    score: TaskScore
    put: Callable[[TaskScore], None]

    @property
    def key(self) -> tuple[str, int | None, float | None, str]:
        """What a row group is found by."""
        return self.arm, self.seed, self.point, self.task


def places(results: RunResults) -> Iterator[Place]:
    """Every score of a run: the base's, then by arm and seed that of each point during training and the last."""

    def of(arm: str, seed: int | None, point: float | None, scores: dict[str, TaskScore]) -> Iterator[Place]:
        for task, score in list(scores.items()):
            yield Place(arm, seed, point, task, score, lambda new, task=task: scores.__setitem__(task, new))  # type: ignore[misc]

    yield from of("base", None, None, results.base)
    for arm in results.arms:
        for one in arm.seeds:
            for point in one.points:
                yield from of(arm.label, one.seed, point.fraction, point.scores)
            yield from of(arm.label, one.seed, None, one.scores)


def count_values(results: RunResults) -> int:
    """How many values per item a run holds: a list of all items counts for each kind of value."""
    return sum(place.score.n * (1 + 5 * (place.score.reference_nll is not None)) for place in places(results))


def write_items(folder: Path, results: RunResults) -> str:
    """Writes the values per item of all scores, atomically, and gives the file's name; equal values, equal name."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = pa.float64()
    whole = pa.int64()
    name = pa.dictionary(pa.int32(), pa.string())
    schema = pa.schema(
        [
            ("arm", name),
            ("seed", whole),
            ("point", number),
            ("task", name),
            ("item", pa.int64()),
            ("score", number),
            ("confidence", number),
            ("nll", number),
            ("nll_tokens", whole),
            ("numeric_nll", number),
            ("numeric_nll_tokens", whole),
            ("own_nll", number),
            ("own_nll_tokens", whole),
            ("groups", pa.map_(pa.string(), pa.string())),
        ]
    )
    target = io.BytesIO()
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for place in places(results):
            n = place.score.n
            key = {"arm": place.arm, "seed": place.seed, "point": place.point, "task": place.task}
            columns = {name: [value] * n for name, value in key.items()} | _columns(place.score)
            writer.write_table(pa.table(columns, schema=schema), row_group_size=max(1, n))
    data = target.getvalue()
    written = f"items-{hashlib.sha256(data).hexdigest()[:16]}.parquet"
    write_bytes(folder / written, data)
    return written


def _columns(score: TaskScore) -> Columns:
    n, nll = score.n, score.reference_nll
    none: Sequence[Any] = [None] * n
    own_nll, own_tokens = list(none), list(none)
    if nll is not None and nll.own is not None:
        for item, value, tokens in zip(nll.own.items, nll.own.per_item, nll.own.tokens_per_item, strict=True):
            own_nll[item], own_tokens[item] = value, tokens
    names = list(score.groups)
    groups = [list(zip(names, values, strict=True)) for values in zip(*score.groups.values(), strict=True)]
    return {
        "item": range(n),
        "score": score.values(),
        "confidence": score.confidence or none,
        "nll": none if nll is None else nll.per_item or none,
        "nll_tokens": none if nll is None else nll.tokens_per_item or none,
        "numeric_nll": none if nll is None else nll.numeric_per_item or none,
        "numeric_nll_tokens": none if nll is None else nll.numeric_tokens_per_item or none,
        "own_nll": own_nll,
        "own_nll_tokens": own_tokens,
        "groups": groups or none,
    }


def without_items(score: TaskScore) -> TaskScore:
    """The score with empty lists where it has a value per item."""
    nll = score.reference_nll
    if nll is not None:
        own = None if nll.own is None else replace(nll.own, items=[], per_item=[], tokens_per_item=[])
        empty: dict[str, Any] = {"per_item": [], "numeric_per_item": []}
        nll = replace(nll, **empty, tokens_per_item=[], numeric_tokens_per_item=[], own=own)
    return replace(
        score,
        correct=None if score.correct is None else [],
        scores=None if score.scores is None else [],
        confidence=[],
        groups={name: [] for name in score.groups},
        reference_nll=nll,
    )


def read_items(path: Path, results: RunResults) -> None:
    """Fills in what :func:`without_items` took away.

    Raises :class:`StoreError` where the file is missing, damaged, or another run's.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}): {HINT}.") from None
    if path.stem.removeprefix("items-") != hashlib.sha256(data).hexdigest()[:16]:
        raise StoreError(f"{path} is damaged: {HINT}.")
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        groups = [file.read_row_group(number).to_pydict() for number in range(file.num_row_groups)]
    except pa.ArrowException as error:
        raise StoreError(f"{path} cannot be read ({error}): {HINT}.") from None
    found = {tuple(one[name][0] for name in ("arm", "seed", "point", "task")): one for one in groups if one["item"]}
    for place in places(results):
        if place.score.n:
            columns = found.get(place.key)
            if columns is None or len(columns["item"]) != place.score.n:
                raise StoreError(f"{path} does not hold the items of {place.arm} on {place.task}: {HINT}.")
            place.put(_filled(place.score, columns))


def _filled(score: TaskScore, columns: Columns) -> TaskScore:
    values = columns["score"]
    groups: dict[str, list[str]] = {name: [] for name in score.groups}
    for one in columns["groups"] if groups else ():
        for name, group in one:
            groups[name].append(group)
    return replace(
        score,
        correct=None if score.correct is None else [int(value) for value in values],
        scores=None if score.scores is None else list(values),
        confidence=_present(columns["confidence"]),
        groups=groups,
        reference_nll=None if score.reference_nll is None else _filled_nll(score.reference_nll, columns),
    )


def _filled_nll(nll: ReferenceNll, columns: Columns) -> ReferenceNll:
    own = nll.own
    if own is not None:
        items = [item for item, value in enumerate(columns["own_nll_tokens"]) if value is not None]
        own = replace(
            own,
            items=items,
            per_item=[columns["own_nll"][item] for item in items],
            tokens_per_item=[columns["own_nll_tokens"][item] for item in items],
        )
    return replace(
        nll,
        per_item=_present(columns["nll"]),
        tokens_per_item=_present(columns["nll_tokens"]),
        numeric_per_item=_present(columns["numeric_nll"]),
        numeric_tokens_per_item=_present(columns["numeric_nll_tokens"]),
        own=own,
    )


def _present(values: Sequence[Any]) -> list[Any]:
    """The values of a column that a model has; a column is whole or null."""
    return [value for value in values if value is not None]
