"""A plugin's source: which files it is, importing it as it is now, and new results for an edited one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dasd_bench.errors import PluginError
from dasd_bench.methods.context import Choice, DualStep, Rule
from dasd_bench.methods.plugin_source import source_files, source_hash
from dasd_bench.registry import discover
from dasd_bench.run.method_context import rule_key
from tests.run.helpers import command, run_args

METHOD = '''
from dataclasses import dataclass
import numpy as np
from dasd_bench.api import Choice, Method, Origin, Rule
{imports}

@dataclass(frozen=True)
class Shift(Rule):
    """Takes the candidate's id plus a number."""

    def __call__(self, step):
        token = (step.reference_token + {shift}) % 50 + 100
        return Choice(token, (token * 0 + int(Origin.BASE)).to(dtype=__import__("torch").uint8))

@dataclass(frozen=True)
class {cls}(Method):
    name = "{name}"
    summary = "Targets by a rule of its own."

    def make_targets(self, examples, context):
        made = context.dual_decode(
            [context.plain_prompt(e) for e in examples],
            [context.rewrite_prompt(e) for e in examples],
            Shift(),
            max_new_tokens=[4] * len(examples),
        )
        return [
            context.target(e, m.token_ids, m.origin, reason="shifted", accepted=True)
            for e, m in zip(examples, made, strict=True)
        ]
'''


def write(folder: Path, *, shift: str = "0", imports: str = "", name: str = "shifted") -> None:
    folder.mkdir(exist_ok=True)
    text = METHOD.format(shift=shift, imports=imports, name=name, cls=name.capitalize())
    (folder / f"{name}.py").write_text(text)


def tokens(folder: Path, model: Path, capsys, name: str = "shifted") -> str:
    """The targets of a small run with the folder's plugin; everything before may be reused."""
    few = ["--limit", "2", "--train-limit", "2", "--plugins", str(folder / "plugins")]
    out = folder / f"out{len(list(folder.iterdir()))}"
    result = command(capsys, *run_args(model, folder, *few, "--output", str(out), methods=name))
    assert result.code == 0, result.err
    return (out / "arms" / name / "seed0" / "targets.jsonl").read_text()


def test_an_edited_rule_decodes_anew(tmp_path: Path, tiny_folder: Callable[[str], Path], capsys) -> None:
    """Also where the edit keeps the file's size and time, as a cached .pyc would not notice."""
    plugins = tmp_path / "plugins"
    write(plugins, shift="1")
    stamp = (plugins / "shifted.py").stat().st_mtime_ns
    first = tokens(tmp_path, tiny_folder("llama"), capsys)
    write(plugins, shift="2")
    os.utime(plugins / "shifted.py", ns=(stamp, stamp))
    second = tokens(tmp_path, tiny_folder("llama"), capsys)
    write(plugins, shift="1")
    assert first != second
    assert tokens(tmp_path, tiny_folder("llama"), capsys) == first
    assert len(list((tmp_path / "store" / "dual").iterdir())) == 2
    assert len(list((tmp_path / "store" / "evaluate").iterdir())) == 3 * 2  # of two tasks; the base's are shared
    assert not list(plugins.glob("__pycache__"))


@pytest.mark.parametrize(
    "imports",
    ["from _helper import SHIFT", "from . import _helper\nSHIFT = _helper.SHIFT", "from ._helper import SHIFT"],
)
def test_an_edited_helper_decodes_anew(
    imports: str, tmp_path: Path, tiny_folder: Callable[[str], Path], capsys
) -> None:
    plugins = tmp_path / "plugins"
    write(plugins, shift="SHIFT", imports=imports)
    (plugins / "_helper.py").write_text("SHIFT = 1\n")
    first = tokens(tmp_path, tiny_folder("llama"), capsys)
    (plugins / "_helper.py").write_text("SHIFT = 2\n")
    assert tokens(tmp_path, tiny_folder("llama"), capsys) != first


def test_two_methods_of_one_file_make_their_own_targets(
    tmp_path: Path, tiny_folder: Callable[[str], Path], capsys
) -> None:
    """Equal options and one source: only the name tells them apart."""
    plugins = tmp_path / "plugins"
    write(plugins, shift="1")
    more = "\n@dataclass(frozen=True)\nclass Second(Shifted):\n    name = 'second'\n"
    more += "    def make_targets(self, examples, context):\n"
    more += "        return [context.reference_target(e) for e in examples]\n"
    (plugins / "shifted.py").write_text((plugins / "shifted.py").read_text() + more)
    assert tokens(tmp_path, tiny_folder("llama"), capsys) != tokens(tmp_path, tiny_folder("llama"), capsys, "second")


TWICE = """
from dataclasses import dataclass
import numpy as np
from dasd_bench.api import Method, Origin, Sampling

@dataclass(frozen=True)
class Twice(Method):
    name = "twice"
    summary = "Asks the same twice."

    def stochastic(self):
        return True

    def make_targets(self, examples, context):
        prompts = [context.plain_prompt(examples[0])] * 3
        one, two = (
            context.generate(prompts, max_new_tokens=[8] * 3, sampling=Sampling(1.0), label="sample") for _ in range(2)
        )
        different = len({tuple(made.token_ids.tolist()) for made in [*one, *two]})
        return [context.reference_target(example, notes={"different": different}) for example in examples]
"""


def test_equal_sampled_calls_draw_differently(tmp_path: Path, tiny_folder: Callable[[str], Path], capsys) -> None:
    """Within a call and between calls; and the same again in another run, from an empty store."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "twice.py").write_text(TWICE)
    first = tokens(tmp_path, tiny_folder("llama"), capsys, "twice")
    assert {json.loads(line)["notes"]["different"] for line in first.splitlines()} == {6.0}
    shutil.rmtree(tmp_path / "store")
    assert tokens(tmp_path, tiny_folder("llama"), capsys, "twice") == first


def test_source_files_are_what_the_plugin_imports_or_names(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "unused", "late"):
        (tmp_path / f"{name}.py").write_text("")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("from . import inner\n")
    (tmp_path / "package" / "inner.py").write_text("import c\n")
    (tmp_path / "package" / "not_used.py").write_text("")
    (tmp_path / "prompt.txt").write_text("Rewrite.")
    (tmp_path / "other.txt").write_text("")
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        "import os, json\nimport a\nfrom b import x\nimport package\nFILE = 'prompt.txt'\n"
        "import importlib\ndef f():\n    importlib.import_module('late')\n"
    )
    found = [path.relative_to(tmp_path).as_posix() for path in source_files(plugin)]
    assert found[0] == "plugin.py"
    assert set(found[1:]) == {
        "a.py", "b.py", "c.py", "late.py", "package/__init__.py", "package/inner.py", "prompt.txt"
    }  # fmt: skip
    before = source_hash(plugin)
    (tmp_path / "unused.py").write_text("x = 1")
    assert source_hash(plugin) == before
    for name in found:
        kept = (tmp_path / name).read_text()
        (tmp_path / name).write_text(kept + "\n# edited\n")
        assert source_hash(plugin) != before, name
        (tmp_path / name).write_text(kept)


def test_helpers_of_two_folders_with_one_name_do_not_clash(tmp_path: Path) -> None:
    """And a helper that is no plugin is not listed as a broken one, while a stray file is."""
    for number in (1, 2):
        folder = tmp_path / f"f{number}"
        write(folder, imports="from helper import WORD", name=f"m{number}")
        (folder / "helper.py").write_text(f"WORD = 'w{number}'\n")
        (folder / "stray.py").write_text("")
        late = f"\ndef late():\n    import helper\n    return helper.WORD + '{number}'\n"
        file = folder / f"m{number}.py"
        file.write_text(file.read_text() + late)
    found = discover((tmp_path / "f1", tmp_path / "f2"))
    for number in (1, 2):
        space = found.methods[f"m{number}"].item.make_targets.__globals__
        assert space["WORD"] == f"w{number}"
        assert space["late"]() == f"w{number}{number}"
    assert [Path(broken.origin).name for broken in found.broken] == ["stray.py", "stray.py"]


class Open(Rule):
    def __call__(self, step: DualStep) -> Choice:
        raise NotImplementedError


def test_a_rule_that_a_key_cannot_name_is_refused() -> None:
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Inner(Open):
        """Defined in a function: what it closes over is in no key."""

    with pytest.raises(PluginError, match="dataclass"):
        rule_key(Open(), "")
    with pytest.raises(PluginError, match="top level"):
        rule_key(Inner(), "")
    with pytest.raises(PluginError, match="dataclass"):
        rule_key(lambda step: None, "")  # type: ignore[arg-type]


def test_an_edited_shared_gate_changes_the_keys_of_the_methods_that_use_it(tmp_path: Path, monkeypatch) -> None:
    """The shipped gates lie outside the plugin's folder, and still are part of its source."""
    from dasd_bench.methods import plugin_source

    home = tmp_path / "methods"
    shutil.copytree(Path(plugin_source.__file__).parent, home)
    shutil.copy(Path(plugin_source.__file__).parents[1] / "api.py", tmp_path)
    monkeypatch.setattr(plugin_source, "__file__", str(home / "plugin_source.py"))
    shipped = Path(__file__).parents[2] / "methods"
    mine = tmp_path / "mine.py"
    mine.write_text("from dasd_bench.api import Margin, Method\n")
    whole = tmp_path / "whole.py"
    whole.write_text("import dasd_bench.api as api\n")
    users = [shipped / "dasd.py", mine, whole]
    before = [source_hash(path) for path in [*users, shipped / "dft.py"]]
    (home / "gate_rules.py").write_text((home / "gate_rules.py").read_text() + "\n# edited\n")
    edited = [source_hash(path) for path in [*users, shipped / "dft.py"]]
    assert all(a != b for a, b in zip(before[:3], edited[:3], strict=True))
    assert edited[3] == before[3], "a method that uses no gate keeps its results"
    (home / "gates.py").write_text((home / "gates.py").read_text() + "\n# edited\n")
    again = [source_hash(path) for path in users]
    assert all(a != b for a, b in zip(edited, again, strict=False)), "what the gates themselves use counts too"
    aliased = tmp_path / "aliased.py"
    aliased.write_text("from dasd_bench.api import EditedText, Method\n")
    users = [shipped / "own_text.py", aliased, whole]
    before = [source_hash(path) for path in [*users, shipped / "dasd.py"]]
    (home / "edits" / "wording.py").write_text((home / "edits" / "wording.py").read_text() + "\n# edited\n")
    edited = [source_hash(path) for path in [*users, shipped / "dasd.py"]]
    assert all(a != b for a, b in zip(before[:3], edited[:3], strict=True)), "every module of a package counts"
    assert edited[3] == before[3]
