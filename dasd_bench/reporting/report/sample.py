"""How many rows a page shows: all of a small run's, and of a large one's some at even distances, which it says."""

from __future__ import annotations

from collections.abc import Sequence

PAGE_BYTES = 6_000_000
"""What targets and answers together may take of a page, before compression and base64, which nearly cancel out."""

FEWEST = 20
"""Rows of a set that are shown in any case."""


def shown_rows(sizes: Sequence[int], sets: int) -> list[int]:
    """Which of the rows with these ``sizes`` in bytes one of ``sets`` equal sets shows: all, or some evenly spread."""
    total, room = sum(sizes), PAGE_BYTES // max(1, sets)
    count = len(sizes)
    if total <= room or count <= FEWEST:
        return list(range(count))
    most = max(FEWEST, int(count * room / total))
    return sorted({round(index * (count - 1) / (most - 1)) for index in range(most)})


def sampled_sentence(what: str, shown: int, count: int) -> str:
    """What the page says of a set of which it shows a part."""
    return f"{what}: the page shows {shown:,} of {count:,}, evenly spread over the run, to stay small; files have all."
