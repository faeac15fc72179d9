"""What ``dasd-bench probe`` finds: labelled tokens, and how well scores and rules tell corrections from the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dasd_bench.errors import StoreError
from dasd_bench.files.json_file import read_object
from dasd_bench.files.jsonl import dump_rows, numbered_rows
from dasd_bench.results.json_codec import DecodeError, decode, dumps
from dasd_bench.stats.separation import Estimate, Replacement
from dasd_bench.store.atomic import write_bytes, write_text

SCHEMA_VERSION = 1

CORRECTION = "correction"
DAMAGE = "damage"
NEUTRAL = "neutral"
STYLE = "style"

LABELS = (CORRECTION, DAMAGE, NEUTRAL, STYLE)
"""Labels of a token. Flip test: correction, damage or neutral. By construction: correction or style."""

SETTINGS_FILE = "probe.yaml"
RESULTS_FILE = "probe.json"
LABELS_FILE = "labels.jsonl"
REPORT_FILE = "report.html"


@dataclass(frozen=True, slots=True)
class LabelledToken:
    """One token with its label.

    ``example`` is the id of its row and ``position`` its index in the target. ``candidate`` is the token of the target
    and ``own`` the base's likeliest one there, as text. ``kind`` is ``numeric``, ``name`` (programs only), ``wording``
    or ``format``. ``features`` holds the numbers of both contexts by name, ``replaced`` by arm the chance (0 to 1) that
    the arm's rule or selection refuses the candidate. ``answers`` are the final answers that the flip test found after
    the base's token and after the candidate.
    """

    example: str
    task: str
    position: int
    candidate: str
    own: str
    kind: str
    label: str
    features: dict[str, float]
    replaced: dict[str, float] = field(default_factory=dict)
    level: str | None = None
    source: str = ""
    answers: tuple[str | None, str | None] | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """How many tokens a group has, by label and by kind, and from how many examples."""

    group: str
    examples: int
    tokens: int
    labels: dict[str, int]
    kinds: dict[str, dict[str, int]]
    """By kind, then by label."""


@dataclass(frozen=True, slots=True)
class Selector:
    """A score or an arm on one group of tokens.

    ``truth`` says what is told apart: ``label`` (corrections from the rest) or ``kind`` (numbers and names from
    wording). ``auc`` is None where a side is missing. ``at`` has one entry per replacement rate: common ones for a
    score, its own for an arm.
    """

    name: str
    group: str
    truth: str
    tokens: int
    freed: int
    auc: Estimate | None
    at: list[Replacement]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One task's answers: right shares of the base's own answer and of the ungated rewrite, and what was sampled."""

    task: str
    examples: int
    base_right: int
    rewrite_right: int
    disagreements: int
    tested: int


@dataclass(frozen=True, slots=True)
class ProbeResults:
    """Everything that ``probe.json`` holds. ``about`` is what a reader needs to repeat it."""

    name: str
    model: str
    labels: str
    settings: dict[str, str]
    counts: list[Counts]
    outcomes: list[Outcome]
    scores: list[Selector]
    arms: list[Selector]
    warnings: list[str]
    about: dict[str, str]
    seconds: float = 0.0
    schema_version: int = SCHEMA_VERSION

    def group(self, name: str) -> Counts:
        """The counts of a group."""
        return next(one for one in self.counts if one.group == name)


def save_probe(folder: Path, results: ProbeResults, tokens: Sequence[LabelledToken]) -> None:
    """Writes ``labels.jsonl`` and ``probe.json`` into ``folder``."""
    write_bytes(folder / LABELS_FILE, dump_rows([asdict(one) for one in tokens]))
    write_text(folder / RESULTS_FILE, dumps(results))


def load_probe(folder: Path) -> tuple[ProbeResults, list[LabelledToken]]:
    """What :func:`save_probe` wrote; raises :class:`StoreError` naming the file that is missing or damaged."""
    path = folder / RESULTS_FILE
    try:
        results = decode(ProbeResults, read_object(path, hint="run the probe again"))
        rows = numbered_rows(folder / LABELS_FILE, error=StoreError, hint="run the probe again")
        return results, [decode(LabelledToken, row) for _, row in rows]
    except FileNotFoundError as error:
        raise StoreError(f"{error.filename} is missing; run the probe again.") from None
    except DecodeError as error:
        raise StoreError(f"{folder}: not a probe ({error}); run it again.") from None
