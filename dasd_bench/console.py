"""The one console: rich on a terminal, plain lines when piped, JSON events with ``--json``."""

from __future__ import annotations

import contextlib
import copy
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import IO, Any

import psutil
import rich.console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn

PLAIN_SECONDS = 10.0
"""Seconds between two plain progress lines."""


class Meter:
    """Progress of one stage: ``advance`` by done items and, where they are counted, tokens."""

    def __init__(self, console: Console, label: str, total: int, unit: str) -> None:
        self._console = console
        self.label = label
        self.total = total
        self.unit = unit
        self.done = 0
        self.earlier = 0
        self.tokens = 0
        self._started = time.monotonic()
        self._printed = self._started
        self._bar: Progress | None = None
        self._bar_task: TaskID | None = None
        self._lock = threading.RLock()

    def advance(self, items: int = 1, tokens: int = 0) -> None:
        """Counts ``items`` finished and ``tokens`` processed, and refreshes the display; from any thread."""
        with self._lock:
            self._advance(items, tokens)

    @contextlib.contextmanager
    def part(self, items: int) -> Iterator[Callable[[int, int], None]]:
        """Counts a part of ``items``: what is reported (items, tokens) while it is computed, the rest at its end."""
        told = 0

        def report(count: int, tokens: int) -> None:
            nonlocal told
            told += count
            self.advance(count, tokens)

        yield report
        self.advance(items - told)

    def _advance(self, items: int, tokens: int) -> None:
        self.done += items
        self.tokens += tokens
        if self._console.on_progress is not None:
            self._console.on_progress(self)
        if self._bar is not None and self._bar_task is not None:
            self._bar.update(self._bar_task, completed=self.done, total=self.total, note=self._note())
        elif time.monotonic() - self._printed >= PLAIN_SECONDS:
            self._printed = time.monotonic()
            self._console.event("progress", text=f"  {self.label}: {self._counts()}, {self._note()}", **self.fields())

    def go_on(self, items: int) -> None:
        """Counts ``items`` that an earlier session finished: they say nothing of this one's rate."""
        self.done += items
        self.earlier += items

    def fields(self) -> dict[str, Any]:
        """What a machine reads: counts, seconds, rate and memory; a rate or time that is not known yet is null.

        ``earlier`` of the ``done`` items were finished in an earlier session.
        """
        seconds = time.monotonic() - self._started
        left = self._left(seconds)
        return {
            "label": self.label,
            "unit": self.unit,
            "done": self.done,
            "earlier": self.earlier,
            "total": self.total,
            "tokens": self.tokens,
            "seconds": round(seconds, 1),
            "tokens_per_second": round(self.tokens / seconds, 1) if self.tokens and seconds else None,
            "seconds_left": None if left is None else round(left, 1),
            "memory_gib": round(memory_gib(), 2),
        }

    def _counts(self) -> str:
        return f"{self.done}/{self.total} {self.unit}"

    def _left(self, seconds: float) -> float | None:
        """Seconds left at the pace of this session's ``seconds``; None before its first item."""
        now = self.done - self.earlier
        return seconds / now * (self.total - self.done) if now else None

    def _note(self) -> str:
        seconds = max(time.monotonic() - self._started, 1e-9)
        left = self._left(seconds)
        if left is None:
            return "starting"
        now = self.done - self.earlier
        rate = f"{self.tokens / seconds:,.0f} tok/s" if self.tokens else f"{now / seconds:.2f} {self.unit}/s"
        return f"{rate}, {format_seconds(left)} left, {memory_gib():.1f} GiB"


def memory_gib() -> float:
    """Memory in use now, in GiB: the GPU's where torch was loaded and uses one, else this process's."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.memory_allocated():
        return float(torch.cuda.memory_allocated()) / 2**30
    return float(psutil.Process().memory_info().rss) / 2**30


class Console:
    """Where everything a person or a machine reads goes. Messages go to standard output as lines, tables whole.

    ``mode`` is ``auto`` (rich on a terminal, else plain), or ``json`` (one JSON object a line, nothing else).
    """

    def __init__(self, *, json_events: bool = False, quiet: bool = False, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stdout
        self.json_events = json_events
        self.quiet = quiet
        self.rich = rich.console.Console(file=self._stream, soft_wrap=True, highlight=False)
        self.warnings: list[str] = []
        self.about = ""
        """For whom the running stage works and which one it is, set by a run: ``[3/22] dasd seed 0``."""
        self.on_progress: Callable[[Meter], None] | None = None
        """Called with every :class:`Meter` that advances; set by a run that others may watch."""

    def branch(self) -> Console:
        """The same console for one run of several: it has the warnings so far, and what it adds is not the others'."""
        branch = copy.copy(self)
        branch.warnings = list(self.warnings)
        return branch

    @property
    def is_terminal(self) -> bool:
        """True where rich display is used."""
        return self.rich.is_terminal and not self.json_events and not self.quiet

    def say(self, text: str, **fields: Any) -> None:
        """One line for the reader."""
        self.event("message", text=text, **fields)

    def warn(self, text: str) -> None:
        """One warning line; kept for the end of the run."""
        self.warnings.append(text)
        self.event("warning", text=f"Warning: {text}")

    def notice(self, text: str) -> None:
        """A warning line about this machine or its disk: shown even with ``--quiet``, and no part of the results."""
        self.event("warning", text=f"Warning: {text}")

    def event(self, kind: str, *, text: str = "", **fields: Any) -> None:
        """A machine-readable event; prints ``text`` in the human modes."""
        if self.json_events:
            self._stream.write(json.dumps({"event": kind, "text": text.strip(), **fields}, default=str) + "\n")
            self._stream.flush()
        elif text and (not self.quiet or kind in ("warning", "result")):
            # A terminal gets lines broken between words; a file or pipe gets each line whole.
            self.rich.print(text, markup=False, soft_wrap=not self.rich.is_terminal)

    def result(self, text: str, **fields: Any) -> None:
        """What the command was asked for (a table, a path): printed even when quiet."""
        self.event("result", text=text, **fields)

    def renderable(self, item: Any) -> None:
        """A rich table or panel; in JSON mode left out, the caller sends an event instead."""
        if not self.json_events:
            self.rich.print(item, soft_wrap=False)

    @contextlib.contextmanager
    def progress(self, label: str, total: int, unit: str = "items") -> Iterator[Meter]:
        """A :class:`Meter` shown while the block runs, with rate and time left."""
        meter = Meter(self, f"{self.about} {label}".strip(), total, unit)
        if not self.is_terminal:
            yield meter
            return
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=self.rich, transient=True) as bar:
            meter._bar = bar
            meter._bar_task = bar.add_task(label, total=total, note="starting")
            yield meter


def format_seconds(seconds: float) -> str:
    """``75.2`` as ``1m15s``; under a minute with one decimal."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m{rest:02d}s" if hours else f"{minutes}m{rest:02d}s"
