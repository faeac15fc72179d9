"""Items in four parts by a number that each has, such as the untrained model's confidence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

QUARTILES = ("Q1 least sure", "Q2", "Q3", "Q4 surest")


def quartiles(confidence: Sequence[float]) -> list[str]:
    """The quartile of every item, of :data:`QUARTILES`; items of equal confidence share a quartile."""
    values = np.asarray(confidence, dtype=np.float64)
    if not len(values):
        return []
    cuts = np.quantile(values, [0.25, 0.5, 0.75])
    return [QUARTILES[int(place)] for place in np.searchsorted(cuts, values, side="left")]
