"""How the plots look: colours that colour-blind readers can tell apart, and a marker, line and hatch of its own for
every series, so that a print in black and white can be read too."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#30343b"
"""Text and axes. The report replaces it by the page's own text colour."""

GRID = "#d5d8dd"
BASE_COLOUR = "#6f7680"

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b0508a", "#2d9fd8", "#c98a00", "#7a5fc0", "#8c564b")
"""Okabe and Ito's palette, the light ones darkened so that they keep a contrast of 3 on white."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
LINES: tuple[Any, ...] = (
    "-",
    (0, (6, 1.6)),
    (0, (1.2, 1.2)),
    (0, (6, 1.5, 1.2, 1.5)),
    (0, (3, 1.2)),
    (0, (8, 2, 1, 2, 1, 2)),
    (0, (2, 3)),
    (0, (10, 3)),
)
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++", "oooo", "----")

RC: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.5,
    "errorbar.capsize": 2.5,
    "hatch.linewidth": 0.6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.hashsalt": "dasd-bench",
    # Type 42 keeps text as text; conferences refuse Type 3 fonts.
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
}


@dataclass(frozen=True, slots=True)
class Style:
    """Colour, marker, line and hatch of one series."""

    colour: str
    marker: str
    line: Any
    hatch: str


BASE_STYLE = Style(BASE_COLOUR, "_", (0, (1, 2.2)), "")


def styles(labels: Iterable[str]) -> dict[str, Style]:
    """A style for every label in order of first appearance; ``base`` is always grey. Beyond eight, markers and
    lines shift by different steps, so that no two series look alike in black and white."""
    named = dict.fromkeys(labels)
    found = {name: BASE_STYLE for name in named if name == "base" or name.startswith("base [")}
    for index, name in enumerate(name for name in named if name not in found):
        turn, place = divmod(index, len(COLOURS))
        shifted = (place + 3 * turn) % len(COLOURS)
        line = (place + 5 * turn) % len(LINES)
        found[name] = Style(COLOURS[place], MARKERS[shifted], LINES[line], HATCHES[line])
    return found


@contextlib.contextmanager
def look() -> Iterator[None]:
    """matplotlib's settings for the block; nothing global is changed."""
    import matplotlib

    with matplotlib.rc_context(RC):  # type: ignore[arg-type]
        yield


def panels(count: int, *, width: float = 3.4, height: float = 2.7, across: int = 3) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` axes, ``across`` in a row at most; sizes in inches."""
    from matplotlib.figure import Figure

    columns = min(count, across)
    rows = -(-count // columns)
    figure = Figure(figsize=(max(4.6, width * columns), height * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    axes = list(grid.flat)
    for spare in axes[count:]:
        spare.set_axis_off()
    return figure, axes[:count]


def legend_below(figure: Figure, *axes: Axes) -> None:
    """One legend of all ``axes``, under the figure, in as many columns as fit; the figure grows by its height."""
    known: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            known.setdefault(label, handle)
    if not known:
        return
    handles, labels = list(known.values()), list(known)
    labels = [textwrap.fill(label, 60) for label in labels]
    # 8.5-point DejaVu Sans takes about 0.078 inches a character; a handle with its gaps about 0.65.
    longest = max(len(line) for label in labels for line in label.split("\n"))
    room = figure.get_figwidth() - 0.2
    fitting = max(1, int(room / (0.65 + 0.078 * longest)))
    if sum(0.65 + 0.078 * len(label) for label in labels) <= room:
        fitting = len(labels)
    rows = -(-len(labels) // fitting)
    lines = -(-sum(label.count("\n") + 1 for label in labels) // fitting)
    figure.set_figheight(figure.get_figheight() + 0.19 * lines)
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=-(-len(labels) // rows),
        handlelength=2.6,
        columnspacing=1.2,
    )


def dot(
    axis: Axes, x: float, y: float, style: Style, name: str, *, filled: bool, xerr: Any = None, yerr: Any = None
) -> None:
    """One point of a series with its intervals; hollow where it is not ``filled``."""
    marker = "o" if style.marker == "_" else style.marker
    axis.errorbar([x], [y], xerr=xerr, yerr=yerr, fmt="none", ecolor=style.colour, elinewidth=1.0, zorder=2)
    # Its own line, so that the legend shows the marker without the bars.
    axis.plot(
        [x],
        [y],
        marker=marker,
        color=style.colour,
        markerfacecolor=style.colour if filled else "none",
        markeredgewidth=1.4,
        markersize=7.5,
        label=name,
        linestyle="none",
        zorder=3,
    )
