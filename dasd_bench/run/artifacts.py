"""Targets, scores and weights as files of a run directory, and the manifest's facts about the machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dasd_bench import __version__
from dasd_bench.files.jsonl import dump_rows
from dasd_bench.results.directory import ModelDirectory, RunDirectory
from dasd_bench.results.schema import RunResults
from dasd_bench.store.atomic import disk_errors, remove, write_bytes, write_json
from dasd_bench.store.store import Row, save_ragged
from dasd_bench.types import Message, WeightedTarget, target_names

PACKAGES = (
    "accelerate",
    "datasets",
    "lm_eval",
    "math-verify",
    "numpy",
    "peft",
    "safetensors",
    "scipy",
    "tokenizers",
    "torch",
    "transformers",
)


def write_targets(folder: ModelDirectory, targets: Sequence[WeightedTarget]) -> None:
    """``targets.jsonl`` (one line per target, for people) and ``tokens.safetensors`` (per-token arrays, for tools).

    A line has ``messages`` where the target answers a prompt of its own. The arrays, each with its ``.length``
    companion: token_ids, origin, marks, proposals (where the method has them), logp, top1_logp, entropy, rank, weights.
    """
    lines: list[Row] = []
    fields: dict[str, list[Any]] = {}
    for name, item in zip(target_names([one.target for one in targets]), targets, strict=True):
        target = item.target
        own = target.prompt
        lines.append(
            {
                "id": name,
                "task": item.example.task,
                "prompt": item.example.prompt if own is None else shown_chat(own),
                **({} if own is None else {"messages": [asdict(turn) for turn in own]}),
                "reference": item.example.reference,
                "target": target.text,
                "accepted": target.accepted,
                "reason": target.reason,
                "tokens": len(target.token_ids),
                "notes": target.notes,
            }
        )
        proposals = target.token_ids[:0] if target.proposals is None else target.proposals
        arrays = {
            "token_ids": target.token_ids,
            "origin": target.origin,
            "marks": target.marks,
            "proposals": proposals,
            "logp": item.scores.logp,
            "top1_logp": item.scores.top1_logp,
            "entropy": item.scores.entropy,
            "rank": item.scores.rank,
            "weights": item.weights,
        }
        for name, array in arrays.items():
            fields.setdefault(name, []).append(array)
    write_bytes(folder.targets, dump_rows(lines))
    save_ragged(folder.tokens, fields, [{"id": line["id"]} for line in lines])


def shown_chat(chat: Sequence[Message]) -> str:
    """A chat for people: the bare text of a single user turn, else every turn after its role."""
    if len(chat) == 1 and chat[0].role == "user":
        return chat[0].content
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in chat)


def write_pieces(folder: ModelDirectory, targets: Sequence[WeightedTarget], tokenizer: Any) -> None:
    """``pieces.json``: the text of every token id of the targets and proposals, so that a report needs no tokenizer."""
    ids: set[int] = set()
    for item in targets:
        ids.update(item.target.token_ids.tolist())
        if item.target.proposals is not None:
            ids.update(item.target.proposals.tolist())
    write_json(folder.pieces, {str(i): piece_text(tokenizer, i) for i in sorted(ids)})


def piece_text(tokenizer: Any, token_id: int) -> str:
    """One token as text; SentencePiece's decoder would drop the space before a word, so it is put back."""
    piece = tokenizer.convert_ids_to_tokens(token_id)
    if isinstance(piece, str) and piece.startswith("\u2581"):
        return piece.replace("\u2581", " ")
    return str(tokenizer.decode([token_id], clean_up_tokenization_spaces=False))


def link_tree(source: Path, target: Path) -> None:
    """Puts a folder of the store in place of the one that is there; an interruption leaves the one or the other whole.

    Files are hard links, so that weights lie on the disk once; copies where the run directory is on another device.
    """
    partial, old = (target.with_name(f".{target.name}.{name}") for name in ("partial", "old"))
    with disk_errors(target):
        for leftover in (partial, old):
            remove(leftover)
        shutil.copytree(source, partial, copy_function=_link_or_copy)
        if os.path.lexists(target):
            target.rename(old)
        partial.rename(target)
        remove(old)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def missing_files(directory: RunDirectory, results: RunResults) -> list[Path]:
    """What a finished run with these results should hold and does not."""
    models = [directory.base]
    wanted = [directory.spec]
    for arm in results.arms:
        for one in arm.seeds:
            model = directory.arm(arm.directory, one.seed)
            models.append(model)
            wanted += [model.targets, model.tokens, model.pieces, model.adapter, model.metrics]
    wanted += [model.samples(task.name) for model in models for task in results.tasks]
    return [path for path in wanted if not path.exists()]


def environment() -> dict[str, Any]:
    """Versions, platform and processor, for the manifest."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {
        "dasd_bench": __version__,
        "git": git_state(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "packages": versions,
    }


def git_state() -> dict[str, Any] | None:
    """Commit and dirty flag of the checkout the package runs from; None for an installed wheel."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    run = {"cwd": folder, "capture_output": True, "text": True}
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], check=True, **run).stdout.strip()  # type: ignore[call-overload]
        status = subprocess.run(["git", "status", "--porcelain"], check=True, **run).stdout.strip()  # type: ignore[call-overload]
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit, "dirty": bool(status)}


def command_line() -> str:
    """The command as typed, with the program's own name and not its place on this machine."""
    import shlex

    return shlex.join(["dasd-bench", *sys.argv[1:]])
