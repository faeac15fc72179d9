"""An ablation: one method at every point of a grid of its options, measured on its targets, and trained where asked.

The rows are validation rows of the train split, as a sweep's are; the test split is not read. With training, each point
is an ordinary arm of one run, which trains on the other rows and is scored on these.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean

import yaml

from dasd_bench.config.spec import RunSpec, split_arm, split_commas, to_yaml
from dasd_bench.console import Console
from dasd_bench.engine.many_rules import SharedCost
from dasd_bench.errors import UsageError
from dasd_bench.files.text import shown
from dasd_bench.registry import Registry
from dasd_bench.results.ablation import Ablation, AblationPoint
from dasd_bench.results.schema import RunResults
from dasd_bench.run.claim import Claim
from dasd_bench.run.data import TaskData
from dasd_bench.run.options import RunOptions
from dasd_bench.run.stages.targets import Targets
from dasd_bench.run.sweep import VALIDATION_ROWS
from dasd_bench.run.together import make_together
from dasd_bench.store.atomic import digest
from dasd_bench.types import Target

SETTINGS_FILE = "ablation.yaml"


def parse_grids(items: Sequence[str]) -> list[dict[str, str]]:
    """``NAME=V,V;NAME=V`` items as the settings of every point: the combinations within each item, one after another.

    Raises :class:`UsageError` for what is no grid and for a point that is there twice.
    """
    points: list[dict[str, str]] = []
    for item in items:
        axes: dict[str, list[str]] = {}
        for part in filter(None, (part.strip() for part in item.split(";"))):
            name, sep, text = part.partition("=")
            values = split_commas(text)
            if not sep or not name.strip() or not values:
                raise UsageError(
                    f"--grid {shown(item)}: write NAME=VALUE,VALUE;NAME=VALUE, for instance rule=margin;mu=0.3,0.6."
                )
            if name.strip() in axes:
                raise UsageError(f"--grid {shown(item)}: {name.strip()} is there twice; keep one.")
            axes[name.strip()] = values
        if not axes:
            raise UsageError("--grid is empty; write NAME=VALUE,VALUE, for instance rule=margin;mu=0.3,0.6.")
        points += [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    twice = [point for number, point in enumerate(points) if point in points[:number]]
    if twice:
        raise UsageError(f"--grid: the point {_words(twice[0])} is there twice; keep one.")
    return points


def _words(point: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in point.items())


def point_labels(spec: RunSpec, points: Iterable[Mapping[str, str]], registry: Registry) -> list[str]:
    """The arm of every point: the specification's one method with the point's options, as ``--method`` takes it."""
    if len(spec.methods) != 1 or len(split_arm(spec.methods[0])) != 1:
        raise UsageError("An ablation varies the options of one method; name one with --method.")
    arm = spec.methods[0]
    name = arm.partition("+")[0]
    notes = {note.name for note in registry.method(name).item.notes}
    if "gated_replaced" not in notes:
        raise UsageError(
            f"Method '{name}' declares no note 'gated_replaced', so there is nothing to ablate; use dasd, or sweep."
        )
    return ["+".join([arm, *(f"{key}={value}" for key, value in point.items())]) for point in points]


def run_ablation(
    spec: RunSpec,
    points: Sequence[dict[str, str]],
    registry: Registry,
    options: RunOptions,
    console: Console,
    *,
    train: bool = False,
) -> Ablation:
    """Measures every point; raises :class:`UsageError` where the grid cannot be run, before anything is computed."""
    from dasd_bench.run.prepare import build_context, check_methods, load
    from dasd_bench.run.stages.targets import with_room
    from dasd_bench.run.stages.warmup import warmed

    if spec.engine.backend != "hf":
        raise UsageError("An ablation decodes many rules in one pass, which vLLM does not do: leave out --engine vllm.")
    labels = point_labels(spec, points, registry)
    folder = options.output or planned_folder(spec, points, registry)
    settings = yaml.safe_dump({"ablation": {"train": train, "points": list(points)}}, sort_keys=False)
    claim = Claim(folder, SETTINGS_FILE, to_yaml(spec) + settings, "an ablation")
    claim.check()
    spec = replace(spec, methods=tuple(labels), validation=spec.validation or VALIDATION_ROWS)
    data = load(spec, registry, console)
    context = warmed(build_context(spec, registry, console, folder / "run", options))
    check_methods(context, data)
    held = [example for one in data for example in one.test]
    examples, no_room = with_room(context, held)
    key = digest([(one.name, one.plugin_sha256, one.test_key) for one in data])
    stages = {
        arm.label: [Targets(context, seed, arm, examples, key, no_room) for seed in spec.seeds] for arm in context.arms
    }
    claim.take()
    # Arms without chance share one result among all seeds.
    stages = {label: list({one.key: one for one in own}.values()) for label, own in stages.items()}
    if context.warmup is not None:
        context.warmup.obtain()
    failed, cost = make_together([one for own in stages.values() for one in own])
    results = None
    if train:
        context.release()
        results, more = _train(spec, registry, replace(options, output=folder / "run"), console, data)
        cost.add(more)
    found = []
    for label, point in zip(labels, points, strict=True):
        bad = next((failed[one] for one in stages[label] if one in failed), "")
        made = [] if bad else [one.value for one in stages[label]]
        found.append(measure(label, point, made, _accuracy(results, label), bad))
    method = spec.methods[0].partition("+")[0]
    rows = {one.name: len(one.test) for one in data}
    claim.still_held()
    ablation = Ablation(spec.model, method, rows, found, asdict(cost), train)
    ablation.save(folder)
    return ablation


def _train(
    spec: RunSpec,
    registry: Registry,
    options: RunOptions,
    console: Console,
    data: list[TaskData],
) -> tuple[RunResults, SharedCost]:
    """Trains every point on the other rows; their targets are decoded in one pass, too."""
    from dasd_bench.run.graph import ArmStages
    from dasd_bench.run.prepare import prepare
    from dasd_bench.run.session import run_session

    prepared = prepare(spec, registry, options, console, data)
    if prepared.context.warmup is not None:
        prepared.context.warmup.obtain()
    _, cost = make_together([one.targets for one in prepared.graph.arms if isinstance(one, ArmStages)])
    prepared.context.release()
    return run_session(spec, options, registry, console, data), cost


def grids_of(spec: RunSpec, registry: Registry) -> tuple[str, ...]:
    """The grids that the specification's method tries by itself."""
    return registry.method(spec.methods[0].partition("+")[0]).item.grids


def planned_folder(spec: RunSpec, points: Sequence[Mapping[str, str]], registry: Registry) -> Path:
    """The default folder of an ablation."""
    from dasd_bench.run.prepare import run_name

    labels = point_labels(spec, points, registry)
    return Path("ablations") / run_name(replace(spec, methods=(*spec.methods, digest(labels)[:12])))


def measure(
    label: str, settings: dict[str, str], made: Sequence[Sequence[Target]], accuracy: dict[str, float], failed: str
) -> AblationPoint:
    """A point from the notes of its targets, one list per seed."""
    notes = [target.notes for targets in made for target in targets if "gated_right" in target.notes]

    def total(name: str) -> float:
        return sum(one.get(name, 0.0) for one in notes)

    return AblationPoint(
        label,
        settings,
        n=len(notes),
        seeds=len(made),
        right=total("gated_right"),
        free_right=total("ungated_right"),
        broke=total("gate_broke"),
        fixed=total("gate_mended"),
        tokens=total("gated_tokens"),
        replaced=total("gated_replaced"),
        disagreed=total("gated_disagreed"),
        refused=total("gated_refused"),
        changed=total("gated_changed"),
        accuracy=accuracy,
        failed=failed,
    )


def _accuracy(results: RunResults | None, label: str) -> dict[str, float]:
    """Mean score over seeds by task, empty where the arm was not trained."""
    arm = next((one for one in results.arms if one.label == label), None) if results is not None else None
    if arm is None or not arm.seeds:
        return {}
    return {name: fmean(one.scores[name].mean for one in arm.seeds) for name in arm.seeds[0].scores}
