"""What a stage is: a named piece of work with a key, a cost estimate, and one way to be made and read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar

from dasd_bench.config.spec import ArmSpec
from dasd_bench.engine.errors import EngineError
from dasd_bench.errors import DasdError
from dasd_bench.methods.base import BASE
from dasd_bench.resources.work import Work
from dasd_bench.run.context import RunContext
from dasd_bench.run.given_adapter import GivenAdapter
from dasd_bench.run.memory import check_stage
from dasd_bench.store.store import Entry, Finished, Row, stage_key

T = TypeVar("T")


@dataclass(eq=False)
class Stage(ABC, Generic[T]):
    """One piece of a run's work; ``T`` is its result.

    ``kind`` names the stage in the store and ``version`` the form of its stored result: raising it makes old results
    unreachable. ``seed`` is None for the base's stages. The key follows from the specification, the data and the keys
    of other stages alone (with a matched budget also from the finished targets), so a plan needs no weights, and the
    plan and the runner walk the very same objects.
    """

    context: RunContext
    seed: int | None
    _value: T | None = field(default=None, init=False, repr=False)

    kind: ClassVar[str]
    version: ClassVar[int]

    @property
    @abstractmethod
    def name(self) -> str:
        """What progress, plan and results call it: ``targets``, ``evaluate gsm8k``."""

    @property
    def arm(self) -> ArmSpec | GivenAdapter | None:
        """The arm or given adapter it works for; None for the base."""
        return None

    @property
    def label(self) -> str:
        """The arm's label, or ``base``."""
        return BASE if self.arm is None else self.arm.label

    @abstractmethod
    def parts(self) -> Sequence[object]:
        """All that the result depends on, beside ``kind`` and ``version``."""

    def needs(self) -> Sequence[Stage[Any]]:
        """The stages whose results it reads."""
        return ()

    @abstractmethod
    def work(self) -> Work:
        """Roughly what it computes, for the estimate."""

    @property
    def trained(self) -> str | None:
        """The key of the train stage whose adapter it needs loaded; None for the base."""
        return None

    @abstractmethod
    def make(self, entry: Entry) -> Row:
        """Does the work: writes into the entry's folder and gives the entry's metadata."""

    @abstractmethod
    def read(self, entry: Finished) -> T:
        """The result from a finished entry."""

    def publish(self) -> None:
        """Writes what belongs into the run directory; nothing by default."""

    @cached_property
    def key(self) -> str:
        """The store's key."""
        return stage_key(self.kind, self.version, *self.parts())

    @property
    def entry(self) -> Entry:
        """Its entry in the store, finished or not."""
        return self.context.store.entry(self.kind, self.key)

    @property
    def value(self) -> T:
        """The result of the finished stage."""
        if self._value is None:
            self._value = self.read(self.context.store.finished(self.kind, self.key))
        return self._value

    def release(self) -> None:
        """Lets the result go from memory; :attr:`value` reads it again."""
        self._value = None

    def obtain(self) -> tuple[Finished, bool]:
        """Its entry, made where the store does not have it, and whether the store had it."""
        try:
            return self.context.get_or_make(self.kind, self.key, self._make)
        except EngineError as error:
            # The engine is used alone, too, and knows none of this package's errors.
            raise DasdError(str(error)) from error

    def run(self) -> None:
        """Makes the result or takes it from the store, and publishes it."""
        context, name = self.context, f"{self.kind}/{self.key}"
        if name in context.failed:
            raise context.failed[name]
        with context.recorder.stage(self.name, self.label, self.seed) as record:
            entry, record.reused = self.obtain()
            record.elsewhere = context.recorder.elsewhere.pop(name, None)
            self._value = self.read(entry)
        context.overwritten |= not record.reused or record.elsewhere is not None
        self.publish()

    def _make(self, entry: Entry) -> Row:
        check_stage(self.context, self.work(), f"Stage '{self.name}' of {self.label}")
        return self.make(entry)
