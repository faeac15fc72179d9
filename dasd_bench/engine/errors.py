"""What the engine raises: of its own kind, so that it can be used alone."""

from __future__ import annotations


class EngineError(Exception):
    """The engine refuses a request (prompt longer than the context, NaN logits) in one sentence that names the item."""
