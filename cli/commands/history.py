"""Checking a history, and making again what is derived from it: of a home, and with --stack of a deployment in an AWS account."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from cli.session import Session, command, pass_session

if TYPE_CHECKING:
    from datetime import datetime

    from shared.bootstrap.account import Operated
    from shared.usecases.rebuild import Difference, Looked
    from shared.usecases.verify import Progress, Violation

VIOLATIONS_SHOWN_MAX = 1_000
DIFFERENCES_SHOWN = 20
DIFFERENCES_MAX = 1_000
"""In JSON; their numbers are complete."""
PROGRESS_SECONDS = 0.5

WORDS = {
    "missing": "not listed",
    "behind": "listed as of an older version",
    "wrong": "listed wrongly",
    "orphan": "listed without any event",
    "due": "with no due row, or one too late",
}


@dataclass(frozen=True)
class Stack:
    name: str
    region: str | None
    profile: str | None
    events_table: str | None = None

    def open(self) -> "Operated":
        from shared.bootstrap.account import Account

        account = Account(region=self.region, profile=self.profile)
        operated = account.operated(account.settings(self.name))
        return operated if self.events_table is None else operated.with_events(self.events_table)


def _stack_options(function: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--profile", metavar="NAME", help="Whose credentials; otherwise those of the environment."),
        click.option("--region", metavar="NAME", help="Of the stack; otherwise that of the profile or of AWS_REGION."),
        click.option("--stack", metavar="NAME", help="Of this deployment in an AWS account instead: Runfold-dev."),
    ):
        function = option(function)
    return function


def _stack(stack: str | None, region: str | None, profile: str | None, events_table: str | None = None) -> Stack | None:
    if stack is None:
        if region or profile or events_table:
            raise click.UsageError("--region, --profile and --events-table say more of a stack: name it with --stack")
        return None
    return Stack(stack, region, profile, events_table)


@contextmanager
def _telling(session: Session) -> Iterator[Callable[[str], None]]:
    """How far it is, in one line of standard error that is written again and again; nothing where nobody would see it."""
    import sys

    shown = sys.stderr.isatty() and not session.json
    last = 0.0

    def tell(text: str) -> None:
        nonlocal last
        if shown and time.monotonic() - last >= PROGRESS_SECONDS:
            last = time.monotonic()
            click.echo(f"\r\033[K{text}", nl=False, err=True)

    try:
        yield tell
    finally:
        if shown and last:
            click.echo("\r\033[K", nl=False, err=True)


# --- rebuild ----------------------------------------------------------------------------------------------------------


@command()
@click.option("--dry-run", is_flag=True, help="Say what is not as the events say, and change nothing.")
@_stack_options
@pass_session
def rebuild(session: Session, dry_run: bool, stack: str | None, region: str | None, profile: str | None) -> None:
    """Make what is derived true again from the events alone, and say what was not: lists, due rows, snapshots, and on AWS the
    schedules that ring.

    Nothing is lost by it. It may be done while an engine is up, broken off, and done again.
    """
    from collections import Counter

    named = _stack(stack, region, profile)
    counts: Counter[str] = Counter()
    kept: list[Difference] = []
    looked: list[Looked] = []
    with _telling(session) as tell:

        def note(progress: "Looked") -> None:
            looked[:] = [progress]
            tell(f"{progress.workflows:,} workflows, {progress.runs:,} runs; {counts.total():,} differ")

        for one in _at_home(session, dry_run, note) if named is None else _deployed(named, dry_run, note):
            counts[one.what] += 1
            if len(kept) < DIFFERENCES_MAX:
                kept.append(one)
    problems = [f"{one.stream}: {one.message}" for one in kept if one.what == "problem"]
    differences = [one for one in kept if one.what != "problem"]
    number = counts.total() - counts["problem"]
    runs, workflows = (looked[0].runs, looked[0].workflows) if looked else (0, 0)
    if session.json:
        session.answer(
            {
                "runs": runs,
                "workflows": workflows,
                "equal": number == 0,
                "dry_run": dry_run,
                **{what: counts[what] for what in WORDS},
                "differences": [f"{one.stream}: {one.message}" for one in differences],
                "problems": problems,
            }
        )
    else:
        _tell_rebuilt(session, dry_run, runs, workflows, counts, differences, problems)
    if counts["problem"]:
        raise click.exceptions.Exit(1)


def _at_home(session: Session, dry_run: bool, note: "Callable[[Looked], None]") -> "Iterator[Difference]":
    from contextlib import ExitStack

    from cli.writing import put, row_for
    from shared.bootstrap import utc_now
    from shared.usecases.loading import Loaded
    from shared.usecases.rebuild import rebuild as mend

    with ExitStack() as opened:
        parts = opened.enter_context(session.reading()) if dry_run else opened.enter_context(session.writing()).parts

        def settle(loaded: Loaded) -> None:
            put(parts, row_for(parts, loaded.state, loaded.version))
            parts.loader.keep_snapshot(loaded)

        yield from mend(
            parts.store,
            parts.loader,
            parts.views,
            parts.dues,
            derive=lambda _stream, state, version: row_for(parts, state, version),
            settle=settle,
            now=utc_now(),
            dry_run=dry_run,
            progress=note,
        )


def _deployed(stack: Stack, dry_run: bool, note: "Callable[[Looked], None]") -> "Iterator[Difference]":
    from shared.bootstrap import utc_now
    from shared.usecases.rebuild import rebuild as mend

    parts = stack.open()
    yield from mend(
        parts.store,
        parts.loader,
        parts.views,
        parts.dues,
        derive=parts.row_of,
        settle=parts.settle,
        now=utc_now(),
        patience=parts.patience,
        dry_run=dry_run,
        progress=note,
    )


def _tell_rebuilt(
    session: Session,
    dry_run: bool,
    runs: int,
    workflows: int,
    numbers: "dict[str, int]",
    differences: "list[Difference]",
    problems: list[str],
) -> None:
    from cli.terminal import Cell, counts

    terminal = session.terminal
    did = "compared the lists with" if dry_run else "rebuilt the lists from"
    terminal.line(f"{did} the events: {counts(runs, 'run')}, {counts(workflows, 'workflow')}")
    for one in differences[:DIFFERENCES_SHOWN]:
        terminal.line("    ", Cell("~ ", "yellow"), f"{one.stream}: {one.message}")
    found = [f"{numbers[what]:,} {words}" for what, words in WORDS.items() if numbers[what]]
    if not found:
        terminal.line(Cell("they were equal to what was there before", "green"))
    else:
        terminal.line(Cell(f"{', '.join(found)}{'' if dry_run else ', and right now'}", "yellow"))
    for problem in problems[:DIFFERENCES_SHOWN]:
        terminal.line(Cell("left out: ", "bold red"), problem)


# --- verify -----------------------------------------------------------------------------------------------------------


@dataclass
class _Checked:
    """What a check found, whatever was checked."""

    violations: "list[Violation]"
    damages: list[str]
    progress: "Progress | None" = None

    @property
    def clean(self) -> bool:
        return not self.violations and not self.damages


@command()
@click.argument("run", required=False)
@click.option("--since", metavar="TIME", help="Of runs only those that were asked for since then: 2h, 7d, 2026-03-29.")
@click.option("--scan", is_flag=True, help="Of a stack: read the whole table for histories whose beginning is gone.")
@click.option("--events-table", metavar="NAME", help="Of a stack: check this table, a restored one, without lists.")
@_stack_options
@pass_session
def verify(
    session: Session,
    run: str | None,
    since: str | None,
    scan: bool,
    events_table: str | None,
    stack: str | None,
    region: str | None,
    profile: str | None,
) -> None:
    """Check on the real history what must always hold, of all streams or of one RUN.

    Nothing ran twice, nothing was lost, nothing that had ended changed, every commit is as it was written. Exit code 1 when
    something does not hold. It only reads, and may be done while an engine is up.
    """
    from cli.finding import moment_of
    from shared.bootstrap import utc_now

    named = _stack(stack, region, profile, events_table)
    if scan and named is None:
        raise click.UsageError("--scan is for a stack: a home's file knows its streams without it")
    began = moment_of(since, utc_now(), option="--since") if since is not None else None
    with _telling(session) as tell:

        def note(progress: "Progress") -> None:
            checked.progress = progress
            tell(f"{progress.streams:,} streams, {progress.commits:,} commits; {len(checked.violations):,} violations")

        checked = _Checked([], [])
        look = _look_at_home(session, run, began, note, checked.damages) if named is None else None
        if look is None:
            assert named is not None
            look = _look_at_stack(named, run, began, scan, note)
        for violation in look:
            checked.violations.append(violation)
            if len(checked.violations) >= VIOLATIONS_SHOWN_MAX:
                break
    _tell_checked(session, run, checked)
    if not checked.clean:
        raise click.exceptions.Exit(1)


def _look_at_home(
    session: Session,
    run: str | None,
    since: "datetime | None",
    note: "Callable[[Progress], None]",
    damages: list[str],
) -> "Iterator[Violation]":
    from cli.finding import find_run
    from cli.writing import row_for
    from shared.bootstrap import utc_now
    from shared.ids import run_stream
    from shared.usecases.verify import verify as check
    from shared.usecases.verify import verify_stream

    with session.reading() as parts:
        if run is not None:
            yield from verify_stream(parts.loader.records(run_stream(find_run(parts, run))), parts.plans)
            return
        damages += parts.database.damages()
        yield from check(
            parts.store,
            parts.plans,
            now=utc_now(),
            dues=parts.dues,
            views=parts.views,
            derive=lambda _stream, state, version: row_for(parts, state, version),
            since=since,
            progress=note,
        )


def _look_at_stack(
    stack: Stack, run: str | None, since: "datetime | None", scan: bool, note: "Callable[[Progress], None]"
) -> "Iterator[Violation]":
    from shared.bootstrap import utc_now
    from shared.errors import NotFound
    from shared.ids import RunId, run_stream
    from shared.usecases.verify import Violation, verify_stream
    from shared.usecases.verify import verify as check

    parts = stack.open()
    if run is not None:
        stream = run_stream(RunId(run))
        if not parts.store.read(stream, limit=1):
            raise NotFound(f"there is no run {run}; a stack is asked with whole ids")
        yield from verify_stream(parts.loader.records(stream), parts.plans)
        return
    # Lists and due rows go with the events that the stack has now.
    restored = stack.events_table is not None
    yield from check(
        parts.store,
        parts.plans,
        now=utc_now(),
        dues=None if restored else parts.dues,
        views=None if restored else parts.views,
        derive=None if restored else parts.row_of,
        since=since,
        patience=parts.patience,
        progress=note,
    )
    for name, version in parts.without_beginning() if scan else ():
        yield Violation("I9", name, version, "its first commit is gone")


def _tell_checked(session: Session, run: str | None, checked: _Checked) -> None:
    found, damages, last = checked.violations, checked.damages, checked.progress
    if session.json:
        answer: dict[str, Any] = {
            "clean": checked.clean,
            "streams": last.streams if last else 1 if run is not None else 0,
            "commits": last.commits if last else None,
            "events": last.events if last else None,
            "skipped": last.skipped if last else 0,
            "damages": damages,
            "violations": [
                {"invariant": one.invariant, "stream": one.stream, "version": one.version, "message": one.message}
                for one in found
            ],
        }
        session.answer(answer)
        return
    from cli.terminal import Cell, counts

    terminal = session.terminal
    for damage in damages:
        terminal.line(Cell("damaged: ", "bold red"), damage)
    for one in found:
        at = f" version {one.version}" if one.version else ""
        terminal.line(Cell(f"{one.invariant} ", "bold red"), Cell(f"{one.stream}{at}: ", "bold"), one.message)
    looked = f"{counts(last.streams, 'stream')} with {counts(last.commits, 'commit')}" if last else "looked at"
    if last and last.skipped:
        looked += f", {counts(last.skipped, 'run')} of before left out"
    if checked.clean:
        terminal.line(Cell("everything holds", "green"), f": {looked if run is None else run}")
    else:
        terminal.line(f"{counts(len(found) + len(damages), 'violation')} in {looked}")
