"""The container level: a zygote inside bubblewrap."""

from __future__ import annotations

import os
import shutil

from .inside.jail import readable_paths


def bubblewrap(file_bytes: int, packages: list[str]) -> list[str]:
    """The command in front of the zygote's own. Raises StartError where bubblewrap is not installed."""
    from .launch import StartError

    program = shutil.which("bwrap")
    if program is None:
        raise StartError("bubblewrap (bwrap) is not installed")
    here = os.path.dirname(os.path.abspath(__file__))
    command = [program, "--unshare-all", "--die-with-parent", "--new-session", "--as-pid-1", "--cap-drop", "ALL",
               "--dev", "/dev", "--clearenv", "--setenv", "PYTHONHASHSEED", "0", "--setenv", "LANG", "C.UTF-8"]  # fmt: skip
    for path in [*readable_paths(), os.path.realpath("/proc/self/exe"), os.path.dirname(here), *packages]:
        command += ["--ro-bind", path, path]
    return [*command, "--size", str(file_bytes), "--tmpfs", "/tmp", "--"]
