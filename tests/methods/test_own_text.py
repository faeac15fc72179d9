"""own-text: the four arms train on the same examples and differ in the edited tokens alone."""

from __future__ import annotations

import numpy as np
import pytest

from dasd_bench.errors import TrainingError
from dasd_bench.methods.edits import constructions
from dasd_bench.methods.edits.arithmetic import equations
from dasd_bench.types import Example, Origin, Target
from tests.methods.test_method_context import Made
from tests.methods.test_target_methods import Scripted, make, right, texts
from tests.methods.test_target_methods import made as made


def mistaken(example: Example) -> str:
    """The last step of the reference with a wrong result."""
    last = equations(example.reference)[-1]
    return f"{last.left} = {int(last.result) + 500} in all\n#### {int(last.result) + 500}"


def mended(example: Example) -> str:
    last = equations(example.reference)[-1]
    return f"{last.left} = {last.result} in all\n#### {last.result}"


def targets_of(made: Made, edits: str, **options: object) -> list[Target]:
    method = make("own-text", edits=edits, **options)
    answers = [
        right(made.examples[0], "So we find it. "),
        mistaken(made.examples[1]),
        "I do not know.",
        right(made.examples[3], "Thus it is so. "),
    ]
    return method.make_targets(made.examples, Scripted(made, method, answer=answers))


def test_each_arm_makes_its_own_edits_of_the_same_answers(made: Made) -> None:
    own = ("0", "own", right(made.examples[0], "So we find it. "))
    other = ("0", "reworded", right(made.examples[0], "Therefore we work out it. "))
    wrong = ("1", "own", mistaken(made.examples[1]))
    correct = ("1", "mended", mended(made.examples[1]))
    assert texts(targets_of(made, "none")) == [own, wrong]
    assert texts(targets_of(made, "corrections")) == [own, correct]
    assert texts(targets_of(made, "style")) == [other, wrong]
    assert texts(targets_of(made, "both")) == [other, correct]
    assert [one[0] for one in texts(targets_of(made, "both", match=False))] == ["0", "1", "3"]


def test_edited_tokens_are_marked_and_counted(made: Made) -> None:
    for edits in ("none", "both"):
        for target in targets_of(made, edits):
            changed = target.origin == Origin.CANDIDATE
            assert target.notes["edited"] == changed.sum()
            assert (changed.sum() > 0) == (edits == "both")
            assert not changed[-1]
            assert len(target.origin) == len(target.token_ids) == target.notes["length"] + 1
    _, correct = targets_of(made, "both")
    pieces = [made.run.tokenizer.decode([token]) for token in correct.token_ids[correct.origin == Origin.CANDIDATE]]
    assert "".join(pieces).replace(" ", "") == 2 * equations(made.examples[1].reference)[-1].result


def test_without_an_answer_to_edit_there_is_nothing_to_train_on(made: Made) -> None:
    method = make("own-text")
    with pytest.raises(TrainingError, match="0 of 4 wrong answers can be mended"):
        method.make_targets(made.examples, Scripted(made, method, answer=["no"] * 4))


def test_constructions_of_own_and_gold_answers(made: Made) -> None:
    context = Scripted(made, make("own-text"))
    written = [right(made.examples[0], "So. "), mistaken(made.examples[1]), "no", "no"]
    found = constructions(made.examples, written, context)
    own = [(one.example.id[-1], one.kind) for one in found if one.source == "own"]
    assert own == [("1", "correction"), ("0", "style")]
    gold = [one for one in found if one.source == "reference" and one.kind == "correction"]
    assert [one.example.id for one in gold] == [example.id for example in made.examples]
    for one in gold:
        marked = [one.edited.after[start:end] for start, end in one.edited.spans]
        assert marked == [step.result for step in equations(one.example.reference)]
    assert np.all([one.edited.after == one.example.reference for one in gold])
