"""The store: content-addressed results of stages, shared by runs, methods, seeds and processes.

An entry is a folder ``<root>/<stage>/<key>/``. While a stage works it adds shards (each atomic); ``done.json``, written
last, holds the size and sha256 of every file, so a half-written or damaged entry is never taken for a finished one.
Keys are hashes of the stage's name, its configuration and the keys of its inputs: the same work is never done twice,
and a killed run goes on from its last finished shard.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from dasd_bench.errors import StoreError
from dasd_bench.store.atomic import digest, disk_errors, write_bytes, write_json
from dasd_bench.store.locks import FileLock

Row = dict[str, Any]

FORMAT = {
    "generate": 2,
    "dual": 2,
    "targets": 2,
    "score": 2,
    "nll": 2,
    "train": 2,
    "evaluate": 3,
    "outputs": 1,
    "drift": 2,
}
"""The version of each stage's stored format and code; raising one makes its old entries unreachable."""


def stage_key(stage: str, *parts: Any) -> str:
    """The key of a stage: sha256 of its name, its format version and ``parts`` (configuration, keys of inputs)."""
    return digest(stage, FORMAT[stage], *parts)


@dataclass(frozen=True, slots=True)
class Entry:
    """One folder of the store."""

    stage: str
    key: str
    path: Path

    @property
    def _done(self) -> Path:
        return self.path / "done.json"

    def finished(self) -> bool:
        """True where the stage is complete and its files have the recorded sizes."""
        try:
            record = json.loads(self._done.read_text(encoding="utf-8"))
            return all((self.path / name).stat().st_size == size for name, (size, _) in record["files"].items())
        except (OSError, ValueError, KeyError):
            return False

    def meta(self) -> Row:
        """What ``finish`` was given."""
        record: Row = json.loads(self._done.read_text(encoding="utf-8"))
        meta: Row = record["meta"]
        return meta

    def verify(self) -> bool:
        """True where every file still has its recorded sha256."""
        record = json.loads(self._done.read_text(encoding="utf-8"))
        return all(_sha256(self.path / name) == sha for name, (_, sha) in record["files"].items())

    def finish(self, meta: Row) -> None:
        """Marks the entry complete: everything in its folder now is what the stage made."""
        files = {
            path.relative_to(self.path).as_posix(): [path.stat().st_size, _sha256(path)]
            for path in sorted(self.path.rglob("*"))
            if path.is_file() and path.name != "done.json" and not path.name.startswith(".")
        }
        write_json(self._done, {"stage": self.stage, "key": self.key, "files": files, "meta": meta})

    def discard(self) -> None:
        """Removes a damaged entry."""
        shutil.rmtree(self.path, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Store:
    """The folder of all entries."""

    root: Path

    def entry(self, stage: str, key: str) -> Entry:
        """The entry of a stage and key, finished or not."""
        return Entry(stage, key, self.root / stage / key[:40])

    def get_or_make(
        self, stage: str, key: str, make: Callable[[Entry], Row], on_wait: Callable[[str], None]
    ) -> tuple[Entry, bool]:
        """The finished entry, and whether it was there already.

        ``make`` fills the entry's folder and returns its meta data; it may find shards of a killed run there. One
        process makes an entry, others wait for it. A damaged entry is made again.
        """
        entry = self.entry(stage, key)
        if entry.finished() and entry.verify():
            return entry, True
        with FileLock(self.root / "locks" / f"{stage}-{key[:40]}.lock", on_wait=on_wait):
            if entry.finished():
                if entry.verify():
                    return entry, True
                on_wait(f"The stored {stage} result {key[:12]} is damaged; it is made again.")
                entry.discard()
            with disk_errors(entry.path):
                entry.path.mkdir(parents=True, exist_ok=True)
                entry.finish(make(entry))
        return entry, False


class DiskShards:
    """Shards of an unfinished or finished stage as JSON-lines files: get and put by key, each put atomic."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> list[Row] | None:
        """The rows of a finished shard, else None."""
        path = self._folder / f"{key}.jsonl"
        try:
            return read_lines(path)
        except (FileNotFoundError, ValueError):
            return None

    def put(self, key: str, rows: list[Row]) -> None:
        """Stores the rows of a shard."""
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_bytes(self._folder / f"{key}.jsonl", text.encode("utf-8"))


def read_lines(path: Path) -> list[Row]:
    """The rows of a JSON-lines file that this program wrote; raises :class:`ValueError` for a torn one.

    Only "\\n" ends a row: JSON strings may hold the other line separators that ``str.splitlines`` cuts at.
    """
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def save_ragged(path: Path, fields: Mapping[str, Sequence[npt.NDArray[Any]]], rows: Sequence[Row]) -> None:
    """Writes arrays of unlike lengths, one per item and field, and one JSON row per item: deterministic bytes."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, items in fields.items():
        arrays[name] = np.concatenate(items) if items else np.zeros(0, dtype=np.int32)
        arrays[f"{name}.length"] = np.array([len(item) for item in items], dtype=np.int64)
    write_bytes(path, save(arrays, metadata={"rows": json.dumps(list(rows), ensure_ascii=False, sort_keys=True)}))


def load_ragged(path: Path) -> tuple[dict[str, list[npt.NDArray[Any]]], list[Row]]:
    """Reads what :func:`save_ragged` wrote; raises :class:`StoreError` for a damaged file."""
    try:
        arrays = load_file(path)
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        rows = json.loads(header["__metadata__"]["rows"])
        fields = {}
        for name in (n for n in arrays if not n.endswith(".length")):
            cuts = np.cumsum(arrays[f"{name}.length"])[:-1]
            fields[name] = [np.ascontiguousarray(part) for part in np.split(arrays[name], cuts)] if rows else []
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise StoreError(f"{path} is damaged ({error}); delete its folder and run the same command again.") from error
    return fields, rows


def shards_of(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Cuts items into fixed shards of at most ``size``: indices by length (longest first, then by position)."""
    return even_shards(sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)), size)


def even_shards(order: Sequence[int], size: int) -> list[list[int]]:
    """``order`` in as few pieces of at most ``size`` as there must be, all of one size but for one item."""
    count = -(-len(order) // size)
    return [list(order[len(order) * i // count : len(order) * (i + 1) // count]) for i in range(count)]


def gather(count: int, pieces: Iterable[tuple[Sequence[int], Sequence[Any]]]) -> list[Any]:
    """Puts the results of shards back into the order of the items."""
    results: list[Any] = [None] * count
    for indices, values in pieces:
        for index, value in zip(indices, values, strict=True):
            results[index] = value
    return results


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
