"""Published results as claims that a run is checked against.

A replication is a YAML file: ``run``, a specification for ``dasd-bench run -c``; ``claims``, each a difference of two
rows on one task with the published figure and the rule by which a run passes; ``title``, ``source`` and ``notes``.
Differences are over the items that both rows answered, with the interval of every paired comparison of this project;
the published figure itself need not lie in the interval, since prompts and graders differ from harness to harness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dasd_bench.config.spec import RunSpec, layer, resolve
from dasd_bench.errors import UsageError, did_you_mean
from dasd_bench.files.text import shown
from dasd_bench.files.yaml_file import read_mapping
from dasd_bench.methods.base import BASE
from dasd_bench.options import build_options, option
from dasd_bench.reporting.entries import find_entry, pairable, usable, values
from dasd_bench.reporting.format import bracket, signed
from dasd_bench.reporting.table import Cell, Column, Row, Table
from dasd_bench.results.schema import RunResults
from dasd_bench.stats.paired import Paired, compare

RULES = ("higher", "lower", "not-lower", "not-higher")
FOLDER = Path("results") / "replications"

DECISIVE = (
    *("model", "methods", "tasks", "train_tasks", "train_limit", "limit", "seeds", "num_fewshot", "budget"),
    *(
        "sample",
        "thinking",
        "chat_template",
        "max_new_tokens",
        "validation",
        "method_options",
        "reference_style",
        "warmup",
    ),
)
"""The options that a run must share with a replication, beside those of training."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One published difference: ``row`` minus ``against`` on ``task``, scores as shares (0.05 = 5 points)."""

    row: str = option("", help="Label of the row, as in the run's table.")
    against: str = option(BASE, help="Label of the row it is compared with.")
    task: str = option("", help="Task.")
    rule: str = option(
        "higher",
        help="higher, lower: the 95 % interval lies above or below 0; not-lower, not-higher: it lies above -margin or "
        "below margin.",
        choices=RULES,
    )
    margin: float = option(0.0, help="Largest change that still counts as none.", minimum=0.0, maximum=1.0)
    expected: float = option(0.0, help="The published difference.", minimum=-1.0, maximum=1.0)

    def holds(self, low: float, high: float) -> bool:
        """Whether an interval of the difference fulfils the rule."""
        if self.rule == "higher":
            return low > 0
        if self.rule == "lower":
            return high < 0
        return low > -self.margin if self.rule == "not-lower" else high < self.margin

    @property
    def condition(self) -> str:
        """The rule in a few words."""
        margin = f" by {100 * self.margin:g} points" if self.margin else ""
        return f"{self.rule}{margin}"


@dataclass(frozen=True, slots=True)
class Replication:
    """A published result: the run that repeats it and what has to be seen there."""

    name: str
    title: str
    source: str
    spec: RunSpec
    claims: tuple[Claim, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """What a run says of a claim. ``paired`` is None where it could not be tested, and ``reason`` says why."""

    claim: Claim
    paired: Paired | None
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether the run fulfils the claim; one that could not be tested is not fulfilled."""
        interval = self.paired.interval if self.paired is not None else None
        return interval is not None and self.claim.holds(interval.low, interval.high)

    @property
    def verdict(self) -> str:
        """``pass``, ``fail`` or ``not tested``."""
        return "not tested" if self.paired is None else "pass" if self.passed else "fail"


def find_replication(name: str) -> Path:
    """The file of a replication: a path, or a name in ``results/replications`` of the working folder or the checkout.

    Raises :class:`UsageError` with the known names.
    """
    shipped = Path(__file__).resolve().parents[1] / "plugins" / "replications"
    folders = (FOLDER, Path(__file__).resolve().parents[2] / FOLDER, shipped)
    for path in (Path(name), *(folder / f"{name}.yaml" for folder in folders)):
        if path.is_file():
            return path
    known = sorted({path.stem for folder in folders if folder.is_dir() for path in folder.glob("*.yaml")})
    listed = f" Known: {', '.join(known)}." if known else ""
    raise UsageError(
        f"--against '{shown(name)}' is no file and no known replication.{did_you_mean(name, known)}{listed}"
    )


def read_replication(path: Path) -> Replication:
    """Reads and checks a replication file. Raises :class:`UsageError` naming the file and what is wrong in it."""
    values = read_mapping(path)
    known = ("title", "source", "run", "claims", "notes")
    for key in values:
        if key not in known:
            raise UsageError(f"{path}: unknown key '{shown(key)}'.{did_you_mean(key, known)}")
    for key, kind in (("title", str), ("source", str), ("run", Mapping), ("claims", list)):
        if not isinstance(values.get(key), kind):
            raise UsageError(f"{path}: '{key}' is missing or not of the right kind; see docs/lab.md for the form.")
    spec = resolve(layer(f"{path}, run", values["run"]))
    claims = tuple(_claim(path, number, one, spec) for number, one in enumerate(values["claims"], 1))
    if not claims:
        raise UsageError(f"{path}: 'claims' is empty; state at least one.")
    return Replication(path.stem, values["title"], values["source"], spec, claims, tuple(values.get("notes") or ()))


def _claim(path: Path, number: int, given: Any, spec: RunSpec) -> Claim:
    where = f"{path}, claim {number}"
    if not isinstance(given, Mapping):
        raise UsageError(f"{where}: it must be a mapping with row, against, task, rule and expected.")
    claim = build_options(Claim, given, f"key in {where}:", f"{where}: ")
    rows = (BASE, *spec.methods)
    for label in (claim.row, claim.against):
        if label not in rows:
            raise UsageError(f"{where}: the run has no row '{shown(label)}'; it has {', '.join(rows)}.")
    if claim.task not in spec.tasks:
        raise UsageError(f"{where}: the run has no task '{shown(claim.task)}'; it has {', '.join(spec.tasks)}.")
    return claim


def check(run: RunResults, replication: Replication) -> list[Finding]:
    """Tests every claim on a run. Raises :class:`~dasd_bench.errors.DasdError` for a run without any score."""
    usable([run])
    return [_finding(run, claim) for claim in replication.claims]


def _finding(run: RunResults, claim: Claim) -> Finding:
    try:
        row, against = find_entry(run, claim.row), find_entry(run, claim.against)
    except UsageError as error:
        return Finding(claim, None, str(error))
    ours, theirs = row.scores(claim.task), against.scores(claim.task)
    if not pairable(ours, theirs):
        return Finding(claim, None, f"{claim.task} was not scored on the same items for both rows")
    info = run.task(claim.task)
    missing = row.missing(info) or against.missing(info)
    if missing:
        return Finding(claim, None, f"{claim.task} is unfinished ({missing})")
    return Finding(claim, compare(values(ours), values(theirs), higher_is_better=info.higher_is_better))


def deviations(run: RunSpec, replication: Replication) -> list[str]:
    """Where a run departs from the replication's specification, one clause each; what changes no score is left out."""
    wanted = replication.spec
    found = [
        f"{name} is {_text(getattr(run, name))} instead of {_text(getattr(wanted, name))}"
        for name in DECISIVE
        if getattr(run, name) != getattr(wanted, name)
    ]
    if run.training != wanted.training:
        found.append("the training settings differ")
    return found


def _text(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def check_table(replication: Replication, findings: Sequence[Finding]) -> Table:
    """Claim by claim: expected, seen, interval, rule, verdict."""
    columns = [
        Column(key, title)
        for key, title in (
            ("claim", "difference"),
            ("expected", "expected"),
            ("seen", "seen"),
            ("interval", "95 % interval"),
            ("rule", "rule"),
            ("verdict", "verdict"),
        )
    ]
    rows = [Row(f"{number}", _cells(finding)) for number, finding in enumerate(findings, 1)]
    reasons = [f"Claim {n}: {one.reason}" for n, one in enumerate(findings, 1) if one.reason]
    caption = [f"Source: {replication.source}", *replication.notes, *reasons]
    return Table("check", replication.title, columns, rows, caption=caption, row_title="claim")


def _cells(finding: Finding) -> dict[str, Cell]:
    claim, paired = finding.claim, finding.paired
    cells = {
        "claim": Cell(f"{claim.row} - {claim.against}, {claim.task}"),
        "expected": Cell(signed(claim.expected), claim.expected),
        "rule": Cell(claim.condition),
        "verdict": Cell(finding.verdict),
    }
    if paired is not None and paired.interval is not None:
        low, high = paired.interval.low, paired.interval.high
        cells["seen"] = Cell(signed(paired.difference), paired.difference, low=low, high=high, n=paired.n, p=paired.p)
        cells["interval"] = Cell(bracket(paired.interval, sign=True), low=low, high=high)
    return cells
