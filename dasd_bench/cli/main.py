"""The command group: commands loaded when used, errors as one sentence, exit codes as documented in errors.py."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from dasd_bench import __version__
from dasd_bench.cli.streams import ReaderGone, complain, guarded_output
from dasd_bench.errors import DasdError, UsageError, did_you_mean
from dasd_bench.files.text import shown

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("dasd_bench.cli.run_cmd:run", "Make targets, train, evaluate and print the table."),
    "sweep": ("dasd_bench.cli.sweep_cmd:sweep", "Tune every arm on the same grid with validation rows."),
    "probe": ("dasd_bench.cli.probe_cmd:probe", "Label tokens as corrections or style; test what separates them."),
    "ablate": ("dasd_bench.cli.ablate_cmd:ablate", "Compare the rules and thresholds of a gated method."),
    "table": ("dasd_bench.cli.table_cmd:table_command", "Print the table of finished runs."),
    "compare": ("dasd_bench.cli.table_cmd:compare_command", "Compare two runs item by item."),
    "check": ("dasd_bench.cli.check_cmd:check_command", "Check a run against a published result."),
    "samples": ("dasd_bench.cli.samples_cmd:samples_command", "Show the answers of a run in the terminal."),
    "score": ("dasd_bench.cli.score_cmd:score_command", "Regrade the answers of a run without a model."),
    "grade": ("dasd_bench.cli.grade_cmd:grade_command", "Grade your own answers and show how they are read."),
    "diagnose": ("dasd_bench.cli.diagnose_cmd:diagnose_command", "Show training targets and what training changed."),
    "plot": ("dasd_bench.cli.plot_cmd:plot_command", "Draw figures of runs, ablations and probes as PDF, SVG and PNG."),
    "view": ("dasd_bench.cli.view_cmd:view_command", "View runs in the browser, live."),
    "report": ("dasd_bench.cli.report_cmd:report_command", "Write one HTML page: tables, plots, token viewer."),
    "check-results": ("dasd_bench.cli.results_cmd:check_results_command", "Check the entries of a results folder."),
    "leaderboard": ("dasd_bench.cli.results_cmd:leaderboard_command", "Write one sortable page of all results."),
    "export": ("dasd_bench.cli.export_cmd:export_command", "Write a model card for a run's adapters."),
    "list": ("dasd_bench.cli.list_cmd:list_group", "List methods, models, tasks or runs."),
    "show": ("dasd_bench.cli.list_cmd:show", "Show a method, task, model or run."),
    "data": ("dasd_bench.cli.data_cmd:data_group", "Validate or fill a folder of benchmark data."),
    "models": ("dasd_bench.cli.models_cmd:models_group", "Download and list models."),
    "store": ("dasd_bench.cli.store_cmd:store_group", "Show the disk use of stored results and prune them."),
    "exec": ("dasd_bench.cli.exec_cmd:exec_command", "Execute code samples in the sandbox and score them."),
    "bench": ("dasd_bench.cli.bench_cmd:bench", "Compare the speed with common alternatives."),
    "doctor": ("dasd_bench.cli.doctor:doctor", "Report what this machine provides."),
    "task": ("dasd_bench.cli.task_cmd:task_group", "Write a template for a new task."),
    "completion": ("dasd_bench.cli.completion_cmd:completion_command", "Print or install shell completion."),
    "new-method": ("dasd_bench.cli.new_method:new_method", "Write a template for a new method."),
}


WORKS_ON = ("run", "sweep", "ablate", "probe", "exec", "score")
"""The verbs that continue where standard output is lost: what they compute is kept in files."""

OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "std::bad_alloc",
    "unable to mmap",
    "failed to map segment",
    "can't start new thread",
)
"""What the libraries below say, in lower case, where memory or address space ran out."""


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

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        from click.shell_completion import CompletionItem

        # The base class would import every command for its summary.
        found = [(name, summary) for name, (_, summary) in COMMANDS.items() if name.startswith(incomplete)]
        return [CompletionItem(name, help=summary) for name, summary in found]

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
    """Which self-distillation or token-selection method helps this model, and what does it cost on other tasks?

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
        with guarded_output(works_on=next((a for a in arguments if not a.startswith("-")), "") in WORKS_ON):
            return _run(arguments)
    except click.ClickException as error:
        with contextlib.suppress(OSError):
            error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        complain("Interrupted. Finished work is kept; run the same command again to resume.")
        return 130
    except (ReaderGone, BrokenPipeError):
        # ``| head``: not an error worth a word.
        return 0
    except Exception as error:
        if debug:
            traceback.print_exc()
        known = error if isinstance(error, DasdError) else explained(error)
        if known is None:
            complain(f"Error: unexpected {type(error).__name__}: {error} (rerun with --debug for the traceback)")
            return 1
        complain(f"Error: {known}")
        return known.exit_code


def _run(arguments: list[str]) -> int:
    for argument in arguments:
        if "\0" in argument:
            raise UsageError(f"{shown(argument)}: a null character cannot be part of an option.")
    try:
        code = cli.main(arguments, prog_name="dasd-bench", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    return code if isinstance(code, int) else 0


def explained(error: Exception) -> DasdError | None:
    """What the machine refused, as one sentence: memory, files, too deep nesting; None for any other error.

    The readers and writers name their files themselves; this is for the calls between them.
    """
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or any(words in text.lower() for words in OUT_OF_MEMORY):
        return DasdError(
            "Out of memory; finished work is kept. Free memory, or use a smaller model, a smaller "
            "engine.max_num_seqs or training.microbatch_tokens, and run the same command again."
        )
    if isinstance(error, OSError) and error.strerror:
        where = f"{shown(os.fsdecode(error.filename))}: " if isinstance(error.filename, (str, bytes)) else ""
        return DasdError(f"{where}{error.strerror}.")
    if isinstance(error, ValueError) and "null byte" in text:
        return UsageError("A path contains a null character; correct it.")
    return None


def _interrupt(_signal: int, _frame: Any) -> None:
    raise KeyboardInterrupt
