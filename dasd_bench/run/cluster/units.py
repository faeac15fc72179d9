"""The unfinished stages of a run as units of work, each with the units that it has to wait for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dasd_bench.errors import PluginError
from dasd_bench.run.graph import Graph
from dasd_bench.run.matching import UnknownBudgetError
from dasd_bench.run.stages.base import Stage
from dasd_bench.run.stages.evaluate import Evaluate


@dataclass(frozen=True, eq=False)
class Unit:
    """One distinct stage that the store does not have yet. ``needs`` are the units whose results it reads.

    With ``share`` it is the i-th of n shares of an evaluation; the unit of the whole evaluation needs all of them.
    """

    stage: Stage[Any]
    needs: tuple[Unit, ...]
    share: tuple[int, int] | None = None

    @property
    def entry(self) -> str:
        """``<kind>/<key>``: the name of its entry in the store."""
        return f"{self.stage.kind}/{self.stage.key}"

    @property
    def id(self) -> str:
        """Its entry's name, with the number of the share."""
        return self.entry if self.share is None else f"{self.entry}#{self.share[0]}"

    @property
    def title(self) -> str:
        """``dasd seed 0: train``."""
        seed = "" if self.stage.seed is None else f" seed {self.stage.seed}"
        share = "" if self.share is None else f", share {self.share[0] + 1} of {self.share[1]}"
        return f"{self.stage.label}{seed}: {self.stage.name}{share}"

    @property
    def layer(self) -> int:
        """The number of units that have to run before it, one after the other."""
        return 1 + max((one.layer for one in self.needs), default=-1)


def unfinished_units(graph: Graph, split: int = 1) -> list[Unit]:
    """The unfinished stages of ``graph`` in its order, each once, however many arms share it.

    With ``split`` above 1 each evaluation comes as so many shares of its answers, and the unit that collects them.

    An arm whose plugin fails where keys are made has no units: the run reports it. Nor have stages whose keys follow
    from targets that are not made yet (``--budget tokens``).
    """
    units: dict[str, Unit] = {}
    warmups = () if graph.warmup is None else (graph.warmup,)
    for stage in graph.walk():
        try:
            name = f"{stage.kind}/{stage.key}"
            if name in units or stage.entry.finished() is not None:
                continue
            before = stage.needs() if stage is graph.warmup else (*stage.needs(), *warmups)
            needs = tuple(units[one] for need in before if (one := f"{need.kind}/{need.key}") in units)
        except (PluginError, UnknownBudgetError):
            continue
        shares = []
        if split > 1 and isinstance(stage, Evaluate):
            shares = [Unit(stage, needs, (number, split)) for number in range(split)]
            units.update({one.id: one for one in shares})
        units[name] = Unit(stage, (*needs, *shares))
    return list(units.values())


def layers(units: Sequence[Unit]) -> list[list[Unit]]:
    """Units by layer: those of one layer depend on earlier layers alone."""
    found: list[list[Unit]] = [[] for _ in range(1 + max((unit.layer for unit in units), default=-1))]
    for unit in units:
        found[unit.layer].append(unit)
    return found
