"""The container level: a zygote inside bubblewrap."""

from __future__ import annotations

import os
import shutil
import sys

from .inside.jail import INNER_UID, readable_paths


def bubblewrap(file_bytes: int, packages: list[str]) -> list[str] | None:
    """The command to put in front of the zygote's own; None where bubblewrap is not installed."""
    program = shutil.which("bwrap")
    if program is None:
        return None
    inside = os.path.join(os.path.dirname(os.path.abspath(__file__)), "inside")
    uid = str(INNER_UID)
    command = [
        program, "--unshare-all", "--die-with-parent", "--new-session", "--as-pid-1", "--cap-drop", "ALL",
        "--uid", uid, "--gid", uid, "--clearenv", "--setenv", "PYTHONHASHSEED", "0", "--setenv", "LANG", "C.UTF-8",
        "--dev", "/dev",
    ]  # fmt: skip
    for path in [*readable_paths(), os.path.realpath(sys.executable), inside]:
        command += ["--ro-bind", path, path]
    for path in packages:
        command += ["--ro-bind", path, os.path.join("/packages", os.path.basename(path))]
    return [*command, "--size", str(file_bytes), "--tmpfs", "/tmp", "--chdir", "/tmp", "--"]
