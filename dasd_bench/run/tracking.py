"""Sends finished arms to an experiment tracker through accelerate's trackers: settings, training curve, scores.

An arm is sent when it is finished, from what the run directory holds, so that a run that was interrupted or found
everything in the store is tracked as fully as an undisturbed one. Sending the same results again does nothing.
"""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dasd_bench.console import Console
from dasd_bench.errors import DasdError, UsageError, unknown_name
from dasd_bench.files.json_file import read_object
from dasd_bench.results.curves import read_steps
from dasd_bench.results.directory import RunDirectory
from dasd_bench.results.schema import Arm, RunResults, SeedArm
from dasd_bench.results.training_text import training_line, training_settings
from dasd_bench.store.atomic import digest, write_json

MODULES = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb", "trackio": "trackio"}
"""Trackers by name, with the module that each needs."""

CURVE = {
    "loss": "train/loss",
    "nll": "train/nll",
    "grad_norm": "train/grad_norm",
    "clipped": "train/clipped",
    "lr": "train/lr",
}
"""Fields of ``metrics.jsonl`` and what they are called in a tracker."""


def check_trackers(names: Sequence[str]) -> list[str]:
    """The trackers' names, each once; raises :class:`UsageError` for an unknown or uninstalled one."""
    for name in names:
        if name not in MODULES:
            raise unknown_name("tracker", name, MODULES)
        if importlib.util.find_spec(MODULES[name]) is None:
            raise UsageError(f"--track {name} needs a package that is not installed: pip install 'dasd-bench[{name}]'.")
    return list(dict.fromkeys(names))


@dataclass(slots=True)
class Tracking:
    """The trackers of one run. ``arm_done`` is called with the results so far whenever an arm and seed is finished."""

    names: list[str]
    run_dir: Path
    console: Console

    def arm_done(self, results: RunResults, arm: Arm, one: SeedArm) -> None:
        """Sends one arm and seed to every tracker. A tracker that fails is warned about; the run goes on."""
        for name in self.names:
            try:
                if send(name, self.run_dir, results, arm, one):
                    self.console.say(f"Sent {arm.label} seed {one.seed} to {name}.")
            except DasdError as error:
                self.console.warn(str(error))


def send(name: str, run_dir: Path, results: RunResults, arm: Arm, one: SeedArm) -> bool:
    """Sends one arm and seed to the tracker ``name``; False where exactly this was sent before.

    TensorBoard and, unless ``MLFLOW_TRACKING_URI`` is set, MLflow write under ``run_dir/tracking``. Raises
    :class:`DasdError` where the tracker refuses.
    """
    curve = _curve(RunDirectory(run_dir).arm(arm.directory, one.seed).metrics)
    final = summary(results, one)
    settings = configuration(results, arm, one)
    sent_file = RunDirectory(run_dir).tracking / f"{name}.json"
    sent: dict[str, str] = read_object(sent_file) if sent_file.is_file() else {}
    key, state = f"{arm.label}/seed{one.seed}", digest(curve, final, settings)
    if sent.get(key) == state:
        return False
    try:
        tracker = _tracker(name, run_dir, f"{results.run_id}/{key}")
        tracker.start()
        try:
            tracker.store_init_configuration(settings)
            for step, values in curve:
                tracker.log(values, step=step)
            tracker.log(final, step=curve[-1][0] if curve else 0)
        finally:
            # MLflow and wandb keep one active run a process: left open, it would take the next arm's numbers.
            tracker.finish()
    # A tracker is somebody else's program behind a network: whatever it raises must not cost the run its results.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise DasdError(f"{name} rejected {key}: {type(error).__name__}: {reason}") from error
    write_json(sent_file, {**sent, key: state})
    return True


def _tracker(name: str, run_dir: Path, title: str) -> Any:
    from accelerate import PartialState
    from accelerate.tracking import MLflowTracker, TensorBoardTracker, TrackioTracker, WandBTracker

    PartialState()
    folder = RunDirectory(run_dir.resolve()).tracking
    if name == "tensorboard":
        place = title.partition("/")[2]
        # Events of an earlier sending of this arm would be drawn as a second curve over the first.
        shutil.rmtree(folder / "tensorboard" / place, ignore_errors=True)
        return TensorBoardTracker(place, folder / "tensorboard")
    if name == "mlflow":
        import mlflow

        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        if "MLFLOW_TRACKING_URI" not in os.environ:
            # MLflow 3.7 and later ask for this word before they write to a plain folder.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            mlflow.set_tracking_uri((folder / "mlflow").as_uri())
        return MLflowTracker(experiment_name="dasd-bench", run_name=title, tags={"dasd-bench": title})
    if name == "wandb":
        return WandBTracker("dasd-bench", name=title, id=digest(str(folder), title)[:16], resume="allow")
    return TrackioTracker("dasd-bench", name=title)


def configuration(results: RunResults, arm: Arm, one: SeedArm) -> dict[str, Any]:
    """What the arm was: model, method, options, its own training, seed; texts, numbers and truths only."""
    found: dict[str, Any] = {
        "run": results.run_id,
        "model": results.model,
        "method": arm.method,
        "row": arm.label,
        "seed": one.seed,
        "tasks": ", ".join(task.name for task in results.tasks),
    }
    found |= {f"options.{key}": value for key, value in arm.options.items()}
    settings = training_settings(results, arm)
    found |= {f"training.{key}": value for key, value in settings.items()}
    if not settings and (line := training_line(results, arm)):
        found["training"] = line
    return {key: value if isinstance(value, (str, int, float, bool)) else str(value) for key, value in found.items()}


def summary(results: RunResults, one: SeedArm) -> dict[str, float]:
    """The arm's scores, reference nll and target statistics as flat numbers; what is not a number is left out."""
    found: dict[str, float | None] = {}
    for name, score in one.scores.items():
        found[f"eval/{name}"] = score.mean
        if name in results.base:
            found[f"eval/{name}_minus_base"] = score.mean - results.base[name].mean
        if score.reference_nll is not None:
            found[f"eval/{name}_reference_nll"] = score.reference_nll.all_tokens_mean
    if (targets := one.target_stats) is not None:
        found |= {
            "targets/ppl": targets.ppl,
            "targets/accepted": targets.acceptance,
            "targets/from_base": targets.base_share,
            "targets/weight_zero": targets.weight_zero_share,
        }
        found |= {f"targets/{note.name}": note.value for note in targets.notes}
    if (train := one.train_stats) is not None:
        found |= {"train/seconds": train.seconds, "train/peak_memory_gib": train.peak_memory_gib}
    return {key: float(value) for key, value in found.items() if value is not None and math.isfinite(value)}


def _curve(path: Path) -> list[tuple[int, dict[str, float]]]:
    """The training curve: (step, values) in order."""
    found = []
    for step in read_steps(path):
        values = {name: step.values[field] for field, name in CURVE.items() if field in step.values}
        if step.kept_share is not None:
            values["train/kept_share"] = step.kept_share
        found.append((step.step, values))
    return found
