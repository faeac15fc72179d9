"""The layout of a run directory: every path of a run is spelled here, for those who write it and those who read it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dasd_bench.store.atomic import digest

RESULTS_FILE = "results.json"
MANIFEST_FILE = "manifest.json"
SPEC_FILE = "spec.yaml"
TABLES_FILE = "tables.md"
SWEEP_FILE = "sweep.json"
MARKS = (RESULTS_FILE, MANIFEST_FILE, SPEC_FILE)
"""A folder that holds one of these holds a run."""

SAMPLES_FILE = "samples.jsonl"
ADAPTER_FOLDER = "adapter"
METRICS_FILE = "metrics.jsonl"
"""What a training leaves, in the store as in a run directory."""

LONGEST_FOLDER = 120
"""Characters of a folder name, well under the 255 bytes that file systems allow."""


def folder_name(label: str) -> str:
    """The folder of an arm: its label where that is a plain name, else a readable part of it and a hash.

    A label holds option values, so it may be long, hold slashes or spell ``..``.
    """
    if len(label) <= LONGEST_FOLDER and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+=,@-]*", label):
        return label
    readable = re.sub(r"(\.{2,}|[^A-Za-z0-9._+=,@-])+", "-", label)[: LONGEST_FOLDER - 9].strip("-.")
    return f"{readable}-{digest(label)[:8]}"


@dataclass(frozen=True, slots=True)
class ModelDirectory:
    """What one evaluated model left: the base's folder, or that of one arm and seed."""

    path: Path

    @property
    def targets(self) -> Path:
        """One JSON line per training target, for people."""
        return self.path / "targets.jsonl"

    @property
    def tokens(self) -> Path:
        """The targets' per-token arrays, for tools."""
        return self.path / "tokens.safetensors"

    @property
    def pieces(self) -> Path:
        """The text of every token id that occurs in the targets."""
        return self.path / "pieces.json"

    @property
    def adapter(self) -> Path:
        """The trained adapter, a folder that peft loads."""
        return self.path / ADAPTER_FOLDER

    @property
    def metrics(self) -> Path:
        """One JSON line per optimiser step."""
        return self.path / "train" / METRICS_FILE

    def point(self, name: str) -> ModelDirectory:
        """What an adapter saved during training left; ``name`` is its fraction of training."""
        return ModelDirectory(self.path / "points" / name)

    def points(self) -> list[str]:
        """The names of the adapters saved during training, by fraction."""
        return sorted((path.name for path in self.path.glob("points/*") if path.is_dir()), key=float)

    def samples(self, task: str) -> Path:
        """One JSON line per evaluated item of ``task``."""
        return self.path / "eval" / task / SAMPLES_FILE

    def evaluated(self) -> list[str]:
        """The tasks that have samples here, by name."""
        return sorted(path.parent.name for path in self.path.glob(f"eval/*/{SAMPLES_FILE}"))


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """One run's folder."""

    path: Path

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def results(self) -> Path:
        """Scores and statistics; every table is made of them."""
        return self.path / RESULTS_FILE

    @property
    def manifest(self) -> Path:
        """What the run's numbers are numbers of; written last."""
        return self.path / MANIFEST_FILE

    @property
    def spec(self) -> Path:
        """The resolved specification, which repeats the run."""
        return self.path / SPEC_FILE

    @property
    def lock(self) -> Path:
        """Held while a process works on the run."""
        return self.path / ".lock"

    @property
    def progress(self) -> Path:
        """How far the run is; there only while a process works on it, and hidden, so that it makes no folder a run."""
        return self.path / ".progress.json"

    @property
    def tracking(self) -> Path:
        """What trackers were sent, and the files of those that write into a folder."""
        return self.path / "tracking"

    @property
    def plots(self) -> Path:
        """Figures, where no other folder is asked for."""
        return self.path / "plots"

    @property
    def base(self) -> ModelDirectory:
        """The untrained model's folder."""
        return ModelDirectory(self.path / "base")

    def arm(self, folder: str, seed: int) -> ModelDirectory:
        """The folder of one arm (``Arm.directory``) and seed."""
        return ModelDirectory(self.path / "arms" / folder / f"seed{seed}")

    def arms(self) -> list[tuple[str, int, ModelDirectory]]:
        """Every arm's folder name and seed that is there, with its directory, by name."""
        return [
            (path.parent.name, int(path.name.removeprefix("seed")), ModelDirectory(path))
            for path in sorted(self.path.glob("arms/*/seed*"))
            if path.name.removeprefix("seed").isdigit()
        ]
