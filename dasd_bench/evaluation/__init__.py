"""Scores a model on tasks through lm-eval, with this package's engine behind it. Imports lm-eval only when it runs."""

from __future__ import annotations

from dasd_bench.evaluation.evaluator import evaluate
from dasd_bench.evaluation.records import EvalSettings, MemoryShards, ShardStore, TaskResult
from dasd_bench.results.samples import Sample

__all__ = ["EvalSettings", "MemoryShards", "Sample", "ShardStore", "TaskResult", "evaluate"]
