"""What an ablation of decoding rules found, one point per setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dasd_bench.errors import StoreError
from dasd_bench.files.json_file import read_object
from dasd_bench.results.json_codec import DecodeError, decode
from dasd_bench.store.atomic import write_json

SCHEMA_VERSION = 1
FILE = "ablation.json"


@dataclass(frozen=True, slots=True)
class AblationPoint:
    """One setting. Counts are sums over examples and seeds; ``n`` is the number of answers.

    ``right`` answers after the gate and ``free_right`` of the ungated rewrite; ``broke`` and ``fixed`` are those that
    only the gate made wrong and right. ``tokens`` of the gated answers, ``replaced`` of them by the gate; ``refused``
    of ``disagreed`` disagreements; ``changed`` answers differ from the ungated rewrite. ``accuracy`` is the mean score
    after training by task, empty where nothing was trained. ``failed`` says why a point has no numbers.
    """

    label: str
    settings: dict[str, str]
    n: int = 0
    seeds: int = 0
    right: float = 0.0
    free_right: float = 0.0
    broke: float = 0.0
    fixed: float = 0.0
    tokens: float = 0.0
    replaced: float = 0.0
    disagreed: float = 0.0
    refused: float = 0.0
    changed: float = 0.0
    accuracy: dict[str, float] = field(default_factory=dict)
    failed: str = ""

    @property
    def series(self) -> str:
        """The settings that are no numbers: the line of a figure that the point belongs to."""
        words = [value for value in self.settings.values() if not _is_number(value)]
        return " ".join(words) or self.label

    @property
    def numbers(self) -> dict[str, float]:
        """The settings that are numbers."""
        return {name: float(value) for name, value in self.settings.items() if _is_number(value)}

    @property
    def threshold(self) -> str:
        """The settings that are numbers, as they were given."""
        return ", ".join(f"{name}={self.settings[name]}" for name in self.numbers)

    @property
    def replaced_share(self) -> float:
        """The share of the gated answers' tokens that the gate took from the base."""
        return self.replaced / self.tokens if self.tokens else 0.0

    @property
    def refused_share(self) -> float:
        """The share of disagreements at which the candidate was replaced."""
        return self.refused / self.disagreed if self.disagreed else 0.0

    @property
    def right_share(self) -> float:
        """The share of gated answers that are right."""
        return self.right / self.n if self.n else 0.0


@dataclass(frozen=True, slots=True)
class Ablation:
    """All points, in the grid's order, and what decoding them cost in tokens through the model.

    ``cost`` has the fields of :class:`dasd_bench.engine.many_rules.SharedCost`; zeros where the store had it all.
    """

    model: str
    method: str
    rows: dict[str, int]
    points: Sequence[AblationPoint]
    cost: dict[str, int]
    trained: bool = False

    def save(self, folder: Path) -> Path:
        """Writes ``ablation.json``; gives its path."""
        plain: dict[str, Any] = asdict(self)
        path = folder / FILE
        write_json(path, {"schema": SCHEMA_VERSION, **plain})
        return path

    @staticmethod
    def load(folder: Path) -> Ablation:
        """Reads ``ablation.json``; raises :class:`StoreError` where it is damaged or of a later version."""
        path = folder / FILE
        plain = read_object(path, hint="run the ablation again")
        if plain.get("schema") != SCHEMA_VERSION:
            raise StoreError(f"{path} has schema {plain.get('schema')}, this dasd-bench reads {SCHEMA_VERSION}.")
        try:
            return decode(Ablation, plain)
        except DecodeError as error:
            raise StoreError(f"{path}: not an ablation ({error}); run the ablation again.") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
