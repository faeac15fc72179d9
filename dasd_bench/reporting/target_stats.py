"""Diagnostics of one arm's training targets, from their scores under the frozen base."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from dasd_bench.records import Floats, Origin, ScoredTarget
from dasd_bench.reporting.results import TargetStats

HPR_LIMITS = (2.5, 10.0, 25.0)
"""Perplexity limits of the high-perplexity ratio; 2.5 is the one that tables print."""

HISTOGRAM_EDGES = tuple(i * 0.25 for i in range(49))
"""Lower edges of the nll histogram in nats, 0 to 12; the last bin holds all that is above."""


def limit_name(limit: float) -> str:
    """The key of a limit in ``TargetStats.hpr``: ``2.5`` or ``10``."""
    return f"{limit:g}"


def target_stats(
    scored: Sequence[ScoredTarget], weights: Sequence[Floats], *, n_examples: int | None = None
) -> TargetStats:
    """Counts and shares over all targets of an arm; ``weights`` are the static weights, float32 [T] per target.

    ``n_examples`` is the number of examples that targets were asked for, where a method may drop some.

    PPL is exp of the mean nll over all tokens (not the mean of token perplexities, which a few tokens dominate), and
    HPR_k the share of tokens with perplexity above k. From ``Target.notes``: ``gated_tokens`` and ``gated_replaced``
    (tokens of the gated answer, used or refused), ``gate_broke``, ``gate_mended`` and ``ungated_right`` (0 or 1 per
    target); a note that no target carries gives None. An arm without targets or tokens gives NaN means, so that it
    is not mistaken for a perfect one.
    """
    nll = np.concatenate([-item.scores.logp.astype(np.float64) for item in scored] or [np.zeros(0)])
    zero = sum(int(np.count_nonzero(np.asarray(w) == 0)) for w in weights)
    tokens, n = len(nll), len(scored)
    mean = float(nll.mean()) if tokens else math.nan
    accepted = sum(item.target.accepted for item in scored)
    gold = sum(bool(np.all(item.target.origin == Origin.GOLD)) for item in scored)
    broke, mended = _noted(scored, "gate_broke"), _noted(scored, "gate_mended")
    gated, replaced = _noted(scored, "gated_tokens"), _noted(scored, "gated_replaced")
    ungated = _noted(scored, "ungated_right")
    from_base = sum(int(np.count_nonzero(item.target.origin == Origin.BASE)) for item in scored)
    examples = n if n_examples is None else n_examples
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
        dropped=examples - n,
        replaced_share=None if gated is None else _share(from_base, tokens),
        gated_replaced_share=None if gated is None or replaced is None else _share(sum(replaced), sum(gated)),
        gate_broke=None if broke is None else round(sum(broke)),
        gate_mended=None if mended is None else round(sum(mended)),
        ungated_acceptance=None if ungated is None else _share(sum(ungated), len(ungated)),
        histogram_edges=list(HISTOGRAM_EDGES),
        histogram_counts=_histogram(nll),
    )


def _noted(scored: Sequence[ScoredTarget], name: str) -> list[float] | None:
    found = [item.target.notes[name] for item in scored if name in item.target.notes]
    return found or None


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan


def _histogram(nll: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[int]:
    bins = np.clip(np.searchsorted(HISTOGRAM_EDGES, nll, side="right") - 1, 0, len(HISTOGRAM_EDGES) - 1)
    counts: list[int] = np.bincount(bins, minlength=len(HISTOGRAM_EDGES)).tolist()
    return counts
