"""Plots of runs, drawn from run directories alone. ``KINDS`` names them; :func:`draw` makes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dasd_bench.reporting.entries import usable
from dasd_bench.reporting.plots.along import along
from dasd_bench.reporting.plots.forgetting import forgetting
from dasd_bench.reporting.plots.save import FORMATS, inline_svg, save
from dasd_bench.reporting.plots.scores import cost, difficulty, scores
from dasd_bench.reporting.plots.source import Nothing, Plot, Source
from dasd_bench.reporting.plots.style import look
from dasd_bench.reporting.plots.targets import notes, ppl
from dasd_bench.reporting.plots.training import training

KINDS: dict[str, Callable[[Sequence[Source]], Plot | Nothing]] = {
    "scores": scores,
    "difficulty": difficulty,
    "ppl": ppl,
    "notes": notes,
    "forgetting": forgetting,
    "training": training,
    "along": along,
    "cost": cost,
}
"""Every kind of plot in the order in which they are shown."""

__all__ = ["FORMATS", "KINDS", "Nothing", "Plot", "Source", "draw", "inline_svg", "save"]


def draw(sources: Sequence[Source], kinds: Sequence[str]) -> list[Plot | Nothing]:
    """The plots of the named kinds. Raises :class:`DasdError` for runs that cannot be shown at all."""
    usable([one.results for one in sources])
    with look():
        return [KINDS[kind](sources) for kind in kinds]
