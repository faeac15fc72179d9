"""Targets whose differing tokens are known to be corrections or style, verified by the task's own grader.

A correction is an own wrong answer, mended where it first goes wrong, that the grader takes for right: a result
computed again or a step replaced (:mod:`.arithmetic`), an operator or constant exchanged (:mod:`.programs`). A change
of style is a right answer re-worded by rules that change no number, name or operator, that the grader still takes for
right.

Where the model's own answers give too few of them, gold answers stand in (``source`` = ``reference``): of a program,
one operator is exchanged so that its tests fail, and the mend is what undoes it; of a worked answer, the results of its
equations are what a wrong answer would have wrong. There the base did not write the mistake itself, so these say what a
selector does with such tokens in gold text, and no more.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass

from dasd_bench.methods.context import MethodContext
from dasd_bench.methods.edits import arithmetic, programs, wording
from dasd_bench.methods.edits.edited import Edited
from dasd_bench.types import Example

TRIES = 40
"""Mends of one answer that are graded, at most."""

CORRECTION = "correction"
STYLE = "style"


@dataclass(frozen=True, slots=True)
class Construction:
    """One edited answer: ``kind`` is ``correction`` or ``style``, ``source`` ``own`` or ``reference``."""

    example: Example
    kind: str
    source: str
    edited: Edited


def is_program(example: Example) -> bool:
    """Whether the answers to an example are Python programs: whether its reference defines a function."""
    try:
        return any(isinstance(node, ast.FunctionDef) for node in ast.walk(ast.parse(example.reference)))
    except (SyntaxError, ValueError, RecursionError):
        return False


def corrections(examples: Sequence[Example], texts: Sequence[str], context: MethodContext) -> list[Edited | None]:
    """For each wrong answer the first mend that the grader takes for right, or None."""
    tries = [
        list(programs.mends(text) if is_program(example) else arithmetic.mends(text, example.reference))[:TRIES]
        for example, text in zip(examples, texts, strict=True)
    ]
    return _first(examples, tries, context, right=True)


def restyled(examples: Sequence[Example], texts: Sequence[str], context: MethodContext) -> list[Edited | None]:
    """For each right answer the same in another style where the grader still takes it for right, else None."""
    made = [
        programs.restyled(text) if is_program(example) else wording.reworded(text)
        for example, text in zip(examples, texts, strict=True)
    ]
    return _first(examples, [[] if one is None else [one] for one in made], context, right=True)


def constructions(
    examples: Sequence[Example], texts: Sequence[str], context: MethodContext, *, references: bool = True
) -> list[Construction]:
    """All edits of the model's own answers ``texts``, and with ``references`` those of the gold answers."""
    right = [verdict.correct for verdict in context.grade_all(examples, texts)]
    good = [number for number, one in enumerate(right) if one]
    bad = [number for number, one in enumerate(right) if not one]
    found: list[Construction] = []

    def add(kind: str, source: str, numbers: Sequence[int], edits: Sequence[Edited | None]) -> None:
        pairs = zip(numbers, edits, strict=True)
        found.extend(Construction(examples[n], kind, source, one) for n, one in pairs if one is not None)

    for kind, numbers, make in ((CORRECTION, bad, corrections), (STYLE, good, restyled)):
        add(kind, "own", numbers, make([examples[n] for n in numbers], [texts[n] for n in numbers], context))
    if references:
        everything = list(range(len(examples)))
        add(STYLE, "reference", everything, restyled(examples, [e.reference for e in examples], context))
        add(CORRECTION, "reference", everything, _gold_corrections(examples, context))
    return found


def _gold_corrections(examples: Sequence[Example], context: MethodContext) -> list[Edited | None]:
    """Gold answers with the places marked where a wrong answer is mended."""
    tries = [list(programs.breaks(e.reference))[:TRIES] if is_program(e) else [] for e in examples]
    found = _first(examples, tries, context, right=False)
    for number, example in enumerate(examples):
        steps = [] if is_program(example) else arithmetic.right_equations(example.reference)
        if steps:
            text = example.reference
            spans = tuple((one.result_start, one.result_start + len(one.result)) for one in steps)
            found[number] = Edited(text, text, spans)
    return found


def _first(
    examples: Sequence[Example], tries: Sequence[Sequence[Edited]], context: MethodContext, *, right: bool
) -> list[Edited | None]:
    """The first try of each example whose ``after`` is right, or, with ``right`` False, whose ``before`` is wrong."""
    flat = [(number, one) for number, own in enumerate(tries) for one in own]
    verdicts = context.grade_all(
        [examples[number] for number, _ in flat], [one.after if right else one.before for _, one in flat]
    )
    found: list[Edited | None] = [None] * len(examples)
    for (number, one), verdict in zip(flat, verdicts, strict=True):
        if found[number] is None and verdict.correct == right:
            found[number] = one
    return found
