"""Model-written code, executed safely and fast: usable without the rest of dasd_bench.

from dasd_bench.sandbox import Sandbox, Sample, problem_from_row

with Sandbox() as sandbox:
    results = sandbox.run([Sample("HumanEval/0", completion)], [problem_from_row(row)])
"""

from __future__ import annotations

from .errors import ProblemError, SandboxError, SettingError
from .estimate import clustered_interval, pass_at_k
from .extract import extract_code
from .model import ExecResult, IsolationLevel, IsolationReport, Limits, Outcome, Problem, Sample
from .pool import Sandbox, probe_isolation
from .rows import gold_program, problem_from_row
from .selftest import SelfTest, self_test

__all__ = [
    "ExecResult",
    "IsolationLevel",
    "IsolationReport",
    "Limits",
    "Outcome",
    "Problem",
    "ProblemError",
    "Sample",
    "Sandbox",
    "SandboxError",
    "SelfTest",
    "SettingError",
    "clustered_interval",
    "extract_code",
    "gold_program",
    "pass_at_k",
    "probe_isolation",
    "problem_from_row",
    "self_test",
]
