"""Everything a method or task plugin may import. Nothing here imports torch."""

from __future__ import annotations

from dasd_bench.methods.acceptance import Acceptance, check_rewrites
from dasd_bench.methods.base import Method, keep_option, option
from dasd_bench.methods.context import (
    GREEDY,
    Choice,
    DualGeneration,
    DualStep,
    Generation,
    Lab,
    LiveTokens,
    Sampling,
    StepRule,
)
from dasd_bench.tasks.base import DataSource, Row, Task, verdict_of
from dasd_bench.types import (
    Example,
    Mark,
    Message,
    Origin,
    Reason,
    ScoredTarget,
    Target,
    TokenScores,
    Verdict,
    kept,
)

__all__ = [
    "GREEDY",
    "Acceptance",
    "Choice",
    "DataSource",
    "DualGeneration",
    "DualStep",
    "Example",
    "Generation",
    "Lab",
    "LiveTokens",
    "Mark",
    "Message",
    "Method",
    "Origin",
    "Reason",
    "Row",
    "Sampling",
    "ScoredTarget",
    "StepRule",
    "Target",
    "Task",
    "TokenScores",
    "Verdict",
    "check_rewrites",
    "keep_option",
    "kept",
    "option",
    "verdict_of",
]
