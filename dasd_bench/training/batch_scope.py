"""A rule that sees the whole batch of an optimiser step: gathered from all packs and processes, called once.

Tokens come in the order of their rows and positions, so what the rule sees does not depend on how the batch was packed
or shared out, but for the rounding of its probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dasd_bench.training.distributed import Processes
from dasd_bench.training.loss import Objective, Statistics, Tokens, token_weights
from dasd_bench.types import Floats

Array = npt.NDArray[Any]
COLUMN = "column:"


def weigh_batch(
    pieces: Sequence[tuple[Tokens, Statistics]], rule: Objective, processes: Processes, progress: float
) -> list[Floats]:
    """The weights float32 [N] of each of this process's ``pieces``; all processes call this together."""
    every = processes.gather_objects([_arrays(tokens, live) for tokens, live in pieces])
    flat = [piece for own in every for piece in own]
    if not any(len(piece["row"]) for piece in flat):
        return [tokens.static.cpu().numpy() for tokens, _ in pieces]
    batch = {name: np.concatenate([piece[name] for piece in flat], axis=-1) for name in flat[0]}
    order = np.lexsort((batch["position"], batch["row"]))
    tokens, live = _tensors({name: values[..., order] for name, values in batch.items()}, processes.device)
    weights = np.empty(len(order), dtype=np.float32)
    weights[order] = token_weights(rule, tokens, live, progress).cpu().numpy()
    # A rule may draw random numbers, and processes have unlike seeds.
    weights = processes.agree(weights)
    start = sum(len(piece["row"]) for own in every[: processes.rank] for piece in own)
    ends = start + np.cumsum([len(tokens.row) for tokens, _ in pieces])
    return [weights[end - len(tokens.row) : end] for (tokens, _), end in zip(pieces, ends, strict=True)]


def _arrays(tokens: Tokens, live: Statistics) -> dict[str, Array]:
    """All of a piece with the tokens along the last axis."""
    found = {
        "labels": tokens.labels,
        "static": tokens.static,
        "keep": tokens.keep,
        "row": tokens.row,
        "position": tokens.position,
        "logp": live.logp,
        "entropy": live.entropy,
        "teacher_logp": live.teacher_logp,
        **{COLUMN + name: values for name, values in tokens.columns.items()},
    }
    return {name: values.cpu().numpy() for name, values in found.items() if values is not None}


def _tensors(arrays: Mapping[str, Array], device: torch.device) -> tuple[Tokens, Statistics]:
    found = {name: torch.from_numpy(np.ascontiguousarray(values)).to(device) for name, values in arrays.items()}
    tokens = Tokens(
        labels=found["labels"],
        static=found["static"],
        keep=found["keep"],
        row=found["row"],
        position=found["position"],
        columns={name.removeprefix(COLUMN): v for name, v in found.items() if name.startswith(COLUMN)},
    )
    return tokens, Statistics(found["logp"], found.get("entropy"), found.get("teacher_logp"))
