"""Everything a method or task plugin may import. Nothing here imports torch."""

from __future__ import annotations

from dasd_bench.acceptance import Acceptance, check_rewrites
from dasd_bench.lab import (
    GREEDY,
    Choice,
    DualGeneration,
    DualStep,
    Generation,
    Lab,
    LiveTokens,
    Rule,
    Sampling,
)
from dasd_bench.method import Method, keep_option, option
from dasd_bench.records import (
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
from dasd_bench.task import DataSource, Row, Task, verdict_of

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
    "Rule",
    "Sampling",
    "ScoredTarget",
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
