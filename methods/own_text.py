"""The model's own answers with corrections, changes of style, both or neither: what does each kind of edit do?

DASD supposes that a rewrite's surprising tokens are corrections or style, that the first teach and the second make a
model forget. Here the kinds are known by construction (:mod:`dasd_bench.methods.edits`): a wrong answer is mended where
it first goes wrong (a result computed again, a step of the reference, one operator of a program), a right one is said
in other words by rules that change no number, name or operator; the task's grader confirms both.

All four ``edits`` train on the same examples in the same order: own wrong answers that can be mended and, with
``match``, as many own right answers that can be re-worded. What is not edited is trained on as the model wrote it,
wrong answers included, so that two arms differ in the edited tokens alone. A test, not a method to be recommended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from dasd_bench.api import (
    GREEDY,
    EditedText,
    Example,
    Method,
    MethodContext,
    Note,
    Origin,
    Target,
    corrections,
    edited_tokens,
    nothing_kept,
    option,
    restyled,
    sample_answers,
)


@dataclass(frozen=True)
class OwnText(Method):
    """y = the greedy answer, edited where its kind of edit is asked for."""

    name = "own-text"
    summary = "Own answers with corrections, changes of style, both or neither: a causal test of the premise."
    notes: ClassVar[tuple[Note, ...]] = (
        Note("mended", "mended", "sum", "own wrong answers that were trained on with their mistake corrected"),
        Note("reworded", "reworded", "sum", "own right answers that were trained on in other words"),
        Note("edited", "edited", "share", "target tokens that write an edit", of="length"),
        Note("length", "length", "sum", "target tokens, the end token aside", shown=False),
    )

    edits: str = option("none", help="Which edits to make.", choices=("none", "corrections", "style", "both"))
    match: bool = option(True, help="As many right answers that can be reworded as wrong ones that can be mended.")

    def make_targets(self, examples: Sequence[Example], context: MethodContext) -> list[Target]:
        answers = [own[0] for own in sample_answers(context, examples, sampling=GREEDY, label="answer")]
        text = {example.id: one.generation.text for example, one in zip(examples, answers, strict=True)}
        wrong = [e for e, one in zip(examples, answers, strict=True) if not one.verdict.correct]
        right = [e for e, one in zip(examples, answers, strict=True) if one.right]
        mended = _by_example(wrong, corrections(wrong, [text[e.id] for e in wrong], context))
        reworded = _by_example(right, restyled(right, [text[e.id] for e in right], context))
        counts = (
            f"{len(mended)} of {len(wrong)} wrong answers can be mended, {len(reworded)} of {len(right)} right ones"
        )
        if self.match:
            few = min(len(mended), len(reworded))
            mended, reworded = (dict(list(edits.items())[:few]) for edits in (mended, reworded))
        targets = []
        for example in examples:
            for found, kind, note in ((mended, "corrections", "mended"), (reworded, "style", "reworded")):
                if example.id in found:
                    wanted = self.edits in (kind, "both")
                    targets.append(_target(example, found[example.id], note if wanted else "", context))
        if not targets:
            raise nothing_kept(self.name, f"{counts} ones reworded", "take more rows, match=false or an abler model")
        return targets


def _by_example(examples: Sequence[Example], edits: Sequence[EditedText | None]) -> dict[str, EditedText]:
    return {example.id: one for example, one in zip(examples, edits, strict=True) if one is not None}


def _target(example: Example, edit: EditedText, note: str, context: MethodContext) -> Target:
    """The edited text where there is a ``note``, else what the model wrote; both as the tokenizer writes them."""
    text = edit.after if note else edit.before
    target = context.text_target(example, text, Origin.BASE, reason=note or "own", accepted=True)
    ends = context.character_ends(target)
    changed = np.append(edited_tokens(edit, target.text, ends) & bool(note), False)
    origin = np.where(changed, Origin.CANDIDATE, Origin.BASE).astype(np.uint8)
    notes = {
        "mended": float(note == "mended"),
        "reworded": float(note == "reworded"),
        "edited": float(changed.sum()),
        "length": float(len(ends)),
    }
    return replace(target, origin=origin, notes=notes)
