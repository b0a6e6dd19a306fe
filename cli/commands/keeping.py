"""Looking after a home: prune, doctor; and the shells' completion scripts."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import click

from cli.session import Session, command, pass_session

if TYPE_CHECKING:
    from datetime import datetime

    from shared.bootstrap import LocalParts
    from shared.ids import RunId
    from shared.ports import RunRow

DISK_LOW_BYTES = 512 * 1024 * 1024
DISK_EMPTY_BYTES = 16 * 1024 * 1024


# --- prune ------------------------------------------------------------------------------------------------------------


@command()
@click.option("--older-than", required=True, metavar="TIME", help="Ended longer ago than this: 30d, 12h.")
@click.option("--workflow", metavar="NAME", help="Only runs of this workflow.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and remove nothing.")
@pass_session
def prune(session: Session, older_than: str, workflow: str | None, dry_run: bool) -> None:
    """Remove finished runs that ended long ago: their history, their output and their saved files. It cannot be undone.

    Runs that have not ended stay, however old, and so do workflows and their versions.
    """
    from datetime import timedelta

    from cli.finding import seconds_of
    from shared.bootstrap import utc_now

    before = utc_now() - timedelta(seconds=seconds_of(older_than, option="--older-than"))
    kept: list[dict[str, str]] = []
    gone: list[str] = []
    if dry_run:
        with session.reading() as parts:
            gone = [row.run for row in _prunable(parts, before, workflow)]
    else:
        with session.writing() as writing:
            for row in list(_prunable(writing.parts, before, workflow)):
                reason = _forget(session, writing.parts, row.run)
                if reason:
                    kept.append({"run": row.run, "reason": reason})
                else:
                    gone.append(row.run)
            if workflow is None:
                _remove_leftovers(session, writing.parts, before)
    if session.json:
        session.answer({"dry_run": dry_run, "before": _text(before), "pruned": gone, "kept": kept})
        return
    from cli.terminal import Cell, counts

    terminal = session.terminal
    for run in gone if dry_run else ():
        terminal.line(run)
    for one in kept:
        terminal.line(Cell(f"{one['run']} stays: {one['reason']}", "yellow"))
    verb = "would go" if dry_run else "gone"
    terminal.line(f"{counts(len(gone), 'run')} that ended before {_text(before)} {verb}")


def _text(at: "datetime") -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _prunable(parts: "LocalParts", before: "datetime", workflow: str | None) -> "Iterator[RunRow]":
    from shared.ids import workflow_stream
    from shared.ports import PAGE_MAX, RunFilter
    from shared.state.workflow import WorkflowState

    holders: dict[str, frozenset[str]] = {}
    cursor = ""
    while True:
        # Asked for before implies nothing about ended before, but the other way round.
        rows, cursor, _ = parts.views.runs(RunFilter(workflow=workflow, until=before), cursor=cursor, limit=PAGE_MAX)
        for row in rows:
            if row.finished_at is None or row.finished_at >= before or row.status in ("waiting", "running"):
                continue
            if row.workflow not in holders:
                state = parts.loader.load(workflow_stream(row.workflow)).state
                holders[row.workflow] = frozenset(state.holders if isinstance(state, WorkflowState) else ())
            # Its workflow has not heard of its end: a command about it is still on its way.
            if row.run not in holders[row.workflow] and not _is_counted(parts, row):
                yield row
        if not cursor:
            return


def _is_counted(parts: "LocalParts", row: "RunRow") -> bool:
    """Whether a backfill has not heard of its end, or counts on it: the runs of an instant are numbered without a gap."""
    from shared.ids import backfill_stream, following_run, run_stream
    from shared.state.backfill import BackfillState
    from shared.state.run import Run

    following = following_run(row.run)
    if following is not None and parts.store.read(run_stream(following), limit=1):
        return True
    if row.trigger != "backfill":
        return False
    run = parts.loader.load(run_stream(row.run)).state
    if not isinstance(run, Run) or run.request.backfill is None:
        return False
    backfill = parts.loader.load(backfill_stream(run.request.backfill)).state
    return isinstance(backfill, BackfillState) and row.run in backfill.active


def _forget(session: Session, parts: "LocalParts", run: "RunId") -> str:
    """Why it stays; empty when it is gone."""
    from shared.errors import Rejected
    from shared.ids import run_stream
    from shared.state.run import Run

    state = parts.loader.load(run_stream(run)).state
    if isinstance(state, Run) and not state.finished:
        return "it was reopened"
    try:
        parts.store.forget_run(run)
    except Rejected as rejected:
        return str(rejected)
    return _remove(session.home.path / "runs" / run)


def _remove(directory: Path) -> str:
    failed: list[str] = []

    def note(_function: object, path: str, _error: object) -> None:
        failed.append(path)

    # What is not there any more is gone as well. Symbolic links are removed, never followed.
    if directory.is_dir() and not directory.is_symlink():
        shutil.rmtree(directory, onerror=note)
    return f"its history is gone, and {failed[0]} cannot be removed" if failed else ""


def _remove_leftovers(session: Session, parts: "LocalParts", before: "datetime") -> None:
    """Directories of runs that are no more: a prune was killed between the history and the files."""
    from shared.ids import RunId, run_stream

    root = session.home.path / "runs"
    for directory in list(root.iterdir()) if root.is_dir() else ():
        old = directory.stat(follow_symlinks=False).st_mtime < before.timestamp()
        if old and "@" in directory.name and not parts.store.read(run_stream(RunId(directory.name)), limit=1):
            _remove(directory)


# --- doctor -----------------------------------------------------------------------------------------------------------


class Finding(NamedTuple):
    what: str
    level: Literal["good", "note", "bad"]
    message: str


@command()
@click.option("--stack", metavar="NAME", help="Look at this deployment in an AWS account instead: Runfold-dev.")
@click.option("--region", metavar="NAME", help="Of the stack; otherwise that of the profile or of AWS_REGION.")
@click.option("--profile", metavar="NAME", help="Whose credentials; otherwise those of the environment.")
@pass_session
def doctor(session: Session, stack: str | None, region: str | None, profile: str | None) -> None:
    """Look for what could go wrong: the home, its file, the engine, programs, space, and what needs a person.

    With --stack it looks at a deployment and its account: functions, roles, quotas, clusters, hosts, images, queues, alarms.
    It only reads. What you may not look at is told and does not count. Exit code 1 when something is wrong; what is only worth
    knowing does not count.
    """
    from cli.terminal import Cell, Column

    if stack is None and (region or profile):
        raise click.UsageError("--region and --profile say where a stack is: name it with --stack")
    findings = (
        [
            *_look_at_home(session),
            *_look_at_settings(session),
            *_look_at_programs(),
            *_look_at_space(session),
        ]
        if stack is None
        else _look_at_stack(stack, region, profile)
    )
    if session.json:
        session.answer([one._asdict() for one in findings])
    else:
        terminal = session.terminal
        marks = {"good": ("succeeded", "green"), "note": ("ready", "yellow"), "bad": ("failed", "bold red")}
        terminal.table(
            [Column(""), Column("what"), Column("", wraps=True)],
            [
                (
                    Cell(terminal.glyph(marks[one.level][0]) if terminal.rich else one.level, marks[one.level][1]),
                    Cell(one.what, "bold"),
                    one.message,
                )
                for one in findings
            ],
        )
    if any(one.level == "bad" for one in findings):
        raise click.exceptions.Exit(1)


def _look_at_stack(stack: str, region: str | None, profile: str | None) -> list[Finding]:
    from cli.commands.account import look_at_account
    from shared.bootstrap import utc_now
    from shared.bootstrap.account import Account

    return list(look_at_account(Account(region=region, profile=profile), stack, now=utc_now()))


def _look_at_home(session: Session) -> Iterator[Finding]:
    from local.home import engine_process

    home = session.home
    if not home.exists():
        yield Finding("home", "note", f"{home.path} is not there yet; `runfold register FILE` or `runfold up` makes it")
        return
    mode = home.path.stat().st_mode & 0o777
    if mode & 0o077:
        yield Finding(
            "home", "note", f"{home.path} can be entered by others (mode {mode:03o}): chmod 700 keeps output private"
        )
    else:
        yield Finding("home", "good", str(home.path))
    process = engine_process(home)
    if process is None:
        yield Finding("engine", "note", "none is up: nothing starts by itself until `runfold up`")
    else:
        yield Finding("engine", "good", f"process {process}")
    if not os.access(home.path, os.W_OK):
        yield Finding("home", "bad", f"{home.path} cannot be written by you")
    yield from _look_at_streams(session)


def _look_at_settings(session: Session) -> Iterator[Finding]:
    from local.settings import settings_problems

    if not session.home.settings.exists():
        yield Finding("settings", "note", "no settings.yaml: every host name means this machine; docs/local-jobs.md")
        return
    problems = settings_problems(session.home.settings, os.environ)
    for problem in problems:
        yield Finding("settings", "bad", str(problem))
    if not problems:
        yield Finding("settings", "good", str(session.home.settings))


def _look_at_streams(session: Session) -> Iterator[Finding]:
    from shared.errors import RunfoldError

    try:
        with session.reading() as parts:
            damages = parts.database.damages()
            for damage in damages[:5]:
                yield Finding("database", "bad", damage)
            if not damages:
                size = parts.database.path.stat().st_size
                yield Finding("database", "good", f"sound, {size / 1024 / 1024:.1f} MiB")
                yield from _look_at_live(parts)
                yield from _look_at_uploads(parts)
    except RunfoldError as error:
        yield Finding("database", "bad", str(error))


def _look_at_live(parts: "LocalParts") -> Iterator[Finding]:
    from datetime import UTC, datetime

    from shared.errors import CorruptStream, NotFound, UnknownEvents
    from shared.state.run import Run

    live = 0
    refused = False
    for row in parts.dues.due(datetime.max.replace(tzinfo=UTC)):
        try:
            state = parts.loader.load(row.stream).state
        except (CorruptStream, UnknownEvents, NotFound) as error:
            refused = True
            yield Finding("refused", "bad", f"{row.stream}: {error}")
            continue
        live += 1
        if isinstance(state, Run) and (state.doubted or state.flagged):
            what = "an attempt in doubt" if state.doubted else "a stop that was never confirmed"
            yield Finding("attention", "note", f"{state.run} has {what}: `runfold why {state.run}`")
    if not refused:
        yield Finding("streams", "good", f"{live} alive, none refused")


def _look_at_uploads(parts: "LocalParts") -> Iterator[Finding]:
    from shared.ids import subject_of
    from shared.state.document import Upload

    after = ""
    while names := parts.store.streams("document", after=after):
        for name in names:
            state = parts.loader.load(name).state
            if isinstance(state, Upload) and state.problems and not state.removed:
                more = f" and {len(state.problems) - 1} more" if len(state.problems) > 1 else ""
                yield Finding("parked", "note", f"{subject_of(name)} is not registered: {state.problems[0]}{more}")
        after = names[-1]


def _look_at_programs() -> Iterator[Finding]:
    spark_home = os.environ.get("SPARK_HOME")
    spark = shutil.which("spark-submit") or (
        shutil.which("spark-submit", path=f"{spark_home}/bin") if spark_home else None
    )
    for name, found, needed in (
        ("spark", spark, "emr jobs with spark-submit steps are refused without it"),
        ("ssh", shutil.which("ssh"), "ssm jobs on other hosts need it"),
        ("sudo", shutil.which("sudo") if os.geteuid() else "root", "ssm jobs with run_as need it"),
    ):
        yield Finding(name, "good", found) if found else Finding(name, "note", f"not found; {needed}")


def _look_at_space(session: Session) -> Iterator[Finding]:
    place = session.home.path
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    level: Literal["good", "note", "bad"] = "good"
    if free < DISK_LOW_BYTES:
        level = "bad" if free < DISK_EMPTY_BYTES else "note"
    yield Finding("disk", level, f"{free / 1024**3:.1f} GiB free; `runfold prune --older-than 30d` makes room")


# --- completion -------------------------------------------------------------------------------------------------------


@command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@pass_session
def completion(session: Session, shell: str) -> None:  # noqa: ARG001
    """Print what SHELL has to read so that `runfold` completes, run ids and job names included.

    \b
    bash:  eval "$(runfold completion bash)"      in ~/.bashrc
    zsh:   eval "$(runfold completion zsh)"       in ~/.zshrc
    fish:  runfold completion fish > ~/.config/fish/completions/runfold.fish
    """
    from cli.completing import script
    from cli.main import cli

    click.echo(script(cli, shell))
