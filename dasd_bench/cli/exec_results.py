"""The result rows of ``dasd-bench exec``: written as they come, so that an interrupted run resumes where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from dataclasses import asdict, fields
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from dasd_bench.store.atomic import disk_errors
from dasd_bench.store.destination import is_stream, write_destination

if TYPE_CHECKING:
    from dasd_bench.sandbox import ExecResult, Limits, Problem

#: Changes when the sandbox's verdicts do.
_VERSION = 1


def settings_key(problem: Problem, limits: Limits, isolation: str) -> str:
    """What a result depends on beside the program: the problem and how programs are run."""
    return _digest([_VERSION, asdict(problem), asdict(limits), isolation])


def run_key(settings: str, program: str) -> str:
    """What a result depends on, in 16 hex digits: a row with the same key need not be run again."""
    return _digest([settings, program])[:16]


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def result_columns(result: ExecResult, key: str) -> dict[str, Any]:
    """A result as columns beside a sample's own."""
    return {
        "passed": result.passed,
        "result": result.outcome.value if result.signal is None else f"{result.outcome.value}({result.signal})",
        "outcome": result.outcome.value,
        "detail": result.detail,
        "signal": result.signal,
        "wall_seconds": result.wall_seconds,
        "cpu_seconds": result.cpu_seconds,
        "test_cpu_seconds": result.test_cpu_seconds,
        "peak_memory_mib": result.peak_memory_mib,
        "isolation_level": result.isolation_level,
        "run_key": key,
    }


def _result_of(row: dict[str, Any]) -> ExecResult | None:
    """The result that :func:`result_columns` wrote into a row; None for other rows and for infrastructure errors, which
    are worth another run."""
    from dasd_bench.sandbox import ExecResult, Outcome

    try:
        outcome = Outcome(row["outcome"])
        if outcome is Outcome.INFRASTRUCTURE_ERROR:
            return None
        names = [field.name for field in fields(ExecResult) if field.name not in ("task_id", "outcome")]
        return ExecResult(task_id=str(row["task_id"]), outcome=outcome, **{name: row[name] for name in names})
    except (KeyError, ValueError, TypeError):
        return None


class ResultFile:
    """The rows of ``samples`` with their results, at ``path``. Used as a context manager around the run.

    While programs run, each row is appended as its result comes; :meth:`finish` puts the rows into the samples' order.
    A device or a pipe gets them in that order from the start. Raises StoreError for a full disk.
    """

    def __init__(self, path: Path, samples: list[dict[str, Any]], keys: list[str], *, fresh: bool = False) -> None:
        self._path = path
        self._samples = samples
        self._keys = keys
        self._stream = is_stream(path)
        self._written = 0
        self._file: IO[bytes] | None = None
        self.results: list[ExecResult | None] = [None] * len(samples)
        if not (self._stream or fresh) and path.exists():
            self._read()
        self.known = sum(result is not None for result in self.results)

    @property
    def missing(self) -> list[int]:
        """The samples that have no result yet."""
        return [index for index, result in enumerate(self.results) if result is None]

    def _read(self) -> None:
        """Takes the results of an earlier run that hold for this one's samples. A last line may be cut."""
        found: dict[str, list[ExecResult]] = defaultdict(list)
        with disk_errors(self._path), self._path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    row = json.loads(line)
                    key = row["run_key"]
                except (ValueError, TypeError, KeyError, RecursionError):
                    continue
                if isinstance(key, str) and (result := _result_of(row)) is not None:
                    found[key].append(result)
        for index, key in enumerate(self._keys):
            if found[key]:
                self.results[index] = found[key].pop(0)

    def __enter__(self) -> ResultFile:
        if self._stream:
            with disk_errors(self._path):
                self._file = self._path.open("ab")
            self._write_ready()
        elif self.missing:
            write_destination(self._path, b"".join(self._row(i) for i, r in enumerate(self.results) if r is not None))
            with disk_errors(self._path):
                self._file = self._path.open("ab")
        return self

    def add(self, index: int, result: ExecResult) -> None:
        """Takes the result of a sample and writes its row."""
        self.results[index] = result
        if self._stream:
            self._write_ready()
        else:
            self._write(self._row(index))

    def _write_ready(self) -> None:
        while self._written < len(self.results) and self.results[self._written] is not None:
            self._write(self._row(self._written))
            self._written += 1

    def _write(self, row: bytes) -> None:
        assert self._file is not None
        with disk_errors(self._path):
            self._file.write(row)
            self._file.flush()

    def _row(self, index: int) -> bytes:
        result = self.results[index]
        assert result is not None
        return (json.dumps({**self._samples[index], **result_columns(result, self._keys[index])}) + "\n").encode(
            "ascii"
        )

    def finish(self) -> list[ExecResult]:
        """Writes the file anew in the samples' order; gives the results."""
        if not self._stream:
            self._close()
            write_destination(self._path, b"".join(map(self._row, range(len(self.results)))))
        return [result for result in self.results if result is not None]

    def _close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            with disk_errors(self._path):
                file.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
