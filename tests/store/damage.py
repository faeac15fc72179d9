"""Damages files of a store as disks, tools and people do."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

KINDS = ("cut", "empty", "flip", "delete", "folder", "dangling", "link", "fifo")


def places(root: Path) -> list[Path]:
    """Everything under ``root``, files, folders and hidden notes, in a fixed order."""
    return sorted(root.rglob("*"))


def damage(path: Path, kind: str, outside: Path, drawn: random.Random) -> None:
    """Damages what lies at ``path``; ``outside`` is a file elsewhere that a link may lead to."""
    if kind in ("cut", "empty", "flip") and path.is_file() and not path.is_symlink():
        data = bytearray(path.read_bytes())
        if kind == "cut":
            del data[drawn.randrange(len(data) + 1) :]
        elif kind == "empty":
            data.clear()
        elif data:
            data[drawn.randrange(len(data))] ^= 1 << drawn.randrange(8)
        # A new file: a hard link to this one must stay as it is.
        path.unlink()
        path.write_bytes(data)
        return
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    if kind == "folder":
        (path / "inner").mkdir(parents=True)
    elif kind == "dangling":
        path.symlink_to(outside.with_name("nowhere"))
    elif kind == "link":
        path.symlink_to(outside)
    elif kind == "fifo":
        os.mkfifo(path)


def damage_some(root: Path, count: int, outside: Path, drawn: random.Random) -> list[str]:
    """Damages ``count`` places drawn from all under ``root``; says what was done where."""
    done = []
    for _ in range(count):
        found = places(root)
        if not found:
            break
        path, kind = drawn.choice(found), drawn.choice(KINDS)
        damage(path, kind, outside, drawn)
        done.append(f"{kind} {path.relative_to(root)}")
    return done
