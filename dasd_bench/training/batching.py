"""What the trainer is fed: examples as token arrays, the order of steps, and packs without padding."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dasd_bench.errors import TrainingError
from dasd_bench.types import Bools, Floats, Ints, TrainExample

Longs = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Context:
    """A target behind one prompt: ``input_ids`` int64 [L]; ``positions`` int64 [N], the inputs whose next token is
    trained."""

    input_ids: Longs
    positions: Longs


@dataclass(frozen=True, slots=True)
class Row:
    """One example as the model sees it: only as many tokens as its last trained one needs.

    ``input_ids`` int64 [L]; ``positions`` int64 [N], the inputs whose next token is trained, with ``labels`` int64,
    ``static`` float32 and ``keep`` bool, all [N]; ``target_positions`` int64 [N], their indices in the target;
    ``columns`` float32 [N] by name; ``teachers``, the same tokens as each teacher sees them. ``target_tokens`` counts
    all target tokens, masked ones too. ``index`` is the row's place in the batch of its step, ``source``
    its example's among all. ``input_ids`` is empty where no token has a weight.
    """

    example_id: str
    input_ids: Longs
    positions: Longs
    labels: Longs
    static: Floats
    keep: Bools
    target_positions: Longs
    columns: Mapping[str, Floats]
    teachers: tuple[Context, ...]
    target_tokens: int
    truncated: bool
    index: int = 0
    source: int = 0


def build_row(example: TrainExample, max_length: int, *, taught: bool = False) -> Row:
    """Cuts the target to ``max_length`` tokens of prompt and target, and drops what follows the last trained token.

    ``taught`` adds what teachers see; the longest of all prompts counts then.
    Under causal attention nothing after the last trained position can reach the loss, so leaving it out is exact.
    Raises :class:`TrainingError` naming the example whose arrays do not fit together.
    """
    prompt, target = example.prompt_ids, example.target_ids
    if not len(target) == len(example.weights) == len(example.keep):
        raise TrainingError(
            f"Example {example.example_id}: target has {len(target)} tokens but {len(example.weights)} weights and "
            f"{len(example.keep)} keep marks; provide one of each per token."
        )
    for name, values in example.columns.items():
        if len(values) != len(target):
            raise TrainingError(
                f"Example {example.example_id}: column '{name}' has {len(values)} values for {len(target)} target "
                "tokens; provide one per token."
            )
    prompts = (example.teacher_prompts or (prompt,)) if taught else ()
    if min(map(len, (prompt, *prompts))) == 0:
        raise TrainingError(f"Example {example.example_id} has an empty prompt; use at least the BOS token.")
    if not np.all(np.isfinite(example.weights)) or np.any(example.weights < 0):
        raise TrainingError(f"Example {example.example_id} has a weight that is negative or not finite.")
    room = max(0, max_length - max(map(len, (prompt, *prompts))))
    cut = min(len(target), room)
    trained = np.flatnonzero(example.weights[:cut])
    own = _context(prompt, target, trained)
    return Row(
        example_id=example.example_id,
        input_ids=own.input_ids,
        positions=own.positions,
        labels=target[trained].astype(np.int64),
        static=example.weights[trained].astype(np.float32),
        keep=example.keep[trained].astype(np.bool_),
        target_positions=trained.astype(np.int64),
        columns={name: values[trained].astype(np.float32) for name, values in sorted(example.columns.items())},
        teachers=tuple(_context(own, target, trained) for own in prompts),
        target_tokens=cut,
        truncated=cut < len(target),
    )


def _context(prompt: Ints, target: Ints, trained: Longs) -> Context:
    """The inputs up to the last of the ``trained`` indices of ``target``; none where nothing is trained."""
    inputs = [prompt, target[: trained[-1]]] if len(trained) else []
    whole = np.concatenate([np.zeros(0, dtype=np.int64), *inputs]).astype(np.int64)
    return Context(whole, (len(prompt) - 1 + trained).astype(np.int64))


def check_alike(examples: Sequence[TrainExample]) -> None:
    """Raises :class:`TrainingError` for a column with a bad name, and naming an example with other columns or another
    number of teachers than the first."""
    for name in examples[0].columns if examples else ():
        if not name.isidentifier():
            raise TrainingError(f"'{name}' is not a valid column name; use letters, digits and underscores.")
    for example in examples:
        if example.columns.keys() != examples[0].columns.keys():
            raise TrainingError(
                f"Example {example.example_id} has the columns {_listed(example.columns)} and example "
                f"{examples[0].example_id} has {_listed(examples[0].columns)}; give every target the same columns."
            )
        if len(example.teacher_prompts) != len(examples[0].teacher_prompts):
            raise TrainingError(
                f"Example {example.example_id} has {len(example.teacher_prompts)} teacher prompts and example "
                f"{examples[0].example_id} has {len(examples[0].teacher_prompts)}; give every target as many."
            )


def check_tokens(examples: Sequence[TrainExample], vocabulary: int) -> None:
    """Raises :class:`TrainingError` for a token that a model with so many embeddings does not have."""
    for example in examples:
        # Some tokenizers have a token or two more than the model has embeddings.
        every = (example.prompt_ids, example.target_ids, *example.teacher_prompts)
        highest = max(int(ids.max(initial=0)) for ids in every)
        if highest >= vocabulary:
            raise TrainingError(
                f"Example {example.example_id} has token {highest}, for which the model has no embedding (it has "
                f"{vocabulary}); remove the text of that token, or use the model's own tokenizer."
            )


def _listed(columns: Mapping[str, Floats]) -> str:
    return ", ".join(sorted(columns)) or "(none)"


def numbered(rows: Sequence[Row]) -> list[Row]:
    """The rows of a batch, each with its place in it."""
    return [replace(row, index=index) for index, row in enumerate(rows)]


def step_count(examples: int, batch_size: int, epochs: float) -> int:
    """Optimiser steps of a run: a started epoch's last batch may be smaller; part epochs round up."""
    return max(1, math.ceil(epochs * math.ceil(examples / batch_size)))


def batch_order(examples: int, batch_size: int, seed: int) -> Iterator[list[int]]:
    """Indices of every step's examples without end: one permutation per epoch, a function of ``seed`` and the count.

    Weights play no part, so every arm of a comparison sees the same examples in the same steps.
    """
    for epoch in itertools.count():
        order = np.random.default_rng([seed, epoch]).permutation(examples)
        for start in range(0, examples, batch_size):
            yield [int(i) for i in order[start : start + batch_size]]


def batches(examples: int, batch_size: int, epochs: float, seed: int) -> Iterator[list[int]]:
    """The part of :func:`batch_order` that training for so many epochs takes."""
    return itertools.islice(batch_order(examples, batch_size, seed), step_count(examples, batch_size, epochs))


@dataclass(frozen=True, slots=True)
class Inputs:
    """Several rows laid end to end: attention stays inside each, positions start again at 0.

    ``lengths`` of the rows; ``input_ids`` and ``position_ids`` int64 [L]; ``positions`` int64 [N], the inputs whose
    next token is trained, counted from the start.
    """

    lengths: tuple[int, ...]
    input_ids: Longs
    position_ids: Longs
    positions: Longs


@dataclass(frozen=True, slots=True)
class Pack(Inputs):
    """Rows of a batch as the model sees them, and what is trained there.

    ``labels``, ``static``, ``keep``, ``target_positions`` and ``columns`` [N] as in :class:`Row`; ``row`` int64 [N],
    the token's row as its place in the batch; ``teachers``, the same rows as each teacher sees them.
    """

    example_ids: tuple[str, ...]
    labels: Longs
    static: Floats
    keep: Bools
    row: Longs
    target_positions: Longs
    columns: Mapping[str, Floats]
    teachers: tuple[Inputs, ...]


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


def _inputs(contexts: Sequence[Context | Row]) -> Inputs:
    lengths = [len(context.input_ids) for context in contexts]
    starts = np.cumsum([0, *lengths[:-1]])
    return Inputs(
        lengths=tuple(lengths),
        input_ids=np.concatenate([context.input_ids for context in contexts]),
        position_ids=np.concatenate([np.arange(n, dtype=np.int64) for n in lengths]),
        positions=np.concatenate([own.positions + start for own, start in zip(contexts, starts, strict=True)]),
    )


def _pack(rows: Sequence[Row]) -> Pack:
    own = _inputs(rows)
    return Pack(
        lengths=own.lengths,
        input_ids=own.input_ids,
        position_ids=own.position_ids,
        positions=own.positions,
        example_ids=tuple(row.example_id for row in rows),
        labels=np.concatenate([row.labels for row in rows]),
        static=np.concatenate([row.static for row in rows]),
        keep=np.concatenate([row.keep for row in rows]),
        row=np.concatenate([np.full(len(row.labels), row.index, dtype=np.int64) for row in rows]),
        target_positions=np.concatenate([row.target_positions for row in rows]),
        columns={name: np.concatenate([row.columns[name] for row in rows]) for name in rows[0].columns},
        teachers=tuple(_inputs(contexts) for contexts in zip(*(row.teachers for row in rows), strict=True)),
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


def empty_pack(like: Row) -> Pack:
    """A pack of one token that trains nothing: what a process runs where the others still have work.

    It has the columns and as many teachers as ``like``.
    """
    none = np.zeros(0, dtype=np.int64)
    nothing = none.astype(np.float32)
    one = np.zeros(1, dtype=np.int64)
    return Pack(
        example_ids=(),
        lengths=(1,),
        input_ids=one,
        position_ids=one,
        positions=none,
        labels=none,
        static=nothing,
        keep=none.astype(np.bool_),
        row=none,
        target_positions=none,
        columns=dict.fromkeys(like.columns, nothing),
        teachers=(Inputs((1,), one, one, none),) * len(like.teachers),
    )


def held_out(count: int, fraction: float, seed: int) -> list[int]:
    """Indices of the examples that are held out of training, in order: at least one, at most all but one."""
    if count < 2:
        raise TrainingError("Early stopping needs held-out examples, but there is only one example; disable it.")
    wanted = min(max(1, round(fraction * count)), count - 1)
    chosen = np.random.default_rng([seed, 0x4E1D]).choice(count, size=wanted, replace=False)
    return sorted(int(i) for i in chosen)


def examples_digest(examples: Sequence[TrainExample]) -> str:
    """sha256 (hex) of the examples' ids and arrays, in order; what an example leaves out does not count."""
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
        for name, values in sorted(example.columns.items()):
            sha.update(f"\0column {name}\0".encode())
            sha.update(np.ascontiguousarray(values, dtype=np.float32).tobytes())
        for prompt in example.teacher_prompts:
            sha.update(f"\0teacher {len(prompt)}\0".encode())
            sha.update(np.ascontiguousarray(prompt, dtype=np.int32).tobytes())
    return sha.hexdigest()
