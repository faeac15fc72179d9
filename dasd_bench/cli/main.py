"""The command group: verbs loaded when used, errors as one sentence, exit codes as documented in errors.py."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from dasd_bench import __version__
from dasd_bench.errors import DasdError, did_you_mean

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("dasd_bench.cli.run_cmd:run", "Make targets, train, evaluate and print the table."),
    "sweep": ("dasd_bench.cli.sweep_cmd:sweep", "Tune every arm on one grid, on validation rows."),
    "table": ("dasd_bench.cli.table_cmd:table_command", "Print the table of finished runs."),
    "compare": ("dasd_bench.cli.table_cmd:compare_command", "Compare two runs item by item."),
    "samples": ("dasd_bench.cli.samples_cmd:samples_command", "Read the answers of a run in the terminal."),
    "score": ("dasd_bench.cli.score_cmd:score_command", "Grade the answers of a run again, without a model."),
    "diagnose": ("dasd_bench.cli.diagnose_cmd:diagnose_command", "Show what was trained on and what moved."),
    "plot": ("dasd_bench.cli.plot_cmd:plot_command", "Draw plots of runs as PDF, SVG and PNG."),
    "report": ("dasd_bench.cli.report_cmd:report_command", "Write one HTML page: tables, plots, token viewer."),
    "export": ("dasd_bench.cli.export_cmd:export_command", "Write a model card for a run's adapters."),
    "list": ("dasd_bench.cli.list_cmd:list_group", "List methods, models, tasks or runs."),
    "show": ("dasd_bench.cli.list_cmd:show", "Show a method, task, model or run."),
    "data": ("dasd_bench.cli.data_cmd:data_group", "Check a folder of benchmark data."),
    "models": ("dasd_bench.cli.models_cmd:models_group", "Fetch and list models."),
    "exec": ("dasd_bench.cli.exec_cmd:exec_command", "Execute code samples in the sandbox and score them."),
    "bench": ("dasd_bench.cli.bench_cmd:bench", "Measure speed against what you would otherwise run."),
    "doctor": ("dasd_bench.cli.doctor:doctor", "Say what this machine has and can do."),
    "new-method": ("dasd_bench.cli.new_method:new_method", "Write the file of a new method."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used, so that ``--help`` stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(f"Unknown command '{args[0]}'.{did_you_mean(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="dasd-bench")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Which way of choosing what to fine-tune on helps this model on these tasks, and what does it cost elsewhere?

    \b
    dasd-bench run --method dasd --model smollm2-135m --preset quick
    dasd-bench run --method sft,self-distill,dasd,low-ppl,profit --tasks gsm8k,arc_challenge --data-dir DIR
    """


def run_cli(args: Sequence[str] | None = None) -> int:
    """Runs the command line and gives the exit code; prints errors as one sentence on standard error."""
    arguments = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in arguments
    # Accepted anywhere on the line: people add it to the end of the command that failed.
    arguments = [a for a in arguments if a != "--debug"]
    # A polite kill ends like Ctrl-C: what is finished is kept and the way to go on is said.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = cli.main(arguments, prog_name="dasd-bench", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _say("Interrupted. Finished work is kept: run the same command again to go on.")
        return 130
    except DasdError as error:
        if debug:
            traceback.print_exc()
        _say(f"Error: {error}")
        return error.exit_code
    except BrokenPipeError:
        # The reader went away (``| head``): not an error worth a word.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            traceback.print_exc()
        _say(f"Error: unexpected {type(error).__name__}: {error} (run again with --debug for the traceback)")
        return 1


def _interrupt(_signal: int, _frame: Any) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
