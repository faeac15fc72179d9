"""How well scores and rules tell corrections from what may be replaced: the statistics of a probe's labelled tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dasd_bench.results.probe import CORRECTION, Counts, LabelledToken, Selector
from dasd_bench.stats.separation import at_rate, clustered_auc, replacement

Array = npt.NDArray[np.float64]
Columns = Mapping[str, Array]

RATES = (0.1, 0.25, 0.5)
"""Shares of the tokens that are replaced, at which scores are compared with each other."""

ALL = "all"
DISAGREEMENTS = "disagreements"
"""The group of the tokens that the base would not write: the only ones at which a gate decides anything."""

KEPT_KINDS = ("numeric", "name")
"""Kinds that are taken for what carries a solution; ``wording`` is the other side and ``format`` neither."""


@dataclass(frozen=True, slots=True)
class Score:
    """A score of a place: the larger, the sooner its candidate is replaced. ``help`` says when that is."""

    help: str
    of: Callable[[Columns], Array]


SCORES: dict[str, Score] = {
    "conf": Score("the base is sure of its own token: max p_b", lambda f: f["conf"]),
    "margin": Score("the base prefers its own token clearly", lambda f: f["margin_base"]),
    "entropy": Score("the base's distribution is narrow", lambda f: -f["entropy_base"]),
    "surprise": Score("the base finds the candidate unlikely: -log p_b(c)", lambda f: -f["logp_base_candidate"]),
    "atypical": Score(
        "the candidate is less likely than the base's entropy has it: -(log p_b(c) + H_b)",
        lambda f: -(f["logp_base_candidate"] + f["entropy_base"]),
    ),
    "insist": Score("the reference-aware stream does not insist: -log p_r(c)", lambda f: -f["logp_ref_candidate"]),
    "gain": Score(
        "the reference adds little: -(log p_r(c) - log p_b(c))",
        lambda f: -f["log_ratio"],
    ),
    "tolerated": Score("the reference-aware stream would take the base's token: p_r(b)", lambda f: f["p_ref_own"]),
    "ref-entropy": Score("the reference-aware stream is undecided: H_r", lambda f: f["entropy_ref"]),
}


def measured(tokens: Sequence[LabelledToken]) -> tuple[list[Counts], list[Selector], list[Selector]]:
    """Counts, scores and arms of every group of tokens."""
    counts, scores, arms = [], [], []
    names = list(dict.fromkeys(name for one in tokens for name in one.replaced))
    for group, own in groups(tokens):
        counts.append(count(group, own))
        for truth, chosen, freed in truths(own):
            columns = {name: np.array([one.features[name] for one in chosen]) for name in chosen[0].features}
            cluster = np.unique([one.example for one in chosen], return_inverse=True)[1].astype(np.int64)
            for name, score in SCORES.items():
                values = score.of(columns)
                at = [replacement(at_rate(values, rate), freed, cluster) for rate in RATES]
                auc = clustered_auc(values, freed, cluster)
                scores.append(Selector(name, group, truth, len(chosen), int(freed.sum()), auc, at))
            for name in names:
                values = np.array([one.replaced[name] for one in chosen], dtype=np.float64)
                at = [replacement(np.clip(values, 0.0, 1.0), freed, cluster)]
                auc = clustered_auc(values, freed, cluster)
                arms.append(Selector(name, group, truth, len(chosen), int(freed.sum()), auc, at))
    return counts, scores, arms


def groups(tokens: Sequence[LabelledToken]) -> Iterator[tuple[str, list[LabelledToken]]]:
    """All tokens, and, where these are not all, the disagreements (labels by construction have other tokens, too);
    where there are several of them, the tokens of each task, of each level of a task, of each source."""
    yield ALL, list(tokens)
    yield from _disagreements(DISAGREEMENTS, tokens)
    tasks = list(dict.fromkeys(one.task for one in tokens))
    for task in tasks:
        mine = [one for one in tokens if one.task == task]
        if len(tasks) > 1:
            yield task, mine
        levels = sorted({one.level for one in mine if one.level is not None})
        for level in levels if len(levels) > 1 else ():
            yield f"{task}, level {level}", [one for one in mine if one.level == level]
    sources = list(dict.fromkeys(one.source for one in tokens))
    for source in sources if len(sources) > 1 else ():
        mine = [one for one in tokens if one.source == source]
        yield f"{source} answers", mine
        yield from _disagreements(f"{source} answers, {DISAGREEMENTS}", mine)


def _disagreements(group: str, tokens: Sequence[LabelledToken]) -> Iterator[tuple[str, list[LabelledToken]]]:
    apart = [one for one in tokens if one.features["rank_base_candidate"] > 0]
    if 0 < len(apart) < len(tokens):
        yield group, apart


def truths(tokens: Sequence[LabelledToken]) -> Iterator[tuple[str, list[LabelledToken], npt.NDArray[np.bool_]]]:
    """What can be told apart: the tokens that it concerns, and which of them may be replaced (bool)."""
    if tokens:
        yield "label", list(tokens), np.array([one.label != CORRECTION for one in tokens])
    plain = [one for one in tokens if one.kind in KEPT_KINDS or one.kind == "wording"]
    if plain:
        yield "kind", plain, np.array([one.kind == "wording" for one in plain])


def count(group: str, tokens: Sequence[LabelledToken]) -> Counts:
    """How many tokens there are of each label and kind."""
    kinds: dict[str, Counter[str]] = {}
    for one in tokens:
        kinds.setdefault(one.kind, Counter())[one.label] += 1
    return Counts(
        group=group,
        examples=len({one.example for one in tokens}),
        tokens=len(tokens),
        labels=dict(Counter(one.label for one in tokens)),
        kinds={kind: dict(found) for kind, found in sorted(kinds.items())},
    )
