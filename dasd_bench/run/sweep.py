"""A sweep: every arm on the same grid of settings, scored on validation rows; the best per arm and the whole surface.

Each point of the grid is an ordinary run over the shared store, so targets and scores are made once. The test split is
not read: settings are chosen by accuracy on rows held back from the train split. Ties go to the lowest nll of the
base's own right answers, so to what changed the model least: the nll of the references would favour settings under
which an arm comes to write like gold answers, which is what plain SFT trains for.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from dasd_bench.config.renamed import new_name
from dasd_bench.config.spec import RunSpec, arms, layer, parse_arm, parse_set, resolve, split_arm, split_commas, to_yaml
from dasd_bench.console import Console
from dasd_bench.errors import DasdError, UsageError
from dasd_bench.options import option_rules
from dasd_bench.registry import Registry
from dasd_bench.results.directory import SWEEP_FILE
from dasd_bench.results.schema import RunResults, SeedArm
from dasd_bench.run.claim import Claim
from dasd_bench.run.data import TaskData
from dasd_bench.run.options import RunOptions
from dasd_bench.run.plan import PlanRow
from dasd_bench.stats.paired import compare
from dasd_bench.store.atomic import digest, write_json

SCHEMA_VERSION = 1
SETTINGS_FILE = "sweep.yaml"
VALIDATION_ROWS = 128
"""Rows per task where ``--validation`` does not say."""

INDISTINCT = 0.05
"""A point whose difference from the best has a larger p than this cannot be told from it."""


@dataclass(frozen=True, slots=True)
class Point:
    """One combination of the grid: dotted names and their values as text."""

    settings: Mapping[str, str]

    @property
    def name(self) -> str:
        """A folder name: ``lora_rank=8,lr=5e-5``."""
        return ",".join(f"{key.rpartition('.')[2]}={value}" for key, value in self.settings.items())


@dataclass(slots=True)
class Cell:
    """One arm at one point: mean score over tasks and seeds, mean reference nll in nats, score by task.

    ``own_nll`` is the mean nll of the base's own right answers, None where it has none. ``items`` has every item's
    score, one list per seed. ``failed`` is True where a seed has no result.
    """

    score: float = 0.0
    nll: float = 0.0
    by_task: dict[str, float] = field(default_factory=dict)
    items: list[list[float]] = field(default_factory=list)
    failed: bool = False
    own_nll: float | None = None


@dataclass(slots=True)
class Surface:
    """What a sweep found: ``cells[arm][i]`` belongs to ``points[i]``; ``base`` is the untrained model by task."""

    points: list[Point]
    arms: list[str]
    cells: dict[str, list[Cell]] = field(default_factory=dict)
    base: dict[str, float] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)

    def best(self, arm: str) -> int | None:
        """The index of the arm's best point: highest score, then lowest ``own_nll``, then first; None if all failed."""
        alive = [(-cell.score, cell.own_nll or 0.0, i) for i, cell in enumerate(self.cells[arm]) if not cell.failed]
        return min(alive)[2] if alive else None

    def indistinct(self, arm: str) -> int:
        """How many other points of the arm a paired test cannot tell from its best one."""
        best = self.best(arm)
        if best is None:
            return 0
        top = self.cells[arm][best].items
        others = [cell.items for i, cell in enumerate(self.cells[arm]) if i != best and not cell.failed]
        return sum(compare(top, items).p >= INDISTINCT for items in others)

    def at_edge(self, arm: str) -> list[str]:
        """Settings whose best value is the first or last of three or more numbers tried: the grid may be too narrow."""
        best = self.best(arm)
        found = []
        for key in self.points[0].settings if best is not None else ():
            tried = sorted({_number(point.settings[key]) for point in self.points} - {None}, key=float)  # type: ignore[arg-type]
            own = _number(self.points[best or 0].settings[key])
            if len(tried) >= 3 and own in (tried[0], tried[-1]):
                found.append(key)
        return found


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def parse_grid(items: Sequence[str]) -> list[Point]:
    """``--grid NAME=V1,V2`` items as all their combinations, the last name varying fastest.

    A value that holds commas stands in double quotes: ``training.lora_targets=all-linear,"q_proj,v_proj"``.
    """
    axes: dict[str, list[str]] = {}
    for item in items:
        name, sep, text = item.partition("=")
        values = split_commas(text)
        section, dot, key = name.strip().partition(".")
        if not sep or not dot or not key or not values:
            raise UsageError(f"--grid {item}: write NAME=VALUE,VALUE, for instance training.lr=5e-5,2e-4.")
        if section == "engine":
            raise UsageError(f"--grid {item}: engine options do not change training; use --set.")
        name = f"{section}.{new_name(section, key)}"
        if name in axes or len(set(values)) != len(values):
            raise UsageError(f"--grid {item}: named twice.")
        axes[name] = values
    if not axes:
        raise UsageError("A sweep needs a grid: --grid training.lora_rank=8,64 --grid training.lr=5e-5,2e-4.")
    return grid_points(axes)


def grid_points(axes: Mapping[str, Sequence[str]]) -> list[Point]:
    """All combinations of the values of ``axes``, the last name varying fastest."""
    return [Point(dict(zip(axes, values, strict=True))) for values in itertools.product(*axes.values())]


def run_sweep(spec: RunSpec, points: list[Point], registry: Registry, options: RunOptions, console: Console) -> Surface:
    """Runs every point of the grid and gives the surface; a point that fails ends no sweep.

    ``options.output`` is the sweep's folder: points under ``points/``, the surface so far in ``sweep.json``. Raises
    :class:`UsageError` where the grid cannot be run, before the first point, and :class:`RunInterrupted` on Ctrl-C.
    """
    from dasd_bench.run.prepare import load
    from dasd_bench.run.session import RunInterrupted, run_session

    specs, labels = _point_specs(spec, points, registry)
    folder = options.output or sweep_folder(spec, points)
    claim = Claim(folder, SETTINGS_FILE, _settings_text(spec, points), "a sweep")
    claim.check()
    surface = Surface(points, labels)
    data = load(specs[0], registry, console)
    claim.take()
    written: list[Path] = []
    shared = console.branch()
    for number, (point, one) in enumerate(zip(points, specs, strict=True), 1):
        console.say(f"[sweep] point {number} of {len(specs)}: {point.name}")
        place = replace(options, output=folder / "points" / point.name, track=())
        try:
            add_run(surface, run_session(one, place, registry, shared.branch(), data), one.seeds)
            written.append(folder / "points" / point.name)
        except RunInterrupted:
            raise RunInterrupted(f"Interrupted. Run the same command again to resume ({folder}).") from None
        except DasdError as error:
            if isinstance(error, UsageError):
                raise
            console.warn(f"point {point.name} failed: {error}")
            add_failure(surface)
        claim.still_held(written)
        save_surface(folder / SWEEP_FILE, one, surface, "partial")
    if all(cell.failed for cells in surface.cells.values() for cell in cells):
        raise DasdError("No arm finished at any point of the grid; see the warnings above.")
    return surface


def _point_specs(spec: RunSpec, points: list[Point], registry: Registry) -> tuple[list[RunSpec], list[str]]:
    """Every point's run, all checked before the first one is trained, and the labels of the arms."""
    specs = [point_spec(spec, point) for point in points]
    check_axes(specs[0], points[0])
    labels = [[arm.label for arm in arms(one, registry)] for one in specs].pop()
    if not labels:
        raise UsageError("A sweep tunes methods, and 'base' is not a method; name one with --method.")
    return specs, labels


def plan_sweep(
    spec: RunSpec, points: list[Point], registry: Registry, options: RunOptions, console: Console
) -> tuple[list[TaskData], list[list[PlanRow]]]:
    """The rows of data, and the plan of every point; a stage that an earlier point makes is ``shared``.

    Raises :class:`UsageError` where the grid cannot be run. A model that is not on this machine is planned from its
    known shape, point by point; the plan is empty where nothing is known of it.
    """
    from dasd_bench.run.outline import outline
    from dasd_bench.run.prepare import load, plan_unfetched, prepare

    specs, _ = _point_specs(spec, points, registry)
    data = load(specs[0], registry, console)
    plans = []
    planned: set[tuple[str, str]] = set()
    missing = bool(plan_unfetched(spec))
    for one, point in zip(specs, points, strict=True):
        place = replace(options, output=(options.output or sweep_folder(spec, points)) / "points" / point.name)
        if missing:
            planner = outline(one, registry, data, place, console.branch())
            plans.append(planner.rows if planner else [])
        else:
            plans.append(prepare(one, registry, place, console.branch(), data, planned).plan)
    return data, plans


def _settings_text(spec: RunSpec, points: Sequence[Point]) -> str:
    """What ``sweep.yaml`` says: the specification and the grid."""
    return to_yaml(spec) + yaml.safe_dump({"sweep": [dict(point.settings) for point in points]}, sort_keys=False)


def sweep_folder(spec: RunSpec, points: Sequence[Point]) -> Path:
    """The default folder of a sweep."""
    from dasd_bench.run.prepare import run_name

    grid = digest([dict(point.settings) for point in points])
    return Path("sweeps") / run_name(replace(spec, methods=(*spec.methods, grid[:12])))


def check_axes(spec: RunSpec, point: Point) -> None:
    """Raises :class:`UsageError` where an arm of a point's ``spec`` sets an option of the grid in a stronger way.

    All points would train that arm alike, and the final run, which writes the best point into the arm, otherwise.
    """
    for key in point.settings:
        section, _, option = key.partition(".")
        for text in (part for arm in spec.methods for part in split_arm(arm)):
            name, own, training = parse_arm(text)
            named = spec.method_options.get(name, {})
            stronger = ""
            if option in (training if section == "training" else own if section in ("method", name) else ()):
                stronger = f"--method {text} sets it for that arm"
            elif section == "method" and option in named:
                stronger = f"{name}.{option} is set to {named[option]}"
            if stronger:
                raise UsageError(f"--grid {key}: {stronger}, so the grid could not change it; remove one of the two.")


def point_spec(spec: RunSpec, point: Point) -> RunSpec:
    """The run of one point: the sweep's specification with the point's settings on top, on validation rows."""
    rows = spec.validation or VALIDATION_ROWS
    settings = parse_set([f"{key}={value}" for key, value in point.settings.items()])
    return resolve(layer("the sweep", asdict(replace(spec, validation=rows))), settings)


def add_run(surface: Surface, results: RunResults, seeds: Sequence[int]) -> None:
    """Adds the run of the next point."""
    found = {arm.label: arm for arm in results.arms}
    for label in surface.arms:
        trained = found[label].seeds if label in found else []
        complete = {one.seed for one in trained} == set(seeds)
        surface.cells.setdefault(label, []).append(_cell(trained) if complete else Cell(failed=True))
    surface.base = {name: score.mean for name, score in results.base.items()}
    surface.rows = {name: score.n for name, score in results.base.items()}


def add_failure(surface: Surface) -> None:
    """Adds a point that gave no run."""
    for label in surface.arms:
        surface.cells.setdefault(label, []).append(Cell(failed=True))


def _cell(seeds: Sequence[SeedArm]) -> Cell:
    names = list(seeds[0].scores)
    by_task = {name: fmean(one.scores[name].mean for one in seeds) for name in names}
    nlls = [one.scores[name].reference_nll for one in seeds for name in names]
    own = [nll.own.mean for nll in nlls if nll is not None and nll.own is not None]
    return Cell(
        own_nll=fmean(own) if own else None,
        score=fmean(by_task.values()),
        nll=fmean(nll.all_tokens_mean for nll in nlls if nll is not None),
        by_task=by_task,
        items=[[value for name in names for value in one.scores[name].values()] for one in seeds],
    )


def winners(spec: RunSpec, registry: Registry, surface: Surface) -> RunSpec:
    """The final run: every arm that finished anywhere with the settings that were best for it, on the test split."""
    methods = []
    for label in surface.arms:
        best = surface.best(label)
        if best is None:
            continue
        arm = split_arm(label)
        for number, part in enumerate(arm):
            method = parse_arm(part)[0]
            rules = option_rules(registry.method(method).item)
            for key, value in surface.points[best].settings.items():
                section, _, name = key.partition(".")
                if section == "training" and number == len(arm) - 1:
                    arm[number] += f"+{key}={value}"
                elif section == method or (section == "method" and name in rules):
                    arm[number] += f"+{name}={value}"
        methods.append("*".join(arm))
    return replace(spec, methods=tuple(methods), validation=0)


def save_surface(path: Path, spec: RunSpec, surface: Surface, status: str, command: str = "") -> None:
    """``sweep.json``: the grid, every cell, the best point per arm and the command of the final run."""
    best = {}
    for arm in surface.arms:
        index = surface.best(arm) if arm in surface.cells else None
        if index is not None:
            cell = surface.cells[arm][index]
            best[arm] = {
                "point": surface.points[index].name,
                "settings": dict(surface.points[index].settings),
                "score": cell.score,
                "nll": cell.nll,
                "own_nll": cell.own_nll,
                "indistinct_points": surface.indistinct(arm),
                "at_edge": surface.at_edge(arm),
            }
    write_json(
        path,
        {
            "schema": SCHEMA_VERSION,
            "status": status,
            "selected_by": "mean score on validation rows, then lowest NLL of the base's own correct answers",
            "seeds": list(spec.seeds),
            "validation_rows": surface.rows,
            "base": surface.base,
            "points": [
                {
                    "name": point.name,
                    "settings": dict(point.settings),
                    "run": f"points/{point.name}",
                    "arms": {arm: _plain(cells[i]) for arm, cells in surface.cells.items() if i < len(cells)},
                }
                for i, point in enumerate(surface.points)
            ],
            "best": best,
            "final_command": command,
        },
    )


def _plain(cell: Cell) -> dict[str, Any]:
    if cell.failed:
        return {"failed": True}
    return {"score": cell.score, "nll": cell.nll, "own_nll": cell.own_nll, "by_task": cell.by_task}
