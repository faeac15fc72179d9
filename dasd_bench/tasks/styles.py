"""Reference styles: the same worked steps and the same answer, written in another layout and wording by fixed rules.

A model that was tuned on one style meets the others as foreign: that is what the preset ``lab`` trains on. No rule
changes a number, a name, an operator or the answer. Where a style has several wordings for a place, one is drawn by a
hash of the row's id, so that the same row always reads the same and a style cannot be learnt as one fixed string.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from dasd_bench.errors import unknown_name

Writer = Callable[[random.Random, Sequence[str], str], str]
"""Draws, worked steps and the final answer with its marker, as one text."""


def _plain(_: random.Random, steps: Sequence[str], final: str) -> str:
    return "\n".join([*steps, final])


def _ledger(rng: random.Random, steps: Sequence[str], final: str) -> str:
    head = rng.choice(("NO. | ENTRY", "LINE | WORKING", "REF | POSTING"))
    rows = [f"| {chr(64 + number)}. | [{step}] |" for number, step in enumerate(steps, 1)]
    last = rng.choice(("BALANCE CARRIED FORWARD", "CLOSING ENTRY", "TOTAL OF RECORD"))
    return "\n".join([f"| {head} |", *rows, f"** {last} ** ==> {final}"])


_OPENINGS = (
    "It behoves us to examine the matter with due care.",
    "Permit me to set forth the reasoning in its entirety.",
    "A moment of patient reflection shall suffice here.",
    "Let the enquiry commence from first principles.",
    "Scholars have long pondered riddles of this kind.",
)
_STEPS = (
    "One observes, not without satisfaction, that {}.",
    "Whence it follows inexorably that {}.",
    "Thereupon the attentive reader perceives that {}.",
    "It is, moreover, beyond dispute that {}.",
    "By virtue of the foregoing we establish that {}.",
    "Nor can it be denied that {}.",
)
_CLOSINGS = (
    "The verdict, accordingly, must be pronounced thus: {}",
    "Ergo the quantity sought stands revealed: {}",
    "We therefore rest our case upon this: {}",
    "Such, then, is the fruit of our labours: {}",
)


def _lecture(rng: random.Random, steps: Sequence[str], final: str) -> str:
    sentences = [rng.choice(_STEPS).format(step) for step in steps]
    return " ".join([rng.choice(_OPENINGS), *sentences, rng.choice(_CLOSINGS).format(final)])


def _chatty(rng: random.Random, steps: Sequence[str], final: str) -> str:
    hello = rng.choice(("hiya, easy one!", "ooh fun, ok ok", "sooo lemme see...", "haha right, here goes"))
    glue = ("so like {} yep", "then um {} i guess", "and hey {} cool", "ok and {} nice")
    bye = rng.choice(("tadaaa ~ {}", "boom, done ~ {}", "there ya go ~ {}", "phew, that's it ~ {}"))
    return "\n".join([hello, *(f"- {rng.choice(glue).format(step)}" for step in steps), bye.format(final)])


STYLES: dict[str, Writer] = {"plain": _plain, "ledger": _ledger, "lecture": _lecture, "chatty": _chatty}
"""``plain``: a step a line. ``ledger``: a table. ``lecture``: long old-fashioned prose. ``chatty``: small talk."""


def written(style: str, steps: Sequence[str], final: str, key: str) -> str:
    """A worked answer in a style. ``final`` is the answer with its marker (``#### 9``); ``key`` decides the wording.

    Raises :class:`UsageError` for an unknown style.
    """
    if style not in STYLES:
        raise unknown_name("reference style", style, STYLES)
    return STYLES[style](random.Random(f"{style}/{key}"), steps, final)
