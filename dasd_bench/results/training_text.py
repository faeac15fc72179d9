"""How a row was trained, from what its run recorded: settings, and the few words that captions and cards print."""

from __future__ import annotations

from typing import Any

from dasd_bench.results.schema import Arm, RunResults

UNKNOWN = "not known"
OWN = "each arm's own"


def training_settings(run: RunResults, arm: Arm) -> dict[str, Any]:
    """The arm's training settings by name; empty where they are not known.

    Runs made before arms kept their own have the run's, which are every arm's only where all were trained alike.
    """
    if arm.training:
        return arm.training
    if arm.adapter is not None:
        return {}
    return {} if run.train.arms else run.train.config


def training_line(run: RunResults, arm: Arm) -> str:
    """How the arm was trained in a few words; empty where that was not recorded."""
    if arm.adapter is not None:
        return f"trained elsewhere: {arm.adapter.line}"
    line = run.train.arms.get(arm.label, run.train.line)
    return line or ", ".join(f"{name} {value}" for name, value in arm.training.items())


def run_training_line(run: RunResults) -> str:
    """How a run's arms were trained: one line where alike, else each line after the arms that it holds for."""
    labels: dict[str, list[str]] = {}
    for arm in run.arms:
        if line := training_line(run, arm):
            labels.setdefault(line, []).append(arm.label)
    if len(labels) < 2:
        return next(iter(labels), run.train.line)
    return "; ".join(f"{', '.join(names)}: {line}" for line, names in labels.items())


def settings_differ(a: dict[str, Any], b: dict[str, Any], absent: tuple[str, str] = (UNKNOWN, UNKNOWN)) -> list[str]:
    """The training settings that differ, by name; empty where a side knows none.

    ``absent`` says for each side what stands for a setting that it lacks. Where adapters are evaluated during training
    (``evaluate_at``) changes none of them and is no difference.
    """
    return [
        f"training.{name} differs ({a.get(name, absent[0])} and {b.get(name, absent[1])})"
        for name in sorted((a.keys() | b.keys()) - {"evaluate_at"})
        if a and b and (name not in a or name not in b or a[name] != b[name])
    ]


def runs_differ(a: RunResults, b: RunResults) -> list[str]:
    """The training settings of two runs that differ; a run lacks those in which its own arms differ."""
    absent = tuple(OWN if run.train.arms else UNKNOWN for run in (a, b))
    return settings_differ(a.train.config, b.train.config, (absent[0], absent[1]))
