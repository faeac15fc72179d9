"""The public interface for notebooks and plugins: running and reading runs, and the types that plugins are written in.

Importing it imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dasd_bench.config.resolve import make_spec, registry_of
from dasd_bench.config.spec import RunSpec
from dasd_bench.console import Console
from dasd_bench.methods.acceptance import Acceptance, check_rewrites
from dasd_bench.methods.base import (
    BASE,
    Method,
    divergence_option,
    keep_option,
    new_tokens_option,
    one_teacher,
    teacher_decay_option,
    teacher_every_option,
    teacher_option,
    temperature_option,
)
from dasd_bench.methods.context import (
    GREEDY,
    Choice,
    DualGeneration,
    DualStep,
    Generation,
    LiveLogits,
    LiveTokens,
    MethodContext,
    ModelRef,
    RolloutContext,
    Rule,
    RunFacts,
    Sampling,
)
from dasd_bench.methods.divergences import forward_kl, generalized_jsd, reverse_kl, sampled_reverse_kl
from dasd_bench.methods.edits import Edited as EditedText
from dasd_bench.methods.edits import corrections, edited_tokens, restyled
from dasd_bench.methods.gate_controls import (
    REFERENCES,
    confidence_thresholds,
    disagreements,
    replacement_counts,
    replacement_rate,
    with_reference,
)
from dasd_bench.methods.gate_rules import (
    AsStated,
    CandidateFloor,
    ClassOracle,
    ConfidenceGate,
    Entropy,
    Insist,
    Margin,
    Mix,
    Quantile,
    RandomGate,
    ReferenceSure,
    RelativeFloor,
    ReversedGate,
    ShuffledGate,
    Tolerated,
    Typical,
    Ungated,
    carries_logic,
    gate_rule,
    mixture,
    mixture_weight,
)
from dasd_bench.methods.gates import GateFeatures, GateRule, StepFeatures, StepGate, gate_features
from dasd_bench.methods.notes import Note
from dasd_bench.methods.samples import NO_TURNS, Sample, answer_target, nothing_kept, sample_answers
from dasd_bench.methods.target_rows import TargetRow, target_rows
from dasd_bench.options import option
from dasd_bench.registry import Registry
from dasd_bench.results.schema import RunResults
from dasd_bench.run.options import RunOptions
from dasd_bench.tasks.base import DataSource, Row, Task, verdict_of
from dasd_bench.tasks.code import CodeTask
from dasd_bench.tasks.families import ChoiceTask, MathTask, NumberTask
from dasd_bench.types import (
    Bools,
    Example,
    Mark,
    Message,
    Origin,
    Reason,
    ScoredTarget,
    Target,
    TokenScores,
    TrainExample,
    Verdict,
    protected,
)

if TYPE_CHECKING:
    from dasd_bench.reporting.notebook import Results
    from dasd_bench.run.plan import PlanRow
    from dasd_bench.run.sweep import Surface


def run(
    spec: RunSpec,
    options: RunOptions | None = None,
    *,
    registry: Registry | None = None,
    console: Console | None = None,
) -> Results:
    """Runs a specification and gives its results, which are in the run directory too.

    ``dasd-bench run`` is this call: stages that the store has are not repeated. ``registry`` holds the plugins
    (default: all that are installed and those in ``spec.plugins``); ``console`` takes progress and warnings (default:
    quiet). ``RunResults.status`` is ``partial`` where arms failed.

    Raises :class:`~dasd_bench.errors.UsageError` for what cannot be run as asked, and
    :class:`~dasd_bench.run.session.RunInterrupted` on Ctrl-C, once everything finished is saved.
    """
    from dasd_bench.run.session import run_session

    options = options or RunOptions()
    found = run_session(spec, options, registry or registry_of(spec), console or Console(quiet=True))
    return _results(found, options.output or Path("runs") / found.run_id)


def plan(
    spec: RunSpec,
    options: RunOptions | None = None,
    *,
    registry: Registry | None = None,
    console: Console | None = None,
) -> list[PlanRow]:
    """What :func:`run` would do: every stage with its state in the store, tokens and estimated seconds."""
    from dasd_bench.run.prepare import prepare

    console = console or Console(quiet=True)
    return prepare(spec, registry or registry_of(spec), options or RunOptions(), console).plan


def evaluate(spec: RunSpec, options: RunOptions | None = None, *, console: Console | None = None) -> Results:
    """Scores the model of ``spec`` as it is on ``spec.tasks``; nothing is trained."""
    return run(replace(spec, methods=(BASE,)), options, console=console)


def sweep(
    spec: RunSpec,
    grid: Mapping[str, Sequence[object]],
    options: RunOptions | None = None,
    *,
    registry: Registry | None = None,
    console: Console | None = None,
) -> Surface:
    """Trains every arm at every point of ``grid`` and scores it on validation rows; the test split is not read.

    ``grid`` maps dotted names to values: ``{"training.lr": [1e-4, 2e-4]}``. ``options.output`` is the sweep's folder.
    """
    from dasd_bench.run.sweep import grid_points, run_sweep

    return run_sweep(
        spec,
        grid_points({name: list(map(str, values)) for name, values in grid.items()}),
        registry or registry_of(spec),
        options or RunOptions(),
        console or Console(quiet=True),
    )


def load_results(run_dir: str | Path) -> Results:
    """The results of a run directory; raises :class:`~dasd_bench.errors.StoreError` where there are none."""
    from dasd_bench.results.runs import load_run

    return _results(load_run(Path(run_dir)), Path(run_dir))


def _results(found: RunResults, run_dir: Path) -> Results:
    from dasd_bench.reporting.notebook import Results

    return Results.of(found, run_dir)


__all__ = [
    "GREEDY",
    "NO_TURNS",
    "REFERENCES",
    "Acceptance",
    "AsStated",
    "Bools",
    "CandidateFloor",
    "Choice",
    "ChoiceTask",
    "ClassOracle",
    "CodeTask",
    "ConfidenceGate",
    "DataSource",
    "DualGeneration",
    "DualStep",
    "EditedText",
    "Entropy",
    "Example",
    "GateFeatures",
    "GateRule",
    "Generation",
    "Insist",
    "LiveLogits",
    "LiveTokens",
    "Margin",
    "Mark",
    "MathTask",
    "Message",
    "Method",
    "MethodContext",
    "Mix",
    "ModelRef",
    "Note",
    "NumberTask",
    "Origin",
    "Quantile",
    "RandomGate",
    "Reason",
    "ReferenceSure",
    "RelativeFloor",
    "ReversedGate",
    "RolloutContext",
    "Row",
    "Rule",
    "RunFacts",
    "RunOptions",
    "RunResults",
    "RunSpec",
    "Sample",
    "Sampling",
    "ScoredTarget",
    "ShuffledGate",
    "StepFeatures",
    "StepGate",
    "Target",
    "TargetRow",
    "Task",
    "TokenScores",
    "Tolerated",
    "TrainExample",
    "Typical",
    "Ungated",
    "Verdict",
    "answer_target",
    "carries_logic",
    "check_rewrites",
    "confidence_thresholds",
    "corrections",
    "disagreements",
    "divergence_option",
    "edited_tokens",
    "evaluate",
    "forward_kl",
    "gate_features",
    "gate_rule",
    "generalized_jsd",
    "keep_option",
    "load_results",
    "make_spec",
    "mixture",
    "mixture_weight",
    "new_tokens_option",
    "nothing_kept",
    "one_teacher",
    "option",
    "plan",
    "protected",
    "replacement_counts",
    "replacement_rate",
    "restyled",
    "reverse_kl",
    "run",
    "sample_answers",
    "sampled_reverse_kl",
    "sweep",
    "target_rows",
    "teacher_decay_option",
    "teacher_every_option",
    "teacher_option",
    "temperature_option",
    "verdict_of",
    "with_reference",
]
