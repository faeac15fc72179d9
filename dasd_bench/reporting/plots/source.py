"""What a plot is made from and what it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dasd_bench.results.directory import RunDirectory
from dasd_bench.results.schema import RunResults

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Source:
    """One run: its directory and its results."""

    path: Path
    results: RunResults

    @property
    def directory(self) -> RunDirectory:
        """The paths in the run's folder."""
        return RunDirectory(self.path)


@dataclass(frozen=True, slots=True)
class Plot:
    """A finished figure. ``caption`` says how it was made, ``alt`` gives its content in words and numbers."""

    kind: str
    title: str
    caption: str
    alt: str
    figure: Figure

    @property
    def width(self) -> float:
        """Width in inches."""
        return float(self.figure.get_figwidth())


@dataclass(frozen=True, slots=True)
class Nothing:
    """Why a kind of plot has nothing to show for these runs: one sentence."""

    kind: str
    why: str


def series_name(sources: Sequence[Source], source: Source, label: str) -> str:
    """A row's name in a legend: its label; of several runs with the model, or with the run where models repeat."""
    if len(sources) == 1:
        return label
    models = [one.results.model for one in sources]
    shared = models.count(source.results.model) > 1
    return f"{label} [{source.results.run_id if shared else source.results.model}]"


def partial_note(sources: Sequence[Source]) -> str:
    """A sentence that names partial runs, or nothing."""
    partial = [one.results.run_id for one in sources if one.results.status != "finished"]
    return f" Partial run: {', '.join(partial)}; unfinished rows are omitted." if partial else ""
