"""What the sandbox raises: one sentence each. Of its own kind, so that it can be used alone."""

from __future__ import annotations


class SandboxError(Exception):
    """The sandbox cannot go on."""


class SettingError(SandboxError):
    """A limit, level or number that is none, or a level that this machine does not give."""


class ProblemError(SandboxError):
    """A problem or sample that cannot be run."""
