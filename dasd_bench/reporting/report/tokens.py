"""The token viewer's data: each arm and seed's targets by token, from ``targets.jsonl`` and the token arrays."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dasd_bench.reporting.plots import Source
from dasd_bench.reporting.report.blocks import Blocks
from dasd_bench.reporting.report.sample import sampled_sentence, shown_rows
from dasd_bench.results.targets_file import StoredTargets, read_targets

TOKEN_BYTES = 20
"""What the columns take for one token."""

NO_PROPOSAL = 2**32 - 1
"""Stands in the proposals' column for "the other stream is not known here"."""


def token_sets(
    sources: Sequence[Source], blocks: Blocks, online_methods: Collection[str] = frozenset()
) -> tuple[list[dict[str, Any]], list[str]]:
    """One entry per run, arm and seed for the page's index, and sentences about what could not be shown.

    ``online`` is 1 in an entry whose weights were decided on the live model, so that its files hold static ones only:
    as the run says, or where it does not, for the ``online_methods``.
    Raises :class:`StoreError` naming the file where one is damaged.
    """
    sets: list[dict[str, Any]] = []
    problems: list[str] = []
    count = 2 * sum(len(arm.seeds) for source in sources for arm in source.results.arms)
    for source in sources:
        for arm in source.results.arms:
            for one in arm.seeds:
                folder = source.directory.arm(arm.directory, one.seed)
                if not folder.targets.is_file() or not folder.tokens.is_file():
                    problems.append(
                        f"{source.results.run_id}, {arm.label} seed {one.seed}: no targets in {folder.path}."
                    )
                    continue
                stored = read_targets(folder)
                shown = _sampled(stored, count)
                found = token_set(shown, blocks)
                who = f"{source.results.run_id}, {arm.label} seed {one.seed}"
                if len(shown.rows) < len(stored.rows):
                    problems.append(sampled_sentence(f"Targets of {who}", len(shown.rows), len(stored.rows)))
                if not found.pop("named"):
                    problems.append(
                        f"{source.results.run_id}, {arm.label} seed {one.seed}: tokens are shown by number, because "
                        "the run was made before runs kept their tokens' text; run its command again to add it."
                    )
                online = arm.method in online_methods if arm.online is None else arm.online
                noted = one.target_stats.notes if one.target_stats is not None else []
                entry = {
                    "run": source.results.run_id,
                    "method": arm.label,
                    "seed": one.seed,
                    "online": int(online),
                    "notes": [[note.name, note.title, note.how] for note in noted],
                }
                sets.append({**entry, **found})
    return sets, problems


def _sampled(stored: StoredTargets, sets: int) -> StoredTargets:
    """The rows that one of ``sets`` sets shows."""
    sizes = [
        len(row.prompt) + len(row.reference) + TOKEN_BYTES * len(ids)
        for row, ids in zip(stored.rows, stored.arrays["token_ids"], strict=True)
    ]
    rows = shown_rows(sizes, sets)
    if len(rows) == len(stored.rows):
        return stored
    arrays = {name: [parts[row] for row in rows] for name, parts in stored.arrays.items()}
    return StoredTargets([stored.rows[row] for row in rows], arrays, stored.pieces)


def token_set(stored: StoredTargets, blocks: Blocks) -> dict[str, Any]:
    """What the viewer needs of targets; ``named`` is False where it has no texts of tokens.

    Labels of tokens are shown where the arrays have them.
    """
    rows, fields, pieces = stored.rows, stored.arrays, stored.pieces
    lengths = np.array([len(ids) for ids in fields["token_ids"]], dtype=np.int64)
    proposals = _proposals(fields["proposals"], lengths)
    ids = _joined(fields["token_ids"])
    known = np.unique(np.concatenate([ids, proposals[proposals != NO_PROPOSAL]]))
    wanted = np.where(proposals == NO_PROPOSAL, NO_PROPOSAL, np.searchsorted(known, np.minimum(proposals, known[-1])))
    flags = _joined(fields["origin"]).astype(np.int64) | (_joined(fields["marks"]).astype(np.int64) << 4)
    columns = {
        "length": blocks.add_column(lengths, "u4"),
        "token": blocks.add_column(np.searchsorted(known, ids), "u4"),
        "logp": blocks.add_scaled(_joined(fields["logp"]), "i2"),
        "top1": blocks.add_scaled(_joined(fields["top1_logp"]), "i2"),
        "entropy": blocks.add_scaled(_joined(fields["entropy"]), "u2"),
        "rank": blocks.add_column(_joined(fields["rank"]), "u4"),
        "flags": blocks.add_column(flags, "u1"),
        "weight": blocks.add_scaled(_joined(fields["weights"]), "u2"),
    }
    if (proposals != NO_PROPOSAL).any():
        columns["proposal"] = blocks.add_column(wanted, "u4")
    if "labels" in fields:
        columns["label"] = blocks.add_column(_joined(fields["labels"]), "u1")
    return {
        "columns": columns,
        "pieces": blocks.add_json([pieces.get(i, f"⟨{i}⟩") for i in known.tolist()]),
        "prompts": blocks.add_json([[row.prompt, row.reference] for row in rows]),
        "about": blocks.add_json([[row.id, row.task, int(row.accepted), row.reason, row.notes] for row in rows]),
        "named": bool(pieces),
    }


def _joined(parts: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return np.concatenate(parts) if parts else np.zeros(0)


def _proposals(parts: Sequence[npt.NDArray[Any]], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The other stream's proposals, one per token; a target without proposals (length 0) has none anywhere."""
    filled = [
        part.astype(np.int64) if len(part) == length else np.full(length, NO_PROPOSAL, dtype=np.int64)
        for part, length in zip(parts, lengths.tolist(), strict=True)
    ]
    return np.concatenate(filled) if filled else np.zeros(0, dtype=np.int64)
