"""Plugin discovery: shipped, folders, entry points; collisions and broken plugins."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from dasd_bench import registry as registry_module
from dasd_bench.errors import PluginError, UsageError
from dasd_bench.registry import discover

GOOD = '''
from dataclasses import dataclass
from dasd_bench.api import Method, option

@dataclass(frozen=True)
class Mine(Method):
    """A method."""
    name = "mine"
    summary = "Mine."
    floor: float = option(0.5, help="A floor.", minimum=0, maximum=1)
'''


def test_shipped_methods_are_found_with_their_origin() -> None:
    found = discover().methods
    assert {"sft", "self-distill", "dasd", "low-ppl", "profit"} <= set(found)
    assert found["dasd"].origin == "shipped"
    assert len(found["dasd"].sha256) == 64


def test_folder_plugin_is_found_and_its_hash_follows_its_text(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(GOOD)
    first = discover((tmp_path,)).method("mine")
    file.write_text(GOOD + "\n# edited\n")
    second = discover((tmp_path,)).method("mine")
    assert first.origin.startswith("--plugins")
    assert first.sha256 != second.sha256


def test_broken_plugin_is_listed_and_the_rest_goes_on(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import nothing_of_that_name\n")
    (tmp_path / "good.py").write_text(GOOD)
    found = discover((tmp_path,))
    assert "mine" in found.methods
    assert len(found.broken) == 1
    assert "nothing_of_that_name" in found.broken[0].error
    assert "Traceback" in found.broken[0].traceback


def test_name_collision_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "again.py").write_text(GOOD.replace('"mine"', '"dasd"'))
    with pytest.raises(PluginError, match="claimed by both"):
        discover((tmp_path,))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "mine"', 'name = ""', "needs a name"),
        ('summary = "Mine."', "", "one-line summary"),
        ("@dataclass(frozen=True)", "", "must be decorated"),
        ('option(0.5, help="A floor.", minimum=0, maximum=1)', "0.5", "has no help text"),
        ("option(0.5,", "option(2.5,", "out of range"),
        ('summary = "Mine."', 'summary = "Mine."\n    online = True', "online_weights"),
        ('summary = "Mine."', 'summary = "Mine."\n    denominator = "some"', "use one of kept, all, rows"),
        ('name = "mine"', "name = 5", "name must be a str, not a int"),
        ('summary = "Mine."', 'summary = "Mine."\n    card = None', "card must be a Mapping, not a NoneType"),
        ("option(0.5,", "option((0.5,),", "must be a bool, int, float or str"),
        ("@dataclass(frozen=True)", "raise SystemExit(0)\n@dataclass(frozen=True)", "mine.py:"),
        ("class Mine(Method)", "class Mine", "no class derives"),
    ],
)
def test_invalid_plugin_says_what_is_wrong(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    (tmp_path / "mine.py").write_text(GOOD.replace(old, new))
    (broken,) = discover((tmp_path,)).broken
    assert message in broken.error


def test_entry_point_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "entry_plugin_module.py").write_text(GOOD)
    monkeypatch.syspath_prepend(str(tmp_path))
    points = [
        EntryPoint("mine", "entry_plugin_module", "dasd_bench.methods"),
        EntryPoint("gone", "no_such_module_at_all:X", "dasd_bench.methods"),
    ]
    monkeypatch.setattr(registry_module, "entry_points", lambda group: points if group == "dasd_bench.methods" else [])
    found = discover()
    assert "entry_plugin_module" in found.methods["mine"].origin
    assert "no_such_module_at_all" in found.broken[0].error


def test_unknown_names_get_a_suggestion() -> None:
    found = discover()
    with pytest.raises(UsageError, match="Did you mean 'self-distill'"):
        found.method("selfdistill")
    with pytest.raises(PluginError, match="does not exist"):
        discover((Path("no/such/folder"),))
