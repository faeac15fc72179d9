"""Diagnostics of one arm's training targets, from their scores under the frozen base."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from dasd_bench.methods.notes import Note
from dasd_bench.results.schema import NoteStats, TargetStats
from dasd_bench.results.target_classes import class_stats, gold_agreement, numbers_kept, selector_auc
from dasd_bench.results.token_classes import TokenClasses
from dasd_bench.types import Ints, Origin, WeightedTarget

HPR_LIMITS = (2.5, 10.0, 25.0)
"""Perplexity limits of the high-perplexity ratio; 2.5 is the one that tables print."""

LENGTH_POINTS = (0.1, 0.5, 0.9, 1.0)
"""The quantiles of ``TargetStats.lengths``."""

HISTOGRAM_EDGES = tuple(i * 0.25 for i in range(49))
"""Lower edges of the nll histogram in nats, 0 to 12; the last bin holds all that is above."""


def limit_name(limit: float) -> str:
    """The key of a limit in ``TargetStats.hpr``: ``2.5`` or ``10``."""
    return f"{limit:g}"


def target_stats(
    scored: Sequence[WeightedTarget],
    *,
    n_examples: int | None = None,
    classes: TokenClasses | None = None,
    references: Sequence[Ints] | None = None,
    notes: Sequence[Note] = (),
) -> TargetStats:
    """Counts and shares over all targets of an arm.

    ``n_examples`` is the number of examples that targets were asked for, where a method may drop some; an example with
    several targets counts once in ``accepted``, ``acceptance`` and ``dropped``. ``classes`` tells kinds of token apart
    and ``references`` holds the gold answer's token ids per target; what needs them is left out without them.

    PPL is exp of the mean nll over all tokens (not the mean of token perplexities, which a few tokens dominate), and
    HPR_k the share of tokens with perplexity above k. ``notes`` are what the method declares; one that no target
    carries is left out. An arm without targets or tokens gives NaN means, so that it is not mistaken for a perfect one.
    """
    nll = np.concatenate([-item.scores.logp.astype(np.float64) for item in scored] or [np.zeros(0)])
    zero = sum(int(np.count_nonzero(item.weights == 0)) for item in scored)
    tokens, n = len(nll), len(scored)
    mean = float(nll.mean()) if tokens else math.nan
    accepted = len({item.target.example_id for item in scored if item.target.accepted})
    covered = len({item.target.example_id for item in scored})
    gold = sum(bool(np.all(item.target.origin == Origin.GOLD)) for item in scored)
    dual = any(item.target.proposals is not None for item in scored)
    from_base = sum(int(np.count_nonzero(item.target.origin == Origin.BASE)) for item in scored)
    examples = covered if n_examples is None else n_examples
    auc_confidence, auc_probability = selector_auc(scored, classes) if classes is not None else (None, None)
    lengths = [len(item.target.token_ids) for item in scored]
    return TargetStats(
        n=n,
        tokens=tokens,
        mean_nll=mean,
        ppl=math.exp(mean),
        hpr={limit_name(k): float(np.mean(nll > math.log(k))) if tokens else math.nan for k in HPR_LIMITS},
        accepted=accepted,
        acceptance=_share(accepted, examples),
        reasons=dict(sorted(Counter(item.target.reason for item in scored).items())),
        gold_share=_share(gold, n),
        mean_length=_share(tokens, n),
        weight_zero_share=_share(zero, tokens),
        dropped=examples - covered,
        base_share=_share(from_base, tokens) if dual or from_base else None,
        notes=[found for note in notes if (found := note_stats(note, [item.target.notes for item in scored]))],
        classes={} if classes is None else class_stats(scored, classes),
        auc_confidence=auc_confidence,
        auc_probability=auc_probability,
        gold_agreement=None if references is None else gold_agreement(scored, references),
        numbers_kept=numbers_kept(scored),
        lengths=[float(point) for point in np.quantile(lengths, LENGTH_POINTS)] if lengths else [],
        histogram_edges=list(HISTOGRAM_EDGES),
        histogram_counts=_histogram(nll),
    )


def note_stats(note: Note, targets: Sequence[Mapping[str, float]]) -> NoteStats | None:
    """One declared note over the ``notes`` of all targets; None where no target carries it."""
    carried = [each for each in targets if note.name in each]
    if not carried:
        return None
    total = math.fsum(each[note.name] for each in carried)
    whole = math.fsum(each.get(note.of, 0.0) for each in carried) if note.of else len(carried)
    value = total if note.how == "sum" else total / whole if whole else None
    return NoteStats(note.name, note.title, note.how, value, len(carried), note.help, note.against, note.shown)


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan


def _histogram(nll: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[int]:
    bins = np.clip(np.searchsorted(HISTOGRAM_EDGES, nll, side="right") - 1, 0, len(HISTOGRAM_EDGES) - 1)
    counts: list[int] = np.bincount(bins, minlength=len(HISTOGRAM_EDGES)).tolist()
    return counts
