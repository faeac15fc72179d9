"""Dual decodings as calls that can be done alone or, for many rules over the same prompts, in one pass."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dasd_bench.errors import DasdError
from dasd_bench.methods.context import DualGeneration, StepRule
from dasd_bench.run.context import RunContext
from dasd_bench.run.sharded import Report, run_sharded
from dasd_bench.store.atomic import digest
from dasd_bench.store.store import stage_key

if TYPE_CHECKING:
    from dasd_bench.engine.engine import Engine
    from dasd_bench.engine.many_rules import SharedCost
    from dasd_bench.engine.requests import DualRequest

VERSIONS = {"generate": 2, "dual": 2, "score": 2, "round": 2, "remember": 1}
"""The form of each kind of stored engine work; raising one makes its old entries unreachable."""

_NO_IDS, _NO_NUMBERS, _NO_BYTES = np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.uint8)
NO_DUAL_ANSWER = DualGeneration(
    _NO_IDS, _NO_BYTES, _NO_NUMBERS, _NO_NUMBERS, _NO_NUMBERS, _NO_NUMBERS, _NO_IDS, _NO_IDS, _NO_BYTES, "", "length"
)
"""What a prompt that leaves no room for an answer gives: nothing, cut off at once."""


def work_key(kind: str, *parts: object) -> str:
    """The store's key of engine work that is stored by its content."""
    return stage_key(kind, VERSIONS[kind], *parts)


@dataclass(frozen=True, eq=False)
class DualCall:
    """One dual decoding that a method asks for: requests, rule, its key in the store, and the reference's adapter."""

    run: RunContext
    requests: Sequence[DualRequest]
    rule: StepRule
    key: str
    reference: Path | None
    label: str

    @property
    def stored(self) -> bool:
        """Whether the store has its result."""
        return self.run.store.entry("dual", self.key).finished() is not None

    @property
    def alike(self) -> str:
        """The same for calls that one pass can answer."""
        shared = [
            (list(r.base_ids), list(r.reference_ids), r.max_new_tokens, sorted(r.stop_ids), r.sampling, r.seed)
            for r in self.requests
        ]
        kept = [(sorted(r.keep_ids), r.keep_texts) for r in self.requests]
        return digest(shared, kept, str(self.reference))


class DeferredError(DasdError):
    """Ends a method's ``make_targets`` at a dual decoding that is to be done with others; it is called again later."""

    def __init__(self, call: DualCall) -> None:
        super().__init__(f"{call.label} is waiting for other rules.")
        self.call = call


Compute = Callable[[Sequence[int], Report], Sequence[DualGeneration]]


def dual_decode(call: DualCall) -> list[DualGeneration]:
    """The result of one call, from the store or made now."""
    run = call.run

    def compute(indices: Sequence[int], report: Report) -> list[DualGeneration]:
        fitting = _fitting(call, indices)
        requests = [call.requests[i] for i in fitting]

        def on_result(_: int, one: DualGeneration) -> None:
            report(1, len(one.token_ids))

        if call.reference is None:
            made = run.engine().dual_decode(requests, call.rule, on_result=on_result)
        else:
            with _engines(call) as (base, other):
                made = base.dual_decode(requests, call.rule, on_result=on_result, reference=other)
        found = dict(zip(fitting, made, strict=True))
        return [found.get(i) or NO_DUAL_ANSWER for i in indices]

    return _sharded(call, compute, run.calls_at_once if call.reference is None else 1)


@dataclass
class JointPass:
    """Answers calls over the same prompts together, shard by shard; each result is stored under its own call's key."""

    calls: Sequence[DualCall]
    cost: SharedCost
    _made: dict[tuple[int, int], DualGeneration] = field(default_factory=dict)

    def decode(self) -> None:
        """Decodes and stores all that the store lacks."""
        for number, call in enumerate(self.calls):
            _sharded(call, partial(self._compute, number))

    def _compute(self, number: int, indices: Sequence[int], report: Report) -> list[DualGeneration]:
        if (number, indices[0]) not in self._made:
            self._pass(range(number, len(self.calls)), indices, report)
        return [self._made.pop((number, i)) for i in indices]

    def _pass(self, numbers: Sequence[int], indices: Sequence[int], report: Report) -> None:
        calls = [self.calls[n] for n in numbers]
        fitting = _fitting(calls[0], indices)
        for n in numbers:
            self._made.update({(n, i): NO_DUAL_ANSWER for i in indices})
        with _engines(calls[0]) as (base, other):
            by_rule, cost = base.dual_decode_many(
                [[replace(call.requests[i], name=f"item {i}") for i in fitting] for call in calls],
                [call.rule for call in calls],
                lambda _, made: report(1, sum(len(one.token_ids) for one in made)),
                reference=other,
            )
        self.cost.add(cost)
        for n, made in zip(numbers, by_rule, strict=True):
            self._made.update({(n, i): one for i, one in zip(fitting, made, strict=True)})


def _fitting(call: DualCall, indices: Sequence[int]) -> list[int]:
    """Those whose two prompts leave room for an answer."""
    asked = call.requests
    return [i for i in indices if all(map(call.run.fits, (asked[i].base_ids, asked[i].reference_ids)))]


def _sharded(call: DualCall, compute: Compute, at_once: int = 1) -> list[DualGeneration]:
    run = call.run
    results, _ = run_sharded(
        run.store,
        run.console,
        "dual",
        call.key,
        DualGeneration,
        [len(one.base_ids) + len(one.reference_ids) for one in call.requests],
        compute,
        shard_size=run.shard_size,
        label=call.label,
        at_once=at_once,
    )
    return results


@contextmanager
def _engines(call: DualCall) -> Iterator[tuple[Engine, Engine | None]]:
    """The base's engine and, beside it while the block runs, that of a reference stream with an adapter of its own."""
    base = call.run.distributions()
    other = None if call.reference is None else call.run.beside(call.reference)
    try:
        yield base, other
    finally:
        if other is not None:
            other.close()
        del other
        gc.collect()
