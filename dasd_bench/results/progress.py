"""``.progress.json``: how far a run is, for who watches it from another process. It is there only while a run works."""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dasd_bench.console import Meter
from dasd_bench.errors import StoreError
from dasd_bench.files.json_file import read_object
from dasd_bench.results.json_codec import DecodeError, decode

METER_SECONDS = 1.0
"""Seconds between two writes within one stage."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is: stage ``number`` of ``of`` (both 0 where there is no plan), called ``stage``, for ``who``.

    ``seconds_left`` is the plan's estimate for the whole run and ``stage_seconds_left`` that of the running stage, of
    which ``done`` of ``total`` ``unit`` are finished; None where nothing is known yet. ``started`` and ``updated`` are
    seconds since the epoch.
    """

    stage: str
    who: str = ""
    number: int = 0
    of: int = 0
    seconds_left: float | None = None
    label: str = ""
    done: int = 0
    total: int = 0
    unit: str = ""
    tokens_per_second: float | None = None
    stage_seconds_left: float | None = None
    memory_gib: float = 0.0
    started: float = 0.0
    updated: float = 0.0


class ProgressFile:
    """Keeps ``path`` up to date: at every stage, and within one at most once a second.

    A file that cannot be written stops no run, and no folder is made for it: one that was removed stays removed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._now = Progress("starting", started=time.time())
        self._written = 0.0
        self._write()

    def stage(self, name: str, who: str, number: int, of: int, seconds_left: float | None) -> None:
        """A stage begins."""
        started = self._now.started
        self._now = Progress(name, who, number, of, None if seconds_left is None else round(seconds_left, 1))
        self._now = replace(self._now, started=started)
        self._write()

    def meter(self, meter: Meter) -> None:
        """The running stage advanced."""
        if time.monotonic() - self._written < METER_SECONDS:
            return
        told = meter.fields()
        self._now = replace(
            self._now,
            label=told["label"],
            done=told["done"],
            total=told["total"],
            unit=told["unit"],
            tokens_per_second=told["tokens_per_second"],
            stage_seconds_left=told["seconds_left"],
            memory_gib=told["memory_gib"],
        )
        self._write()

    def end(self) -> None:
        """The run has ended, in whatever way: what became of it stands in its manifest."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _write(self) -> None:
        self._written = time.monotonic()
        text = json.dumps(asdict(replace(self._now, updated=time.time())))
        # Not flushed to the disk: after a crash of the machine no run is at work.
        temporary = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex[:8]}")
        try:
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, self.path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def read_progress(path: Path) -> Progress | None:
    """What a run last said of itself; None where it says nothing or nothing readable."""
    try:
        found: dict[str, Any] = read_object(path)
        return decode(Progress, found)
    except (OSError, StoreError, DecodeError):
        return None
