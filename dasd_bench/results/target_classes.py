"""What selection does to each kind of token, whether its score tells the kinds apart, how near targets are to gold."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dasd_bench.results.schema import ClassStats
from dasd_bench.results.token_classes import NAMES, TokenClass, TokenClasses
from dasd_bench.types import Ints, Origin, WeightedTarget

Array = npt.NDArray[np.float64]
Kinds = npt.NDArray[np.uint8]


def class_stats(scored: Sequence[WeightedTarget], classes: TokenClasses, limit: float = 2.5) -> dict[str, ClassStats]:
    """Counts and shares by kind of token, over all targets of an arm.

    ``replaced`` goes by the kind of the candidate that was refused, not of the base's token that stands there instead;
    ``proposed`` counts the candidates of that kind in the same targets.
    """
    own, wanted, proposed, replaced = [], [], [], []
    for item in scored:
        target = item.target
        kinds = classes(target.token_ids, target.marks)
        own.append(kinds)
        wanted.append(wanted_kinds(item, classes, kinds))
        dual = np.full(len(kinds), target.proposals is not None)
        proposed.append(dual & (target.origin != Origin.GOLD))
        refused = target.origin == Origin.BASE
        if target.proposals is not None:
            refused &= target.proposals != target.token_ids
        replaced.append(refused)
    kind, want = _joined(own), _joined(wanted)
    nll = np.concatenate([-item.scores.logp.astype(np.float64) for item in scored] or [np.zeros(0)])
    zero = np.concatenate([item.weights == 0 for item in scored] or [np.zeros(0, dtype=np.bool_)])
    offered = np.concatenate(proposed or [np.zeros(0, dtype=np.bool_)])
    taken = np.concatenate(replaced or [np.zeros(0, dtype=np.bool_)])
    found = {}
    for code, name in NAMES.items():
        mine = kind == code
        count = int(mine.sum())
        found[name] = ClassStats(
            tokens=count,
            mean_nll=float(nll[mine].mean()) if count else None,
            high_ppl=int((nll[mine] > math.log(limit)).sum()),
            weight_zero=int(zero[mine].sum()),
            proposed=int((offered & (want == code)).sum()),
            replaced=int((taken & (want == code)).sum()),
        )
    return found


def wanted_kinds(item: WeightedTarget, classes: TokenClasses, own: Kinds) -> Kinds:
    """The kind of what the answer-aware stream wanted at each place: its proposal where the base's token was taken."""
    target = item.target
    if target.proposals is None:
        return own
    return np.where(target.origin == Origin.BASE, classes(target.proposals), own)


def _joined(parts: Sequence[Kinds]) -> Kinds:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint8)


def selector_auc(scored: Sequence[WeightedTarget], classes: TokenClasses) -> tuple[float | None, float | None]:
    """How well two scores tell wording from numbers and operators: the base's confidence, and p of the token itself.

    Each is the chance that a random wording token has a higher score than a random numeric one (ties count half): .5
    tells nothing, above it a gate that keeps sure places replaces wording first, as style filtering supposes. The
    confidence is max p at the place, its kind that of the candidate there. None where a kind is missing.
    """
    confidence, probability, wanted, own = [], [], [], []
    for item in scored:
        kinds = classes(item.target.token_ids, item.target.marks)
        own.append(kinds)
        wanted.append(wanted_kinds(item, classes, kinds))
        confidence.append(item.scores.top1_logp.astype(np.float64))
        probability.append(item.scores.logp.astype(np.float64))
    if not scored:
        return None, None
    return (
        _between(np.concatenate(confidence), _joined(wanted)),
        _between(np.concatenate(probability), _joined(own)),
    )


def _between(score: Array, kind: Kinds) -> float | None:
    return auc(score[kind == TokenClass.WORDING], score[kind == TokenClass.NUMERIC])


def auc(higher: Array, lower: Array) -> float | None:
    """P(a random value of ``higher`` exceeds one of ``lower``), ties half; None where either is empty.

    The Mann-Whitney statistic over n*m (Hanley and McNeil 1982, Radiology 143:29).
    """
    from scipy.stats import rankdata

    n, m = len(higher), len(lower)
    if not n or not m:
        return None
    ranks = rankdata(np.concatenate([higher, lower]))
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def gold_agreement(scored: Sequence[WeightedTarget], gold: Sequence[Ints]) -> float:
    """Mean over targets of the F measure of the longest common subsequence of tokens with the gold answer's (ROUGE-L,
    Lin 2004): 1 for the gold answer itself. NaN without targets."""
    found = []
    for item, reference in zip(scored, gold, strict=True):
        ids = item.target.token_ids.tolist()
        found.append(2 * common_length(ids, reference.tolist()) / (len(ids) + len(reference)))
    return float(np.mean(found)) if found else math.nan


def common_length(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common subsequence, by bit-parallel dynamic programming (Hyyrö 2004)."""
    places: dict[int, int] = {}
    for index, token in enumerate(a):
        places[token] = places.get(token, 0) | (1 << index)
    full = (1 << len(a)) - 1
    row = full
    for token in b:
        match = row & places.get(token, 0)
        row = ((row + match) | (row - match)) & full
    return len(a) - row.bit_count()


_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def numbers_kept(scored: Sequence[WeightedTarget]) -> float | None:
    """Share of the numbers in the gold answers that the targets have too, each counted as often as it stands; None
    where the gold answers have no number."""
    total = kept = 0
    for item in scored:
        gold = Counter(_NUMBER.findall(item.example.reference))
        own = Counter(_NUMBER.findall(item.target.text))
        total += gold.total()
        kept += (gold & own).total()
    return kept / total if total else None
