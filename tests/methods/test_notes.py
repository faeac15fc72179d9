"""Notes that a method declares: what registration refuses, and what DASD says of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from dasd_bench.errors import PluginError
from dasd_bench.methods.base import build_method
from dasd_bench.methods.plugin_calls import remark
from dasd_bench.registry import discover

PLUGIN = """
from dataclasses import dataclass
from dasd_bench.api import Method, Note, option

@dataclass(frozen=True)
class Counting(Method):
    name = "counting"
    summary = "Counts."
    notes = {notes}
    size: int = option(1, help="A number.")
    word: str = option("a", help="A word.")
    yes: bool = option(True, help="A switch.")

    def remark(self, notes):
        return {remark}
"""


def plugin(folder: Path, notes: str, says: str = "''") -> Path:
    (folder / "counting.py").write_text(PLUGIN.format(notes=notes, remark=says), encoding="utf-8")
    return folder


def test_declared_notes_are_registered(tmp_path: Path) -> None:
    notes = "(Note('tries', 'tries', 'mean', against='size'), Note('right', 'right', 'share', of='tries'))"
    registry = discover((plugin(tmp_path, notes),))
    assert [note.name for note in registry.methods["counting"].item.notes] == ["tries", "right"]


@pytest.mark.parametrize(
    ("notes", "message"),
    [
        ("[Note('a', 'a')]", "must have a tuple of Note(...) as its notes"),
        ("('a',)", "must have a tuple of Note(...) as its notes"),
        ("(Note('a b', 'a'),)", "note 'a b' needs a name of letters, digits and underscores"),
        ("(Note('', 'a'),)", "note '' needs a name"),
        ("(Note('a', ' '),)", "note 'a' needs a title"),
        ("(Note('a', 'a', 'median'),)", "note 'a' has how='median'; use sum, mean, share"),
        ("(Note('a', 'a', 'sum', of='b'),)", "note 'a' has of='b', which belongs to how='share' only"),
        ("(Note('a', 'a', against='depth'),)", "note 'a' has against='depth', which is no numeric option"),
        ("(Note('a', 'a', against='word'),)", "note 'a' has against='word', which is no numeric option"),
        ("(Note('a', 'a', against='yes'),)", "note 'a' has against='yes', which is no numeric option"),
        ("(Note('a', 'a'), Note('a', 'b'))", "note 'a' is declared twice"),
        ("(Note('a', 3),)", "note 'a' has a field of the wrong type"),
        ("(Note('a', 'a', shown='no'),)", "note 'a' has a field of the wrong type"),
    ],
)
def test_a_wrong_declaration_is_refused(notes: str, message: str, tmp_path: Path) -> None:
    (broken,) = discover((plugin(tmp_path, notes),)).broken
    assert message in broken.error
    assert "counting.py" in broken.error


def test_a_remark_is_one_line_of_text(tmp_path: Path) -> None:
    method = discover((plugin(tmp_path, "()", "'so\\n  it  is'"),)).methods["counting"].item
    assert remark(build_method(method, {}), {}) == "so it is"


@pytest.mark.parametrize(("says", "message"), [("None", "must return text, not None"), ("1 / 0", "ZeroDivisionError")])
def test_a_remark_that_fails_names_the_plugin(says: str, message: str, tmp_path: Path) -> None:
    method = discover((plugin(tmp_path, "()", says),)).methods["counting"].item
    with pytest.raises(PluginError, match=message) as caught:
        remark(build_method(method, {}), {})
    assert "counting.py" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "share", "said"),
    [
        ({}, 0.003, True),
        ({}, 0.01, False),
        ({"rule": "reversed-gate"}, 0.0, True),
        ({"rule": "reference-sure"}, 0.0, True),
        ({"rule": "confidence-gate", "tau": 1.0}, 0.0, True),
        ({"rule": "confidence-gate", "tau": 1.5}, 0.0, False),
        ({"rho": 0.0}, 0.0, False),
        ({"rule": "random-gate", "tau": 1.5}, 0.0, False),
        ({"rule": "candidate-floor", "tau": 0.0}, 0.0, False),
        ({"rule": "relative-floor", "alpha": 0.0}, 0.0, False),
        ({"rule": "loss-mask"}, None, False),
    ],
)
def test_dasd_says_where_its_gate_is_idle(options: dict[str, object], share: float | None, said: bool) -> None:
    """Not where the options leave no gate, and not without gated answers."""
    method = build_method(discover().methods["dasd"].item, dict(options))
    text = remark(method, {} if share is None else {"gated_replaced": share})
    assert text.startswith("the gate replaced only") == said
    assert bool(text) == said
