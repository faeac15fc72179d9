"""Which rows a limit takes: a seeded sample whose levels and subjects have the shares they have among all rows.

The rows are put into one order, of which ``N`` takes the first N. So a smaller sample is part of every larger one, and
the same rows are taken for every method, seed and variant of a task.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from dasd_bench.store.atomic import digest
from dasd_bench.types import Example

SAMPLE_SEED = 20240726
"""The same for every run, so that runs can be compared."""


def sample_positions(examples: Sequence[Example], count: int) -> list[int]:
    """Positions, ascending, of the ``count`` examples that a limit takes; of all where there are no more.

    They are stratified by level and within each level by subject, and drawn at random within a stratum. Every level
    gets its exact share of ``count``, rounded up or down, and every subject its share of the level's number likewise.
    Examples that have neither are drawn at random.
    """
    return sorted(islice(_order(examples, range(len(examples)), ("level", "subject"), ""), count))


def _order(examples: Sequence[Example], positions: Sequence[int], by: Sequence[str], stratum: str) -> Iterator[int]:
    """The positions so ordered that the first n are a sample of size n, for every n."""
    if not by:
        rng = np.random.default_rng(int(digest(SAMPLE_SEED, stratum)[:15], 16))
        return (positions[i] for i in rng.permutation(len(positions)))
    strata: dict[str, list[int]] = {}
    for position in positions:
        strata.setdefault(str(getattr(examples[position], by[0])), []).append(position)
    names = sorted(strata)
    ordered = [_order(examples, strata[name], by[1:], f"{stratum}/{name}") for name in names]
    return (next(ordered[i]) for i in interleave([len(strata[name]) for name in names]))


def interleave(sizes: Sequence[int]) -> Iterator[int]:
    """An order of all members of strata, as the stratum's index each: ``sizes[i]`` times i.

    Among the first n stratum i is there ``n * sizes[i] / total`` times, rounded up or down, for every n. Method: the
    j-th member of a stratum may not come before its share exceeds j - 1 and must come by when it reaches j; among those
    that may come, the one that must come soonest is taken (Steiner and Yeomans 1993: this always works out).
    """
    total = sum(sizes)
    taken = [0] * len(sizes)
    for n in range(1, total + 1):
        _, chosen = min(
            (-(-(taken[i] + 1) * total // size), i) for i, size in enumerate(sizes) if taken[i] * total < n * size
        )
        taken[chosen] += 1
        yield chosen
