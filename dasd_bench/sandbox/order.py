"""Which job a free slot gets: samples of one problem go to one slot, whose judge then has its tests ready."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

Job = TypeVar("Job")


class Queue(Generic[Job]):
    """Jobs by problem. A slot stays with its problem while that has jobs; then it takes the next problem that no other
    slot is at, and at last helps with the one that has most jobs left."""

    def __init__(self) -> None:
        self._groups: dict[Hashable, deque[Job]] = {}
        self._at: dict[Hashable, Hashable] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, problem: Hashable, job: Job, *, first: bool = False) -> None:
        """Puts a job behind, or with ``first`` before, the others of its problem."""
        group = self._groups.setdefault(problem, deque())
        if first:
            group.appendleft(job)
        else:
            group.append(job)
        self._size += 1

    def take(self, slot: Hashable) -> Job:
        """The slot's next job. Raises KeyError where none is left."""
        if not self._size:
            raise KeyError("no job is left")
        problem = self._at.get(slot)
        if problem not in self._groups:
            taken = {at for other, at in self._at.items() if other != slot}
            free = (key for key in self._groups if key not in taken)
            problem = next(free, None)
            if problem is None:
                problem = max(self._groups, key=lambda key: len(self._groups[key]))
            self._at[slot] = problem
        group = self._groups[problem]
        job = group.popleft()
        if not group:
            del self._groups[problem]
        self._size -= 1
        return job
