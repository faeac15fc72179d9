"""Items worked off by several threads, of which each waits for another process most of the time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def side_by_side(work: Callable[[T], None], items: Sequence[T], threads: int) -> None:
    """Calls ``work`` with every item; with one thread in this one and in order.

    Raises the first error, and starts nothing more then. Interrupted, it does not wait for what is running.
    """
    if threads == 1:
        for item in items:
            work(item)
        return
    waiting: queue.SimpleQueue[T] = queue.SimpleQueue()
    for item in items:
        waiting.put(item)
    outcomes: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    stopped = threading.Event()

    def work_off() -> None:
        while not stopped.is_set():
            try:
                item = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                work(item)
            except BaseException as error:
                outcomes.put(error)
            else:
                outcomes.put(None)

    for _ in range(min(threads, len(items))):
        threading.Thread(target=work_off, daemon=True).start()
    try:
        for _ in items:
            error = outcomes.get()
            if error is not None:
                raise error
    finally:
        stopped.set()
