"""The way into `runfold`: which commands there are, and what becomes of every error.

What it promises: no traceback ever reaches a user. Exit codes: 0 done; 1 refused or failed; 2 wrong use or bad input, with every
problem told and nothing changed; 75 try again; 130 interrupted; 70 our own bug, with a report kept in a file.
A command's module is imported when it is called, so that `runfold --help` costs little.
"""

import errno
import importlib
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import click

from cli.session import Session, shared_options
from shared.errors import (
    Conflict,
    EngineBusy,
    InvalidInput,
    Problem,
    RunfoldError,
    StoreUnavailable,
    TargetSilent,
    TargetUnavailable,
)
from shared.secrecy import without_secrets

EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_BUG = 70
EXIT_TRY_AGAIN = 75
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
"""As the shell shows a death by SIGPIPE."""

WORD_SHOWN = 200
"""Letters of a word that is cut."""

COMPLETION_VARIABLE = "_RUNFOLD_COMPLETE"


class Entry(NamedTuple):
    section: str
    module: str
    help: str


COMMANDS: dict[str, Entry] = {
    "up": Entry("Engine", "cli.commands.engine", "Run the engine of this home until you stop it."),
    "doctor": Entry("Engine", "cli.commands.keeping", "Look for what could go wrong on this machine."),
    "validate": Entry("Workflows", "cli.commands.documents", "Check documents; every problem at once."),
    "plan": Entry("Workflows", "cli.commands.documents", "What registering a document would do."),
    "register": Entry("Workflows", "cli.commands.documents", "Make documents live, or an older version again."),
    "unregister": Entry("Workflows", "cli.commands.documents", "Take a workflow out of service."),
    "workflows": Entry("Workflows", "cli.commands.documents", "List the workflows."),
    "calendars": Entry("Workflows", "cli.commands.calendars", "List the calendars, or show one with its days."),
    "pause": Entry("Workflows", "cli.commands.asking", "Start no more scheduled runs of a workflow."),
    "resume": Entry("Workflows", "cli.commands.asking", "End a pause."),
    "pools": Entry("Workflows", "cli.commands.pools", "What jobs of all workflows share: list, show, set."),
    "run": Entry("Runs", "cli.commands.asking", "Ask for a run, and watch it with --wait."),
    "trigger": Entry("Runs", "cli.commands.triggering", "Tell of an event, and start what waits for it."),
    "runs": Entry("Runs", "cli.commands.looking", "List runs, newest first."),
    "show": Entry("Runs", "cli.commands.looking", "A run and its jobs, now or at a past moment."),
    "why": Entry("Runs", "cli.commands.looking", "Why a run or a job is not running, and what will clear it."),
    "logs": Entry("Runs", "cli.commands.looking", "What a job wrote."),
    "events": Entry("Runs", "cli.commands.looking", "Everything that happened to a run."),
    "results": Entry("Runs", "cli.commands.looking", "The files that a run saved."),
    "cancel": Entry("Runs", "cli.commands.asking", "Ask a run, or one job of it, to end."),
    "backfill": Entry("Runs", "cli.commands.backfilling", "Run a stretch of a schedule that has passed."),
    "rerun": Entry("Runs", "cli.commands.asking", "Do a finished run, or parts of it, again."),
    "approve": Entry("Runs", "cli.commands.asking", "Say yes to a job that waits for a decision."),
    "reject": Entry("Runs", "cli.commands.asking", "Say no to it, and so fail it."),
    "alerts": Entry("Runs", "cli.commands.alerts", "What people were told, and what could not be told."),
    "mark": Entry("Runs", "cli.commands.asking", "Declare how a job ended, in your name."),
    "prune": Entry("Keeping", "cli.commands.keeping", "Remove old finished runs and their files."),
    "rebuild": Entry("Keeping", "cli.commands.history", "Make the lists again from the events alone."),
    "verify": Entry("Keeping", "cli.commands.history", "Check what must always hold, on the real history."),
    "completion": Entry("Keeping", "cli.commands.keeping", "Print the completion script of a shell."),
}


class Commands(click.Group):
    """Knows every command by name and in a few words, and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        found: click.Command = getattr(importlib.import_module(entry.module), cmd_name)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from shared.workflow.nearest import Nearest, shown

            hint = Nearest().hint(args[0], list(COMMANDS), "`runfold --help` lists them")
            raise click.UsageError(f"there is no command {shown(args[0])}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        for section in dict.fromkeys(entry.section for entry in COMMANDS.values()):
            with formatter.section(section):
                formatter.write_dl(
                    [(name.ljust(10), entry.help) for name, entry in COMMANDS.items() if entry.section == section]
                )


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:  # noqa: ARG001
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"runfold {version('runfold')}")
        ctx.exit()


cli = Commands(
    "runfold",
    help=(
        "Runs workflows of jobs, and remembers everything that happened.\n\n"
        "Begin with `runfold register FILE` and `runfold run NAME --wait`. A RUN is its id, any part of it that only it begins or "
        "ends with, or the workflow's name for its latest run."
    ),
    params=[
        *shared_options(),
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_version,
            help="Which release.",
        ),
    ],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def main(words: Sequence[str] | None = None) -> None:
    """Do what the command line asks, and exit."""
    words = sys.argv[1:] if words is None else list(words)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character must not turn an answer into a crash.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    if COMPLETION_VARIABLE in os.environ:
        from cli.completing import complete

        sys.exit(complete(cli, os.environ[COMPLETION_VARIABLE]))
    session = Session()
    code = EXIT_REFUSED
    try:
        code = call(list(words), session)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has seen enough. Python would complain once more when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_BROKEN_PIPE
    sys.exit(code)


def call(words: list[str], session: Session) -> int:
    """The exit code of one call; every error is told on standard error. Only `BrokenPipeError` comes out."""
    # What was parsed before a usage error came up may not have reached the session.
    as_json = "--json" in words
    try:
        _check_words(words)
        with cli.make_context("runfold", words, obj=session) as context:
            cli.invoke(context)
        return 0
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return EXIT_USAGE
    except click.UsageError as error:
        hint = f"`{error.ctx.command_path} --help` tells more" if error.ctx else ""
        tell(error.format_message(), [], as_json=as_json, hint=hint)
        return EXIT_USAGE
    except click.ClickException as error:
        tell(error.format_message(), [], as_json=as_json)
        return EXIT_USAGE
    except (KeyboardInterrupt, click.Abort):
        tell("interrupted", [], as_json=as_json)
        return EXIT_INTERRUPTED
    except InvalidInput as error:
        tell("", error.problems, as_json=as_json or session.json)
        return EXIT_USAGE
    except (EngineBusy, StoreUnavailable, Conflict, TargetUnavailable, TargetSilent) as error:
        tell(str(error), [], as_json=as_json or session.json)
        return EXIT_TRY_AGAIN
    except RunfoldError as error:
        tell(str(error), [], as_json=as_json or session.json)
        return EXIT_REFUSED
    except BrokenPipeError:
        raise
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        tell(f"{place}{error.strerror or error}", [], as_json=as_json or session.json)
        return EXIT_TRY_AGAIN if error.errno in (errno.ENOSPC, errno.EMFILE, errno.ENFILE) else EXIT_REFUSED
    except Exception as error:  # noqa: BLE001  (the last door: whatever it is, people get one line and a file to send)
        from cli.crashing import keep_report

        report = keep_report(session.home_path, error)
        tell(
            f"this is a bug of Runfold ({type(error).__name__}); what happened is written in {report}",
            [],
            as_json=as_json,
        )
        return EXIT_BUG


def tell(message: str, problems: Sequence[Problem], *, as_json: bool, hint: str = "") -> None:
    """An error, on standard error: a line for each problem, or one JSON object. What looks like a secret is not repeated (I13)."""
    message = without_secrets(message)
    if not message:
        message = f"{len(problems)} problem{'' if len(problems) == 1 else 's'}, nothing was changed"
    if as_json:
        import json

        found: list[dict[str, Any]] = [
            {"path": shortened(one.path), "message": shortened(one.message), "hint": one.hint} for one in problems
        ]
        click.echo(json.dumps({"error": shortened(message), "problems": found}, ensure_ascii=False), err=True)
        return
    click.echo(click.style("error: ", fg="red", bold=True) + printable(message), err=True)
    for problem in problems:
        place = click.style(f"{printable(problem.path)}: ", bold=True) if problem.path else ""
        right = click.style(f"  → {printable(problem.hint)}", dim=True) if problem.hint else ""
        click.echo(f"  {place}{printable(problem.message)}{right}", err=True)
    if hint:
        click.echo(click.style(hint, dim=True), err=True)


def printable(text: str) -> str:
    """The text on one line, bounded, without anything that a terminal would obey."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in shortened(text))


def shortened(text: str) -> str:
    """The text with its longest words cut: an error repeats what was typed, and what was typed may be a whole file."""
    return re.sub(rf"(\S{{{WORD_SHOWN}}})\S{{{WORD_SHOWN},}}", r"\1…", text)


def _check_words(words: Sequence[str]) -> None:
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise InvalidInput(
                [Problem("", "an argument is not UTF-8", "rename the file, or mend the quoting")]
            ) from None
        if "\0" in word:
            raise InvalidInput([Problem("", "an argument holds a NUL character", "leave it out")])


if __name__ == "__main__":
    main()
