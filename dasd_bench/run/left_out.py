"""Training examples that were not trained on, or not whole: which ones, and for which one reason."""

from __future__ import annotations

from collections.abc import Sequence

from dasd_bench.run.stages import Trained
from dasd_bench.types import Floats, ScoredTarget

NO_WEIGHT = "skipped: all their weights are 0"
NO_ROOM = "skipped: no token with a weight fits into the context behind their prompt"
CUT = "cut at the context"


def left_out(scored: Sequence[ScoredTarget], weights: Sequence[Floats], trained: Trained) -> dict[str, list[str]]:
    """Ids of the examples of each reason that occurs; an example has one reason at most."""
    weighted = {item.target.example_id for item, weight in zip(scored, weights, strict=True) if weight.any()}
    skipped = set(trained.skipped)
    found = {
        NO_WEIGHT: [name for name in trained.skipped if name not in weighted],
        NO_ROOM: [name for name in trained.skipped if name in weighted],
        CUT: [name for name in trained.truncated if name not in skipped],
    }
    return {reason: ids for reason, ids in found.items() if ids}
