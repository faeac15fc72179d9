"""What all nodes are doing, in one view: a bar per running unit on a terminal, else a line per unit now and then."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from dasd_bench.console import PLAIN_SECONDS, Console, format_seconds
from dasd_bench.run.cluster.work import Done, Outcome


class Board:
    """Progress of the units of a run; also a context manager that takes the bars away at the end."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._finished = 0
        self._printed: dict[str, float] = {}
        self._bars: dict[str, TaskID] = {}
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._progress = Progress(*columns, console=console.rich, transient=True) if console.is_terminal else None

    def __enter__(self) -> Board:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def progress(self, title: str, fields: dict[str, Any]) -> None:
        """News of a running unit: the ``fields`` of a progress event (see :class:`dasd_bench.console.Meter`)."""
        left = fields["seconds_left"]
        rate = f"{fields['tokens_per_second']:,.0f} tok/s, " if fields["tokens_per_second"] else ""
        note = f"{rate}{format_seconds(left)} left" if left is not None else "starting"
        if self._progress is not None:
            if title not in self._bars:
                self._bars[title] = self._progress.add_task(title, total=fields["total"], note=note)
            bar = self._bars[title]
            self._progress.update(bar, completed=fields["done"], total=fields["total"], note=note)
        elif time.monotonic() - self._printed.get(title, 0.0) >= PLAIN_SECONDS or self._console.json_events:
            self._printed[title] = time.monotonic()
            text = f"  {title}: {fields['done']}/{fields['total']} {fields['unit']}, {note}"
            self._console.event("progress", text=text, unit_of_work=title, **fields)

    def finished(self, title: str, outcome: Outcome) -> None:
        """A unit that ended, well or not."""
        self._finished += 1
        if self._progress is not None and title in self._bars:
            self._progress.remove_task(self._bars.pop(title))
        count = f"{self._finished} of {self._total}"
        if isinstance(outcome, Done):
            text = f"[{count}] {title}: computed in {format_seconds(outcome.seconds)} on {outcome.host}"
            self._console.event("unit", text=text, title=title, host=outcome.host, seconds=round(outcome.seconds, 3))
        else:
            self._console.event("unit", text=f"[{count}] {title}: failed", title=title, error=outcome.text)
