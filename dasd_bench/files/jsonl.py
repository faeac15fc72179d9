"""JSON lines, read and written through the ``jsonlines`` library: the one place that knows the format.

What a user gives may also be compressed with gzip, begin with a byte-order mark, or be one JSON array of objects.
Only a line feed ends a row: JSON strings may hold the other line separators that ``str.splitlines`` cuts at.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import itertools
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, cast

import jsonlines

from dasd_bench.errors import DasdError, DataError
from dasd_bench.files.json_file import parse
from dasd_bench.files.text import check_not_waiting, kind_of, reason_of, shown

Row = dict[str, Any]

ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".json.gz")
"""Names that a file of rows may end in, the first one that is there wins."""

_GZIP = b"\x1f\x8b"


def numbered_rows(
    path: Path, *, error: type[DasdError] = DataError, hint: str = "", torn_end: bool = False
) -> Iterator[tuple[int, Row]]:
    """The rows of a file with their numbers: the line in JSON lines, the place in a JSON array, both from 1.

    ``torn_end`` leaves out a last line without its line feed: a write that was cut off. Raises ``error`` with file,
    line and ``hint`` (what to do) for anything that is no row; a missing file raises :class:`FileNotFoundError`.
    """
    advice = f"; {hint}" if hint else ""
    check_not_waiting(path, error)
    try:
        with path.open("rb") as raw, _unpacked(raw) as file:
            head = _start(file)
            if head.removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"[":
                yield from _array(head + file.read(), path, error, advice)
                return
            lines: Iterable[bytes] = itertools.chain(io.BytesIO(head), file)
            if torn_end:
                lines = (line for line in lines if line.endswith(b"\n"))
            yield from _lines(lines, path, error, advice)
    except FileNotFoundError:
        raise
    except (EOFError, zlib.error, gzip.BadGzipFile) as fault:
        raise error(f"{path} is damaged: it cannot be decompressed ({fault}){advice}.") from None
    except (OSError, ValueError) as fault:
        raise error(f"{shown(path)} cannot be read ({reason_of(fault)}){advice}.") from None


def read_rows(path: Path, *, error: type[DasdError] = DataError, hint: str = "", torn_end: bool = False) -> list[Row]:
    """All rows of a file in order; raises as :func:`numbered_rows` does."""
    return [row for _, row in numbered_rows(path, error=error, hint=hint, torn_end=torn_end)]


def parse_rows(
    data: bytes, path: Path, *, error: type[DasdError] = DataError, hint: str = "", torn_end: bool = False
) -> Iterator[tuple[int, Row]]:
    """The rows of JSON lines in memory with their line numbers, as :func:`numbered_rows` reads a file's."""
    lines: Iterable[bytes] = io.BytesIO(data)
    if torn_end:
        lines = (line for line in lines if line.endswith(b"\n"))
    return _lines(lines, path, error, f"; {hint}" if hint else "")


def dump_rows(rows: Iterable[Row]) -> bytes:
    """Rows as JSON lines in UTF-8: equal rows give equal bytes."""
    buffer = io.StringIO()
    with jsonlines.Writer(buffer) as writer:
        writer.write_all(rows)
    return buffer.getvalue().encode("utf-8")


def split_file(folder: Path, split: str) -> Path:
    """The file of a split in a data folder: ``<split>.jsonl``, or its other :data:`ENDINGS` where that is missing."""
    found = (folder / f"{split}{ending}" for ending in ENDINGS)
    return next((path for path in found if path.exists()), folder / f"{split}.jsonl")


@contextlib.contextmanager
def _unpacked(raw: io.BufferedReader) -> Iterator[IO[bytes]]:
    if raw.peek(2)[:2] == _GZIP:
        with gzip.GzipFile(fileobj=raw) as file:
            yield cast(IO[bytes], file)
    else:
        yield raw


def _start(file: IO[bytes]) -> bytes:
    """The file up to the end of its first line that is not blank."""
    start = b""
    while line := file.readline():
        start += line
        if line.strip():
            break
    return start


def _lines(lines: Iterable[bytes], path: Path, error: type[DasdError], advice: str) -> Iterator[tuple[int, Row]]:
    number = 0

    def counted() -> Iterator[bytes]:
        nonlocal number
        try:
            for number, line in enumerate(lines, 1):  # noqa: B007
                yield line
        except EOFError as fault:
            # The library takes an EOFError for the end of the rows: those behind the cut would be lost in silence.
            raise error(f"{path} is damaged: it cannot be decompressed ({fault}){advice}.") from None

    reader = jsonlines.Reader(counted(), loads=parse)
    try:
        for row in reader.iter(type=dict, skip_empty=True):
            yield number, row
    except jsonlines.InvalidLineError as fault:
        cause = fault.__cause__
        if isinstance(cause, UnicodeDecodeError):
            raise error(f"{path}, line {fault.lineno}: not UTF-8 text; save the file as UTF-8.") from None
        if cause is None:
            found = kind_of(parse(str(fault.line).lstrip("\ufeff\x1e")))
            raise error(f"{path}, line {fault.lineno}: a JSON object is expected, found {found}{advice}.") from None
        raise error(f"{path}, line {fault.lineno}: not a JSON row ({cause}){advice}.") from None


def _array(data: bytes, path: Path, error: type[DasdError], advice: str) -> Iterator[tuple[int, Row]]:
    try:
        rows = parse(data.decode("utf-8-sig"))
    except UnicodeDecodeError as fault:
        raise error(f"{path} is not UTF-8 text (byte {fault.start}); save it as UTF-8.") from None
    except ValueError as fault:
        raise error(f"{path}: not a JSON array of rows ({fault}){advice}.") from None
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise error(f"{path}, row {number}: a JSON object is expected, found {kind_of(row)}{advice}.")
        yield number, row
