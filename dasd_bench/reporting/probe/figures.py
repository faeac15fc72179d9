"""The figure of a probe: what each arm replaces by kind of token and label, and the ROC curves of the scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dasd_bench.reporting.plots.source import Nothing, Plot
from dasd_bench.reporting.plots.style import INK, legend_below, panels, styles
from dasd_bench.results.probe import LABELS, LabelledToken
from dasd_bench.results.selectors import SCORES, truths
from dasd_bench.stats.separation import roc

CURVES = ("conf", "surprise", "atypical", "insist", "gain", "tolerated")
"""Scores whose curves are drawn; the tables have all."""


def probe_figures(tokens: Sequence[LabelledToken]) -> list[Plot | Nothing]:
    """Rates by class, and ROC curves with the arms as points."""
    return [_rates(tokens), _curves(tokens)]


def _rates(tokens: Sequence[LabelledToken]) -> Plot | Nothing:
    kind = "rates"
    arms = list(dict.fromkeys(name for one in tokens for name in one.replaced))
    if not arms:
        return Nothing(kind, "This probe has no rule or selection method.")
    classes = [("label", name) for name in LABELS] + [
        ("kind", name) for name in ("numeric", "name", "wording", "format")
    ]
    found = [(field, name, [one for one in tokens if getattr(one, field) == name]) for field, name in classes]
    found = [(field, name, mine) for field, name, mine in found if mine]
    look = styles(arms)
    figure, (axis,) = panels(1, width=7.2, height=3.2)
    width = 0.8 / len(arms)
    words = []
    for number, arm in enumerate(arms):
        rates = [100 * float(np.mean([min(1.0, max(0.0, one.replaced[arm])) for one in mine])) for _, _, mine in found]
        places = np.arange(len(found)) + (number - (len(arms) - 1) / 2) * width
        axis.bar(places, rates, width, color=look[arm].colour, hatch=look[arm].hatch, edgecolor="white", label=arm)
        words.append(
            f"{arm}: " + ", ".join(f"{name} {rate:.1f} %" for (_, name, _), rate in zip(found, rates, strict=True))
        )
    axis.set_xticks(range(len(found)), [f"{name}\n{len(mine):,}" for _, name, mine in found])
    axis.set_ylabel("replaced, % of tokens")
    axis.grid(axis="x", visible=False)
    legend_below(figure, axis)
    caption = (
        "Share of the labelled tokens that each rule or selection replaces (or gives weight 0), by label and by kind "
        "of the candidate, with the number of tokens. A rule that filters style replaces few corrections and numbers."
    )
    return Plot(kind, "Replacement rates by class", caption, "; ".join(words), figure)


def _curves(tokens: Sequence[LabelledToken]) -> Plot | Nothing:
    kind = "roc"
    cases = [(truth, mine, freed) for truth, mine, freed in truths(tokens) if freed.any() and not freed.all()]
    if not cases:
        return Nothing(kind, "All labelled tokens are of one class, so there is nothing to tell apart.")
    arms = list(dict.fromkeys(name for one in tokens for name in one.replaced))
    look = styles([*CURVES, *arms])
    figure, axes = panels(len(cases), width=3.9, height=3.4)
    words = []
    for axis, (truth, mine, freed) in zip(axes, cases, strict=True):
        columns = {name: np.array([one.features[name] for one in mine]) for name in mine[0].features}
        for name in CURVES:
            x, y = roc(SCORES[name].of(columns), freed)
            axis.plot(x, y, color=look[name].colour, linestyle=look[name].line, label=name)
            words.append(f"{truth}, {name}: AUC {np.trapezoid(y, x):.3f}")
        for arm in arms:
            refused = np.clip([one.replaced[arm] for one in mine], 0.0, 1.0)
            axis.plot(
                [refused[~freed].mean()],
                [refused[freed].mean()],
                color=look[arm].colour,
                marker=look[arm].marker,
                linestyle="none",
                label=arm,
            )
        axis.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (1, 2.2)))
        kept = "corrections" if truth == "label" else "numbers and names"
        axis.set_xlabel(f"{kept} replaced, share")
        axis.set_ylabel(f"{'other tokens' if truth == 'label' else 'wording'} replaced, share")
        axis.set_title(f"{int((~freed).sum()):,} {kept}")
        axis.set_aspect("equal")
    legend_below(figure, *axes)
    caption = (
        "ROC curves of the scores, and rules as points. Up and to the left is better; on the dotted diagonal nothing "
        "is told apart, below it a score replaces what should be kept first."
    )
    return Plot(kind, "What tells corrections from the rest", caption, "; ".join(words), figure)
