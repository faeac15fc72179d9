"""Reads ``train/metrics.jsonl``: what the trainer wrote at each optimiser step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dasd_bench.errors import StoreError
from dasd_bench.files.jsonl import numbered_rows


@dataclass(frozen=True, slots=True)
class Step:
    """One optimiser step: every number of its line by name, and the share of target tokens with a weight, where known.

    The loss is in nats per token.
    """

    step: int
    values: dict[str, float]
    kept_share: float | None


def read_steps(path: Path) -> Iterator[Step]:
    """The steps in order; none where the file is missing. A last line that was cut off is left out.

    Raises :class:`StoreError` naming file and line for anything that is no step.
    """
    hint = "run the command again to rebuild it"
    try:
        for number, row in numbered_rows(path, error=StoreError, hint=hint, torn_end=True):
            try:
                values = {name: float(value) for name, value in row.items() if isinstance(value, (int, float))}
                every = values.get("all_tokens")
                yield Step(int(values["step"]), values, values["kept_tokens"] / every if every else None)
            except (KeyError, OverflowError, ValueError) as error:
                raise StoreError(f"{path}, line {number}: not a training step ({error}); {hint}.") from None
    except FileNotFoundError:
        return
