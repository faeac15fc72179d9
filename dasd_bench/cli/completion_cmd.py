"""``dasd-bench completion SHELL``: the shell's completion script, printed or installed."""

from __future__ import annotations

import os
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from dasd_bench.errors import DasdError
from dasd_bench.store.atomic import write_text

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS), required=False)
@click.option("--install", is_flag=True, help="Write the script to where the shell looks for it.")
def completion_command(shell: str | None, install: bool) -> None:
    """Print the completion script of bash, zsh or fish (default: your shell).

    \b
    bash   eval "$(dasd-bench completion bash)"            in ~/.bashrc
    zsh    eval "$(dasd-bench completion zsh)"             in ~/.zshrc, after compinit
    fish   dasd-bench completion fish | source             in ~/.config/fish/config.fish

    Or run `dasd-bench completion --install` once. It completes commands, options, methods, tasks, models and runs.
    """
    name = shell or Path(os.environ.get("SHELL", "")).name
    if name not in SHELLS:
        raise click.UsageError(f"Name the shell: {', '.join(SHELLS)}.")
    script = completion_script(name)
    if not install:
        click.echo(script)
        return
    path, then = install_place(name)
    write_text(path, script)
    click.echo(f"Wrote {path}. {then}")


def completion_script(shell: str) -> str:
    """Click's completion script for a shell."""
    from dasd_bench.cli.main import cli

    made = get_completion_class(shell)
    if made is None:
        raise DasdError(f"There is no completion for the shell '{shell}'.")
    complete = made(cli, {}, "dasd-bench", "_DASD_BENCH_COMPLETE")
    # Not ``source``: for bash that runs bash to ask for its version.
    return complete.source_template % complete.source_vars()


def install_place(shell: str) -> tuple[Path, str]:
    """The file that a shell reads completions from, and what remains to be done."""
    home = Path.home()
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    if shell == "bash":
        return (
            data / "bash-completion" / "completions" / "dasd-bench",
            "Open a new shell to use it.",
        )
    if shell == "fish":
        return config / "fish" / "completions" / "dasd-bench.fish", "Open a new shell to use it."
    return home / ".zfunc" / "_dasd-bench", "Put `fpath+=~/.zfunc` before `compinit` in ~/.zshrc and open a new shell."
