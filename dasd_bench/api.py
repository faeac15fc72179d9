"""What method and task plugins import: all that the documentation uses. Nothing here imports torch."""

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
    Rule,
    Sampling,
)
from dasd_bench.tasks.base import DataSource, Row, Task, verdict_of
from dasd_bench.tasks.code import CodeTask
from dasd_bench.tasks.families import ChoiceTask, MathTask, NumberTask
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
    "ChoiceTask",
    "CodeTask",
    "DataSource",
    "DualGeneration",
    "DualStep",
    "Example",
    "Generation",
    "Lab",
    "LiveTokens",
    "Mark",
    "MathTask",
    "Message",
    "Method",
    "NumberTask",
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
