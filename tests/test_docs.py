"""The code blocks of the documentation are run as they stand, but for options that make the runs small.

A block that cannot run here has ``<!-- not run: reason -->`` above it; ``<!-- file: A, B -->`` says which files it is.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from dasd_bench.cli.main import cli, run_cli
from dasd_bench.registry import discover

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "docs/add-a-method.md", "docs/tasks.md", "docs/tutorial.md")
"""The pages whose blocks are run."""

EVERY_PAGE = ("README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))))
BLOCK = re.compile(r"((?:^<!-- [^\n]* -->\n)*)^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SMALL = (
    "--limit 2 --train-limit 2 --max-new-tokens 8 --tasks {tasks} --quiet "
    "--set training.epochs=1 --set training.lora_rank=2 --set engine.max_num_seqs=2"
)


@dataclass(frozen=True)
class Block:
    """One fenced block with its language, its text and the comments above it."""

    page: str
    language: str
    text: str
    files: tuple[str, ...]
    runs: bool


def blocks(page: str) -> list[Block]:
    found = []
    for comments, language, text in BLOCK.findall((ROOT / page).read_text(encoding="utf-8")):
        files = re.findall(r"<!-- file: (.*?) -->", comments)
        runs = not re.search(r"<!-- not run: \S.* -->", comments)
        found.append(Block(page, language, text, tuple(files[0].split(", ")) if files else (), runs))
    return found


def commands(block: Block) -> list[list[str]]:
    """The command lines of a shell block as arguments."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip() and not line.startswith("#")]


def test_every_block_is_run_or_says_why_not() -> None:
    every = [block for page in PAGES for block in blocks(page)]
    assert len(every) >= 12
    for block in every:
        assert block.language in ("python", "sh", "yaml", "json"), block
        if block.runs and block.language in ("yaml", "json"):
            assert block.files, f"{block.page}: a {block.language} block that no test reads:\n{block.text}"
        if block.runs and block.language == "sh":
            assert all(args[0] == "dasd-bench" for args in commands(block)), block.text


def simple_commands(script: str) -> Iterator[list[str]]:
    """The commands of a shell script as arguments, without assignments before them."""
    for line in re.sub(r"\\\n", " ", script).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        for joined, words in itertools.groupby(lexer, lambda word: not set(word) - set("();<>|&")):
            found = list(itertools.dropwhile(lambda word: re.match(r"[A-Z_]+=|export$", word), words))
            if found and not joined:
                yield found


@pytest.mark.parametrize("page", EVERY_PAGE)
def test_commands_have_only_options_that_exist(page: str) -> None:
    """Also in blocks that cannot run here: on a cluster, with a model of 8 billion parameters."""
    for block in blocks(page):
        if block.language not in ("sh", "bash"):
            continue
        for words in simple_commands(block.text):
            if Path(words[0]).name != "dasd-bench":
                continue
            command: click.Command = cli
            context = click.Context(cli)
            rest = words[1:]
            while isinstance(command, click.Group):
                found = command.get_command(context, rest[0])
                assert found is not None, words
                command, rest = found, rest[1:]
            # Raises for an option that the command does not have.
            command.make_parser(click.Context(command)).parse_args(rest)


def test_the_site_has_every_page() -> None:
    """mkdocs itself checks links when the site is built (``nox -s docs``)."""
    named = re.findall(r"([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert pages | {"command-line.md", "settings.md", "api.md"} == set(named)
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    assert pages - {"README.md"} == set(re.findall(r"\]\(([\w-]+\.md)\)", index))


def test_only_names_of_the_api_are_imported() -> None:
    for page in PAGES:
        for block in blocks(page):
            if block.language == "python":
                assert set(re.findall(r"from (dasd_bench[\w.]*) import", block.text)) == {"dasd_bench.api"}


@pytest.mark.parametrize("page", PAGES)
def test_the_page_s_files_and_commands_work(
    page: str,
    tiny_folder: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, block in enumerate(blocks(page)):
        if not block.runs:
            continue
        for name in block.files:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(block.text)
        if block.language == "python" and not block.files:
            folder = tmp_path / "plugins"
            folder.mkdir(exist_ok=True)
            (folder / f"block_{number}.py").write_text(block.text)
    for block in blocks(page):
        for args in commands(block) if block.language == "sh" and block.runs else []:
            if args[1] == "run":
                tasks = args[args.index("--tasks") + 1] if "--tasks" in args else "mini_gsm"
                args = [a for a in args if a not in ("--tasks", tasks)]
                args += [*SMALL.format(tasks=tasks).split(), "--model", str(tiny_folder("llama")), "--store", "store"]
            if args[1] == "ablate":
                args += ["--model", str(tiny_folder("llama")), "--store", "store", "--validation", "2", "--quiet"]
                args += ["--max-new-tokens", "8", "--set", "engine.max_num_seqs=2"]
            code = run_cli(args[1:])
            assert code == 0, (args, capsys.readouterr().err)
    plugins = tmp_path / "plugins"
    if plugins.is_dir():
        registry = discover((plugins,))
        assert not registry.broken
        own = sorted(name for name, plugin in registry.methods.items() if plugin.path.parent == plugins)
        assert len(own) == len(list(plugins.glob("*.py")))
        args = ["run", "--method", ",".join(own), "--plugins", str(plugins), "--model", str(tiny_folder("llama"))]
        assert run_cli([*args, *SMALL.format(tasks="mini_gsm").split(), "--store", "store"]) == 0


def test_what_the_pages_say_of_numbers_and_names() -> None:
    """Statements that were false once."""
    from dasd_bench.methods.context import MethodContext
    from dasd_bench.training.loss import CHUNK_ROWS

    training = (ROOT / "docs/training.md").read_text(encoding="utf-8")
    assert f"({CHUNK_ROWS} tokens at most)" in training
    assert f"{CHUNK_ROWS} at a time" in training
    page = (ROOT / "docs/add-a-method.md").read_text(encoding="utf-8")
    calls = set(
        re.findall(
            r"`([a-z]\w*)\(", page[page.index("`context` is the only access") : page.index("`max_new_tokens` is")]
        )
    )
    public = {
        name for name in vars(MethodContext) if not name.startswith("_") and callable(getattr(MethodContext, name))
    }
    assert calls == public


def test_the_presets_table_has_the_values_of_the_code() -> None:
    from dasd_bench.config.spec import PRESETS, resolve

    page = (ROOT / "docs/running.md").read_text(encoding="utf-8")
    section = page[page.index("### Presets") : page.index("### Names")]
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in section.splitlines() if "|" in line]
    header, rows = cells[0], {row[0].strip("`"): row[1:] for row in cells[2:]}
    assert header == ["option", "default", *(f"`{name}`" for name in PRESETS)]
    named = {
        key if not isinstance(value, dict) else f"{key}.{inner}"
        for preset in PRESETS.values()
        for key, value in preset.items()
        for inner in (value if isinstance(value, dict) else [""])
    }
    assert set(rows) == named
    for column, spec in enumerate([resolve({}), *(resolve(preset) for preset in PRESETS.values())]):
        for key, row in rows.items():
            section_name, _, inner = key.rpartition(".")
            value = getattr(getattr(spec, section_name) if section_name else spec, inner)
            written = [part.strip() for part in re.sub(r"\(.*\)|`", "", row[column]).split(",")]
            given = value if isinstance(value, tuple) else (value,)
            if not given:
                assert written == [""]
                continue
            assert len(written) == len(given)
            for text, one in zip(written, given, strict=True):
                assert text == one if isinstance(one, str) else float(text) == one, (key, column)
