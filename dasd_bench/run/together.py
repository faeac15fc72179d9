"""Targets of many arms whose dual decodings share their prompts: decoded in one pass for all rules."""

from __future__ import annotations

from collections.abc import Sequence

from dasd_bench.engine.many_rules import SharedCost
from dasd_bench.errors import DasdError
from dasd_bench.run.dual_calls import DeferredError, DualCall, JointPass
from dasd_bench.run.stages.targets import Targets


def make_together(stages: Sequence[Targets]) -> tuple[dict[Targets, str], SharedCost]:
    """Makes the targets of all stages; gives the errors of those that failed, and what the shared passes cost.

    Each method runs until it needs a dual decoding that the store lacks. When all have stopped so, those over equal
    prompts are decoded in one pass, and the methods run again: a rule that is matched to another's answers comes in the
    second pass.
    """
    failed: dict[Targets, str] = {}
    cost = SharedCost()
    waiting = list(dict.fromkeys(stages))
    while waiting:
        calls: dict[str, DualCall] = {}
        stopped = []
        for stage in waiting:
            stage.deferring = True
            try:
                stage.run()
            except DeferredError as deferred:
                calls.setdefault(deferred.call.key, deferred.call)
                stopped.append(stage)
            except DasdError as error:
                failed[stage] = str(error)
            finally:
                stage.deferring = False
        groups: dict[str, list[DualCall]] = {}
        for call in calls.values():
            groups.setdefault(call.alike, []).append(call)
        for group in groups.values():
            JointPass(group, cost).decode()
        waiting = stopped
    return failed, cost
