"""What the trainer is fed: examples as token arrays, the order of steps, and packs without padding."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dasd_bench.config.training import TrainingConfig
from dasd_bench.errors import TrainingError
from dasd_bench.types import Bools, Floats, Ints

Longs = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TrainExample:
    """One prompt and its target, with the static weight of every target token.

    ``prompt_ids`` int32 [P], ``target_ids`` int32 [T], ``weights`` float32 [T] (finite, not negative; 0 masks the
    token), ``keep`` bool [T]: tokens that an online rule may not push below their static weight.
    """

    example_id: str
    prompt_ids: Ints
    target_ids: Ints
    weights: Floats
    keep: Bools


@dataclass(frozen=True, slots=True)
class Row:
    """One example as the model sees it: only as many tokens as its last trained one needs.

    ``input_ids`` int64 [L]; ``positions`` int64 [N], the inputs whose next token is trained, with ``labels`` int64,
    ``static`` float32 and ``keep`` bool, all [N]; ``target_tokens`` counts all target tokens, masked ones too.
    ``input_ids`` is empty where no token has a weight.
    """

    example_id: str
    input_ids: Longs
    positions: Longs
    labels: Longs
    static: Floats
    keep: Bools
    target_tokens: int
    truncated: bool


def build_row(example: TrainExample, max_length: int) -> Row:
    """Cuts the target to ``max_length`` tokens of prompt and target, and drops what follows the last trained token.

    Under causal attention nothing after the last trained position can reach the loss, so leaving it out is exact.
    Raises :class:`TrainingError` naming the example whose arrays do not fit together.
    """
    prompt, target = example.prompt_ids, example.target_ids
    if not len(target) == len(example.weights) == len(example.keep):
        raise TrainingError(
            f"Example {example.example_id}: target has {len(target)} tokens but {len(example.weights)} weights and "
            f"{len(example.keep)} keep marks; provide one of each per token."
        )
    if len(prompt) == 0:
        raise TrainingError(f"Example {example.example_id} has an empty prompt; use at least the BOS token.")
    if not np.all(np.isfinite(example.weights)) or np.any(example.weights < 0):
        raise TrainingError(f"Example {example.example_id} has a weight that is negative or not finite.")
    room = max(0, max_length - len(prompt))
    cut = min(len(target), room)
    trained = np.flatnonzero(example.weights[:cut])
    last = int(trained[-1]) if len(trained) else -1
    whole = np.concatenate([prompt, target[: last + 1]]).astype(np.int64)
    return Row(
        example_id=example.example_id,
        input_ids=whole[: len(prompt) + last] if len(trained) else whole[:0],
        positions=(len(prompt) - 1 + trained).astype(np.int64),
        labels=target[trained].astype(np.int64),
        static=example.weights[trained].astype(np.float32),
        keep=example.keep[trained].astype(np.bool_),
        target_tokens=cut,
        truncated=cut < len(target),
    )


def step_count(examples: int, batch_size: int, epochs: float) -> int:
    """Optimiser steps of a run: a started epoch's last batch may be smaller; part epochs round up."""
    return max(1, math.ceil(epochs * math.ceil(examples / batch_size)))


def planned_steps(examples: int, config: TrainingConfig, seed: int) -> int:
    """Optimiser steps of a run on so many examples, those held out for early stopping among them."""
    aside = len(held_out(examples, config.held_out, seed)) if config.early_stop_patience else 0
    return step_count(examples - aside, config.batch_size, config.epochs)


def batches(examples: int, batch_size: int, epochs: float, seed: int) -> Iterator[list[int]]:
    """Indices of every step's examples: one permutation per epoch, a function of ``seed`` and the count alone.

    Weights play no part, so every arm of a comparison sees the same examples in the same steps.
    """
    left = step_count(examples, batch_size, epochs)
    epoch = 0
    while left:
        order = np.random.default_rng([seed, epoch]).permutation(examples)
        for start in range(0, examples, batch_size):
            if not left:
                return
            yield [int(i) for i in order[start : start + batch_size]]
            left -= 1
        epoch += 1


@dataclass(frozen=True, slots=True)
class Pack:
    """Several rows laid end to end: attention stays inside each, positions start again at 0.

    ``input_ids`` and ``position_ids`` int64 [L]; ``lengths`` of the rows; ``positions``, ``labels``, ``static`` and
    ``keep`` [N] as in :class:`Row`, with positions counted from the start of the pack.
    """

    example_ids: tuple[str, ...]
    lengths: tuple[int, ...]
    input_ids: Longs
    position_ids: Longs
    positions: Longs
    labels: Longs
    static: Floats
    keep: Bools


def make_packs(rows: Sequence[Row], limit: int, *, together: bool = True) -> list[Pack]:
    """Rows with trained tokens in packs of at most ``limit`` tokens (a longer row is its own pack).

    First fit by falling length; ``together`` False gives one row per pack, for models that cannot be packed.
    """
    order = sorted((i for i, row in enumerate(rows) if len(row.input_ids)), key=lambda i: (-len(rows[i].input_ids), i))
    bins: list[list[int]] = []
    room: list[int] = []
    for i in order:
        need = len(rows[i].input_ids)
        slot = next((b for b, free in enumerate(room) if together and free >= need), None)
        if slot is None:
            bins.append([i])
            room.append(limit - need)
        else:
            bins[slot].append(i)
            room[slot] -= need
    return [_pack([rows[i] for i in members]) for members in bins]


def _pack(rows: Sequence[Row]) -> Pack:
    lengths = [len(row.input_ids) for row in rows]
    starts = np.cumsum([0, *lengths[:-1]])
    return Pack(
        example_ids=tuple(row.example_id for row in rows),
        lengths=tuple(lengths),
        input_ids=np.concatenate([row.input_ids for row in rows]),
        position_ids=np.concatenate([np.arange(n, dtype=np.int64) for n in lengths]),
        positions=np.concatenate([row.positions + start for row, start in zip(rows, starts, strict=True)]),
        labels=np.concatenate([row.labels for row in rows]),
        static=np.concatenate([row.static for row in rows]),
        keep=np.concatenate([row.keep for row in rows]),
    )


def share(rows: Sequence[Row], processes: int) -> list[list[Row]]:
    """The rows with trained tokens dealt out to processes, longest first to the one with the fewest tokens so far.

    A function of the rows alone, so every process knows what all of them do.
    """
    shares: list[list[Row]] = [[] for _ in range(processes)]
    tokens = [0] * processes
    order = sorted((i for i, row in enumerate(rows) if len(row.input_ids)), key=lambda i: (-len(rows[i].input_ids), i))
    for i in order:
        least = tokens.index(min(tokens))
        shares[least].append(rows[i])
        tokens[least] += len(rows[i].input_ids)
    return shares


def empty_pack(token: int = 0) -> Pack:
    """A pack of one token that trains nothing: what a process runs where the others still have work."""
    none = np.zeros(0, dtype=np.int64)
    one = np.array([token], dtype=np.int64)
    return Pack((), (1,), one, one * 0, none, none, none.astype(np.float32), none.astype(np.bool_))


def held_out(count: int, fraction: float, seed: int) -> list[int]:
    """Indices of the examples that are held out of training, in order: at least one, at most all but one."""
    if count < 2:
        raise TrainingError("Early stopping needs held-out examples, but there is only one example; disable it.")
    wanted = min(max(1, round(fraction * count)), count - 1)
    chosen = np.random.default_rng([seed, 0x4E1D]).choice(count, size=wanted, replace=False)
    return sorted(int(i) for i in chosen)


def examples_digest(examples: Sequence[TrainExample]) -> str:
    """sha256 (hex) of the examples' ids and arrays, in order."""
    sha = hashlib.sha256()
    for example in examples:
        sha.update(f"{example.example_id}\0{len(example.prompt_ids)}\0{len(example.target_ids)}\0".encode())
        for array, dtype in (
            (example.prompt_ids, np.int32),
            (example.target_ids, np.int32),
            (example.weights, np.float32),
            (example.keep, np.bool_),
        ):
            sha.update(np.ascontiguousarray(array, dtype=dtype).tobytes())
    return sha.hexdigest()
