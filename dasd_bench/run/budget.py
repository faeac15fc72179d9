"""How long each arm is trained, in the words of captions and the manifest: what ``--budget`` says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from dasd_bench.config.spec import ArmSpec
from dasd_bench.config.training import TrainingConfig
from dasd_bench.results.schema import Arm, TrainSummary
from dasd_bench.run.context import RunContext

EQUAL = "budget equal: the same adapter settings, examples, steps and schedule"
CARD = "budget card: each method as its authors trained it, so budgets differ"
MATCHED = {
    "tokens": "budget tokens: every method trained until it had used as many active tokens as the one that uses "
    "the most in its epochs",
    "compute": "budget compute: every method trained until it had used as many tokens, generated for its targets and "
    "trained on together, as the one that uses the most with its epochs",
}
TUNED = "each arm with its own settings"


def training_line(training: TrainingConfig, dtype: str) -> str:
    """One arm's training in a few words, for captions."""
    t = training
    kind = "DoRA" if t.dora else "rsLoRA" if t.rslora else "LoRA"
    adapter = (
        "all weights" if t.lora_rank == 0 else f"{kind} r={t.lora_rank} alpha={t.lora_alpha:g} on {t.lora_targets}"
    )
    base = " on a 4-bit base" if t.qlora else ""
    stop = f", early stop after {t.early_stop_patience} rounds without improvement" if t.early_stop_patience else ""
    epochs = f"{t.epochs:g} epoch{'' if t.epochs == 1 else 's'}"
    return f"{adapter}{base}, lr {t.lr:g} {t.schedule}, batch {t.batch_size}, {epochs}{stop}, {dtype}"


def budget_name(context: RunContext) -> str:
    """What ``--budget`` says; ``own`` for ``equal`` where arms were given settings of their own."""
    if context.spec.budget != "equal":
        return context.spec.budget
    return "equal" if len({arm.training for arm in context.arms}) <= 1 else "own"


def shared_training(context: RunContext) -> dict[str, Any]:
    """The training options that all arms have alike, by name: all of them, but where arms were given their own."""
    if not context.arms:
        return {}
    first, *others = [asdict(arm.training) for arm in context.arms]
    return {name: value for name, value in first.items() if all(other[name] == value for other in others)}


def train_summary(context: RunContext, rows: Sequence[Arm] = ()) -> TrainSummary:
    """What the captions say of training; ``rows`` are the arms trained so far, whose steps are counted."""
    if not context.arms:
        return TrainSummary()
    by_arm = {arm.label: training_line(arm.training, context.dtype) for arm in context.arms}
    name = budget_name(context)
    config = shared_training(context)
    alike = len(set(by_arm.values())) == 1
    if name in MATCHED:
        line = next(iter(by_arm.values())) if alike else ""
        return TrainSummary(line, MATCHED[name], config, {} if alike else by_arm)
    if name != "equal":
        return TrainSummary("", CARD if name == "card" else TUNED, config, by_arm)
    steps = {seed.train_stats.steps for row in rows for seed in row.seeds if seed.train_stats is not None}
    described = EQUAL
    if len(steps) == 1:
        described += f" ({steps.pop()} steps)"
    elif steps:
        described += f" ({min(steps)} to {max(steps)} steps: {_why_unlike(context.arms)})"
    return TrainSummary(next(iter(by_arm.values())), described, config)


def _why_unlike(arms: Sequence[ArmSpec]) -> str:
    if any(arm.training.early_stop_patience for arm in arms):
        return "stopped early or with dropped examples"
    return "methods that drop examples take fewer"
