"""Shell completion: the candidates, that they cost no heavy import, and a real bash where there is one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from dasd_bench.cli.complete import SETTINGS
from dasd_bench.cli.main import COMMANDS, cli, run_cli
from dasd_bench.config.spec import PRESETS, SECTIONS
from dasd_bench.files.shipped import named_methods, named_tasks
from dasd_bench.registry import discover


def candidates(*words: str) -> list[str]:
    """What the shell is offered for the last of ``words``."""
    complete = ShellComplete(cli, {}, "dasd-bench", "_DASD_BENCH_COMPLETE")
    return [one.value for one in complete.get_completions(list(words[:-1]), words[-1])]


def test_names_read_from_source_are_those_of_the_registry() -> None:
    registry = discover()
    assert {one.name: one.summary for one in named_methods()} == {
        name: plugin.item.summary for name, plugin in registry.methods.items()
    }
    assert {one.name: (one.summary, one.comparable) for one in named_tasks()} == {
        name: (plugin.item.summary, plugin.item.comparable) for name, plugin in registry.tasks.items()
    }


def test_commands_and_options() -> None:
    assert candidates("") == list(COMMANDS)
    assert candidates("ta") == ["table", "task"]
    assert "--evaluate-adapter" in candidates("run", "--eva")
    assert candidates("run", "--dtype", "f") == ["fp32"]
    assert set(candidates("run", "--preset", "")) == set(PRESETS)


def test_lists_complete_their_last_name_and_repeat_none() -> None:
    assert candidates("run", "--method", "sft,das") == ["sft,dasd"]
    assert "sft,sft" not in candidates("run", "--method", "sft,s")
    assert candidates("run", "--method", "self-distill*prof") == ["self-distill*profit"]
    assert candidates("run", "-t", "mini_a") == ["mini_arc"]
    assert "smollm2-135m" in candidates("run", "-m", "smol")


def test_own_plugins_and_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_cli(["new-method", "own-way"]) == 0
    assert run_cli(["task", "new", "own_task"]) == 0
    assert candidates("run", "--plugins", "my_methods", "--method", "own-w") == ["own-way"]
    assert candidates("run", "--plugins", "my_tasks", "--tasks", "own") == ["own_task"]
    (tmp_path / "runs" / "first").mkdir(parents=True)
    (tmp_path / "runs" / "first" / "spec.yaml").write_text("")
    (tmp_path / "runs" / "other").mkdir()
    for verb in ("table", "compare", "samples", "report", "plot", "score", "diagnose", "export"):
        assert candidates(verb, "fi") == ["first"], verb
    assert "first" in candidates("show", "f")


def test_every_section_of_a_specification_has_its_list_of_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert sorted(SETTINGS) == sorted(("run", *SECTIONS))
    for name in SETTINGS:
        assert run_cli(["show", name]) == 0
        assert capsys.readouterr().out.startswith(f"Settings of {name}, ")


def test_no_heavy_import() -> None:
    code = (
        "import sys\nfrom dasd_bench.cli.main import run_cli\n"
        "try: run_cli([])\nexcept SystemExit: pass\n"
        "bad = {'torch', 'transformers', 'datasets', 'lm_eval', 'peft', 'matplotlib'} & sys.modules.keys()\n"
        "assert not bad, bad"
    )
    for words, number in (("dasd-bench run --method d", "3"), ("dasd-bench show ", "2"), ("dasd-bench run -m s", "3")):
        asked = {"_DASD_BENCH_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": number}
        done = subprocess.run([sys.executable, "-c", code], env=os.environ | asked, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "plain," in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_are_printed_and_installed(
    shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "_DASD_BENCH_COMPLETE" in script
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert run_cli(["completion", shell, "--install"]) == 0
    (written,) = [path for path in tmp_path.rglob("*dasd-bench*") if path.is_file()]
    assert written.read_text().strip() == script.strip()
    assert str(written) in capsys.readouterr().out


def test_a_real_bash_completes(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not here")
    program = tmp_path / "dasd-bench"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m dasd_bench "$@"\n')
    program.chmod(0o755)
    script = (
        'eval "$(dasd-bench completion bash)"\nCOMP_WORDS=(dasd-bench run --method das)\nCOMP_CWORD=3\n'
        'f=$(complete -p dasd-bench | sed "s/.*-F \\([^ ]*\\).*/\\1/")\n'
        '$f dasd-bench das --method\necho "${COMPREPLY[@]}"'
    )
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run([bash, "-c", script], env=os.environ | {"PATH": path}, capture_output=True, text=True)
    assert done.stdout.strip() == "dasd", done.stderr


def test_an_unknown_shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SHELL", "/bin/ksh")
    assert run_cli(["completion"]) == 2
    assert "Name the shell: bash, zsh, fish." in capsys.readouterr().err
