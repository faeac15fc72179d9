"""Edits of answers whose kind is known by construction: corrections of what is wrong, and changes of style alone."""

from dasd_bench.methods.edits.constructed import Construction, constructions, corrections, restyled
from dasd_bench.methods.edits.edited import Edited, changed_tokens, edited_tokens

__all__ = ["Construction", "Edited", "changed_tokens", "constructions", "corrections", "edited_tokens", "restyled"]
