"""The store: content-addressed results of stages, shared by runs, methods, seeds and processes.

An entry is a folder ``<root>/<stage>/<key>/``. While a stage works it adds parts, each with its sha256 in a file beside
it; ``done.json``, written last, holds the size and sha256 of every file and a sha256 of itself. So a half-written or
damaged file is never taken for a good one: it is moved to ``<root>/<stage>/.damaged/``, the user is told, and only what
it held is computed again. Keys are hashes of the stage's name, its configuration and the keys of its inputs: the same
work is never done twice, and an interrupted run resumes after its last finished part.

Not covered: a machine that computes wrongly, and someone who edits an entry together with its hashes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from dasd_bench.errors import StoreError
from dasd_bench.files.jsonl import dump_rows, parse_rows
from dasd_bench.store.atomic import (
    as_json,
    digest,
    disk_errors,
    is_plain_file,
    is_plain_folder,
    remove_leftovers,
    write_bytes,
    write_json,
    write_text,
)
from dasd_bench.store.journal import FOLDER as JOURNALS
from dasd_bench.store.journal import RunJournal
from dasd_bench.store.locks import FileLock

Row = dict[str, Any]

LAYOUT = 2
"""The version of an entry's files (``done.json``, hashes of parts); raising it makes all old entries unreachable."""


KINDS = (
    *("generate", "dual", "score", "remember", "round"),
    *("warmup", "targets", "scores", "train", "evaluate", "nll", "outputs", "drift"),
    *("compare", "rewrites", "constructed", "views", "flips"),
)
"""The folders of entries: kinds of engine work and of stages. Nothing in another folder is ever pruned."""


def stage_key(stage: str, version: int, *parts: Any) -> str:
    """The key of a stage: sha256 of its name, the version of its stored form and all that its result depends on."""
    return digest(LAYOUT, stage, version, *parts)


DONE = "done.json"
LOCKS = "locks"
DAMAGED = ".damaged"
"""The folder of a stage where damaged files are moved to."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished entry: its folder, the size in bytes and sha256 of every file, and what the stage returned.

    ``inputs`` names the entries (``<stage>/<key>``) that were read or made while it was made.
    """

    path: Path
    files: Mapping[str, tuple[int, str]]
    meta: Row
    inputs: tuple[str, ...]

    def read(self, name: str) -> bytes:
        """The bytes of a file; raises :class:`StoreError` where they are not those that the stage wrote."""
        try:
            data = (self.path / name).read_bytes()
        except OSError as error:
            raise StoreError(
                f"{self.path / name} cannot be read ({error.strerror}); run the same command again."
            ) from error
        if hashlib.sha256(data).hexdigest() != self.files[name][1]:
            raise StoreError(f"{self.path / name} was damaged while in use; run the same command again to repair it.")
        return data

    def damaged(self) -> list[str]:
        """The names of files that are missing or have other bytes than the stage wrote."""
        return [
            name
            for name, (size, sha) in self.files.items()
            if not self._has_size(name, size) or _sha256(self.path / name) != sha
        ]

    def has_sizes(self) -> bool:
        """True where every file is there with its recorded size: a quick look that reads no file."""
        return all(self._has_size(name, size) for name, (size, _) in self.files.items())

    def _has_size(self, name: str, size: int) -> bool:
        path = self.path / name
        # The second condition: no folder on the way is a link, so nothing outside the store counts.
        return (
            is_plain_file(path)
            and path.parent.resolve() == (self.path.resolve() / name).parent
            and path.stat().st_size == size
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """One folder of the store, finished or not."""

    stage: str
    key: str
    path: Path

    @property
    def _done(self) -> Path:
        return self.path / DONE

    def finished(self) -> Finished | None:
        """What the stage made, where it is complete and its files have the recorded sizes."""
        found = self._record()
        return found if found is not None and found.has_sizes() else None

    def _record(self) -> Finished | None:
        """``done.json``; None where there is none or where it is not, to the last byte, what :meth:`finish` wrote."""
        if not is_plain_folder(self.path) or not is_plain_file(self._done):
            return None
        try:
            record = json.loads(self._done.read_text(encoding="utf-8"))
            seal = record.pop("sha256")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        if seal != digest(record) or (record["stage"], record["key"]) != (self.stage, self.key):
            return None
        return self._from_record(record)

    def _from_record(self, record: Row) -> Finished:
        files = {name: (size, sha) for name, (size, sha) in record["files"].items()}
        return Finished(self.path, files, record["meta"], tuple(record["inputs"]))

    def put(self, name: str, data: bytes) -> None:
        """Writes a file of the stage, atomically and with its sha256 beside it: :meth:`get` finds it after a kill."""
        path = self.path / name
        for place in (path, _sidecar(path)):
            if is_plain_folder(place):
                self.set_aside(place)
        for folder in reversed(path.relative_to(self.path).parents[:-1]):
            if not is_plain_folder(self.path / folder):
                self.set_aside(self.path / folder)
        # The hash goes first: killed between the two, the part is missing, and not one that nothing vouches for.
        write_text(_sidecar(path), hashlib.sha256(data).hexdigest())
        write_bytes(path, data)

    def get(self, name: str) -> bytes | None:
        """The bytes of a file that :meth:`put` wrote, or None where there is none, or not with the same bytes."""
        path = self.path / name
        if not is_plain_file(path):
            return None
        data = path.read_bytes()
        return data if hashlib.sha256(data).hexdigest() == _noted_sha256(path) else None

    def finish(self, meta: Row, inputs: Sequence[str] = ()) -> Finished:
        """Marks the entry complete: everything in its folder now is what the stage made, hidden files aside.

        Raises :class:`StoreError` where a part that :meth:`put` wrote is gone.
        """
        files = {}
        for path in sorted(self.path.rglob("*")):
            name = path.relative_to(self.path).as_posix()
            hidden = any(part.startswith(".") for part in name.split("/")[:-1])
            if not hidden and path.name.startswith(".") and path.name.endswith(".sha256"):
                if not is_plain_file(_part(path)):
                    raise StoreError(f"{_part(path)} was removed while in use; run the same command again.")
            elif not hidden and not path.name.startswith(".") and is_plain_file(path) and name != DONE:
                # A part damaged since it was written must not be recorded as right.
                files[name] = [path.stat().st_size, _noted_sha256(path) or _sha256(path)]
        facts = {"stage": self.stage, "key": self.key, "files": files, "meta": meta, "inputs": inputs}
        record = json.loads(as_json(facts))
        write_json(self._done, record | {"sha256": digest(record)})
        return self._from_record(record)

    def repair(self) -> list[str]:
        """Sets aside what is damaged and gives its names; the rest stays for the stage to go on with.

        Only for the holder of the entry's lock. Links, FIFOs and the like go too: a stage would write through them.
        """
        if not os.path.lexists(self.path):
            return []
        if not is_plain_folder(self.path):
            self.set_aside(self.path)
            return [self.path.name]
        remove_leftovers(self.path)
        strange = [
            path
            for folder, folders, files in os.walk(self.path)
            for path in (Path(folder) / name for name in [*folders, *files])
            if not is_plain_file(path) and not is_plain_folder(path)
        ]
        record = self._record()
        if record is not None:
            strange += [self.path / name for name in record.damaged()]
            self._done.unlink()
        elif os.path.lexists(self._done):
            strange.append(self._done)
        for note in self.path.rglob(".*.sha256"):
            part = _part(note)
            if os.path.lexists(part) and (not is_plain_file(part) or _sha256(part) != _noted_sha256(part)):
                strange.append(part)
        names = sorted({path.relative_to(self.path).as_posix() for path in strange})
        for name in names:
            self.set_aside(self.path / name)
        return names

    def set_aside(self, path: Path) -> None:
        """Moves a damaged file, link or folder of this entry to the stage's ``.damaged`` folder."""
        if os.path.lexists(path):
            aside = self.path.parent / DAMAGED
            aside.mkdir(exist_ok=True)
            path.rename(aside / f"{self.key[:12]}-{path.name}-{uuid.uuid4().hex[:8]}")


@dataclass(frozen=True, slots=True)
class Store:
    """The folder of all entries, as one run sees it.

    ``used`` names the entries that the run read or made so far; ``journal`` tells others of them.
    """

    root: Path
    journal: RunJournal | None = None
    used: list[str] = field(default_factory=list, compare=False)

    def entry(self, stage: str, key: str) -> Entry:
        """The entry of a stage and key, finished or not."""
        return Entry(stage, key, self.root / stage / key[:40])

    def lock_path(self, stage: str, folder: str) -> Path:
        """The lock file of the entry in ``<stage>/<folder>``."""
        return self.root / LOCKS / f"{stage}-{folder}.lock"

    def finished(self, stage: str, key: str) -> Finished:
        """A finished entry that an earlier stage of this run made; raises :class:`StoreError` where it is gone."""
        found = self.entry(stage, key).finished()
        if found is None:
            raise StoreError(
                f"The stored {stage} result {key[:12]} was removed while in use; run the same command again."
            )
        return found

    def get_or_make(
        self, stage: str, key: str, make: Callable[[Entry], Row], say: Callable[[str], None]
    ) -> tuple[Finished, bool]:
        """The finished entry, and whether it was there already.

        ``make`` fills the entry's folder and returns its meta data; it may find parts of a killed run there. One
        process makes an entry, others wait for it. ``say`` gets a sentence on a wait, and on damaged files, which are
        made again.
        """
        entry = self.entry(stage, key)
        name = f"{stage}/{entry.path.name}"
        for folder in (stage, LOCKS, JOURNALS):
            _clear_for_folder(self.root / folder, say)
        if self.journal is not None:
            self.journal.add([name])
        found, reused = self._get_or_make(entry, make, say)
        self.used.extend([*found.inputs, name])
        if self.journal is not None and reused:
            self.journal.add(found.inputs)
        if reused:
            # The time of last use, which ``store prune`` goes by; a store that may only be read does without.
            with contextlib.suppress(OSError):
                os.utime(found.path / DONE)
        return found, reused

    def _get_or_make(
        self, entry: Entry, make: Callable[[Entry], Row], say: Callable[[str], None]
    ) -> tuple[Finished, bool]:
        found = entry.finished()
        if found is not None and not found.damaged():
            return found, True
        stage, key = entry.stage, entry.key
        with FileLock(self.lock_path(stage, entry.path.name), on_wait=say), disk_errors(entry.path):
            found = entry.finished()
            if found is not None and not found.damaged():
                return found, True
            bad = entry.repair()
            if bad:
                names = ", ".join(bad[:3]) + (f" and {len(bad) - 3} more" if len(bad) > 3 else "")
                say(
                    f"The stored {stage} result {key[:12]} is damaged ({names}); its content is recomputed, "
                    f"and the damaged files are kept in {entry.path.parent / DAMAGED}."
                )
            entry.path.mkdir(parents=True, exist_ok=True)
            before = len(self.used)
            meta = make(entry)
            return entry.finish(meta, sorted(set(self.used[before:]))), False


class EntryShards:
    """Shards of an evaluation as JSON-lines parts of an entry, removed when it is finished."""

    FOLDER = ".shards"

    def __init__(self, entry: Entry) -> None:
        self._entry = entry

    def get(self, key: str) -> list[Row] | None:
        """The rows of a finished shard, else None."""
        name = f"{self.FOLDER}/{key}.jsonl"
        data = self._entry.get(name)
        if data is None:
            return None
        return [row for _, row in parse_rows(data, self._entry.path / name, error=StoreError)]

    def put(self, key: str, rows: list[Row]) -> None:
        """Stores the rows of a shard."""
        self._entry.put(f"{self.FOLDER}/{key}.jsonl", dump_rows(rows))


ROWS = "rows"
"""The array that holds the JSON lines of a ragged file; files of earlier releases have them in the header."""


def ragged_bytes(fields: Mapping[str, Sequence[npt.NDArray[Any]]], rows: Sequence[Row]) -> bytes:
    """Arrays of unlike lengths, one per item and field, and one JSON row per item, as a safetensors file.

    The rows are JSON lines in an array of bytes: a file's header has one size, however many items there are. Equal
    input gives equal bytes.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, items in fields.items():
        arrays[name] = np.concatenate(items) if items else np.zeros(0, dtype=np.int32)
        arrays[f"{name}.length"] = np.array([len(item) for item in items], dtype=np.int64)
    lines = "".join(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows)
    arrays[ROWS] = np.frombuffer(lines.encode("utf-8"), dtype=np.uint8)
    data: bytes = save(arrays)
    return data


def save_ragged(path: Path, fields: Mapping[str, Sequence[npt.NDArray[Any]]], rows: Sequence[Row]) -> None:
    """Writes :func:`ragged_bytes` to a file."""
    write_bytes(path, ragged_bytes(fields, rows))


def parse_ragged(data: bytes, where: Path) -> tuple[dict[str, list[npt.NDArray[Any]]], list[Row]]:
    """What :func:`ragged_bytes` was given; raises :class:`StoreError` naming ``where`` for other bytes."""
    try:
        arrays = load(data)
        if ROWS in arrays:
            # Not splitlines: a string may hold other line ends.
            rows = [json.loads(line) for line in arrays.pop(ROWS).tobytes().split(b"\n")[:-1]]
        else:
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            rows = json.loads(header["__metadata__"]["rows"])
        fields = {}
        for name in (n for n in arrays if not n.endswith(".length")):
            cuts = np.cumsum(arrays[f"{name}.length"])[:-1]
            fields[name] = [np.ascontiguousarray(part) for part in np.split(arrays[name], cuts)] if rows else []
    except (ValueError, KeyError, SafetensorError) as error:
        raise StoreError(f"{where} is damaged ({error}); delete its folder and run the same command again.") from error
    return fields, rows


def load_ragged(path: Path) -> tuple[dict[str, list[npt.NDArray[Any]]], list[Row]]:
    """Reads what :func:`save_ragged` wrote; raises :class:`StoreError` for a damaged or missing file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}).") from error
    return parse_ragged(data, path)


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


def _clear_for_folder(path: Path, say: Callable[[str], None]) -> None:
    """Moves away what stands where a folder of the store belongs: a file, a FIFO, a link that leads nowhere."""
    if os.path.lexists(path) and not path.is_dir():
        aside = path.with_name(f"{DAMAGED}-{path.name}-{uuid.uuid4().hex[:8]}")
        path.rename(aside)
        say(f"{path} was not a folder; it was moved to {aside}.")


def _sidecar(path: Path) -> Path:
    return path.with_name(f".{path.name}.sha256")


def _part(sidecar: Path) -> Path:
    return sidecar.with_name(sidecar.name[1:].removesuffix(".sha256"))


def _noted_sha256(path: Path) -> str | None:
    """The sha256 noted beside a part; None where there is none."""
    note = _sidecar(path)
    if not is_plain_file(note):
        return None
    return note.read_bytes().decode("ascii", "replace")
