"""Correction for many tests in one table."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given (Holm 1979, Scand. J. Statist. 6:65).

    Rejecting where the adjusted value is at most alpha keeps the chance of any false rejection at alpha.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def stars(adjusted: float) -> str:
    """``**`` below .01, ``*`` below .05, else nothing."""
    return "**" if adjusted < 0.01 else "*" if adjusted < 0.05 else ""
