"""Workflow documents: check, plan, register, list."""

from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import click

from cli.completing import complete_workflow
from cli.session import Session, command, pass_session

if TYPE_CHECKING:
    from datetime import datetime

    from cli.reach import Object
    from shared.errors import Problem
    from shared.workflow.calendar import Calendar
    from shared.workflow.document import Workflow

INSTANTS_SHOWN = 8
TURNED_AWAY_SHOWN = 10
STDIN_NAME = "standard input"


def _name_of(file: str) -> str:
    return STDIN_NAME if file == "-" else PurePath(file).name


def _read_all(files: tuple[str, ...]) -> "list[tuple[str, bytes, Workflow | Calendar | None, tuple[Problem, ...]]]":
    """Each file with its bytes and what they are: a document, or every problem of it."""
    from cli.finding import read_file
    from shared.errors import InvalidInput
    from shared.usecases.documents import read_any

    found: list[tuple[str, bytes, Workflow | Calendar | None, tuple[Problem, ...]]] = []
    for file in dict.fromkeys(files):
        data = b""
        try:
            data = read_file(file)
            found.append((file, data, read_any(data, name=_name_of(file)), ()))
        except InvalidInput as invalid:
            found.append((file, data, None, invalid.problems))
    return found


def _placed(file: str, problems: "tuple[Problem, ...]", *, alone: bool) -> "list[Problem]":
    """The problems with their file before the place, where there are several files."""
    from shared.errors import Problem

    name = STDIN_NAME if file == "-" else file
    if alone:
        return list(problems)
    return [
        one if one.path == file else Problem(f"{name}: {one.path}" if one.path else name, one.message, one.hint)
        for one in problems
    ]


# --- validate ---------------------------------------------------------------------------------------------------------


@command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@pass_session
def validate(session: Session, files: tuple[str, ...]) -> None:
    """Check documents without registering them.

    Every problem of every file is told at once, with its place and what would be right. `-` reads standard input. Exit code 2
    when one of them cannot be registered.
    """
    from shared.workflow.document import Workflow

    read = _read_all(files)
    if session.json:
        session.answer(
            [
                {
                    "file": file,
                    "valid": document is not None,
                    "workflow": document.name if isinstance(document, Workflow) else None,
                    "calendar": document.calendar
                    if document is not None and not isinstance(document, Workflow)
                    else None,
                    "jobs": len(document.jobs) if isinstance(document, Workflow) else None,
                    "problems": [{"path": one.path, "message": one.message, "hint": one.hint} for one in problems],
                }
                for file, _, document, problems in read
            ]
        )
    else:
        _tell_valid(session, read)
    if any(document is None for _, _, document, _ in read):
        raise click.exceptions.Exit(2)


def _tell_valid(
    session: Session, read: "list[tuple[str, bytes, Workflow | Calendar | None, tuple[Problem, ...]]]"
) -> None:
    from cli.terminal import Cell, counts
    from shared.workflow.document import Workflow

    terminal = session.terminal
    for file, _, document, problems in read:
        name = STDIN_NAME if file == "-" else file
        if document is not None:
            mark = Cell(f"{terminal.glyph('succeeded')} " if terminal.rich else "", "green")
            told = (
                f"{document.name}, {counts(len(document.jobs), 'job')}"
                if isinstance(document, Workflow)
                else f"the calendar {document.calendar}, {counts(len(document.days), 'day')}"
            )
            terminal.line(mark, Cell(name, "bold"), f": {told}, is good")
            continue
        mark = Cell(f"{terminal.glyph('failed')} " if terminal.rich else "", "bold red")
        terminal.line(mark, Cell(name, "bold"), f": {counts(len(problems), 'problem')}")
        for one in problems:
            place = f"{one.path}: " if one.path and one.path != file else ""
            hint = Cell(f"  → {one.hint}", "dim") if one.hint else ""
            terminal.line("  ", Cell(place, "bold"), one.message, hint)


# --- plan -------------------------------------------------------------------------------------------------------------


@command()
@click.argument("file", metavar="FILE|-")
@click.option(
    "--next", "count", type=click.IntRange(0, 1000), default=INSTANTS_SHOWN, show_default=True, help="Instants."
)
@pass_session
def plan(session: Session, file: str, count: int) -> None:
    """Say what registering FILE would do, and do nothing.

    Shows how it differs from the live version, when it would run next, the days of the year on which the clocks change or a date is
    excluded, what a run needs to be given, and what looks like a mistake.
    """
    from cli.finding import read_file
    from shared.bootstrap import utc_now
    from shared.errors import InvalidInput, Problem
    from shared.usecases.documents import read_any
    from shared.workflow.document import Workflow

    document = read_any(read_file(file), name=_name_of(file))
    if not isinstance(document, Workflow):
        raise InvalidInput(
            [Problem(file, "is a calendar", "`runfold register` makes it; plan a workflow that names it")]
        )
    with session.reach() as engine:
        compared = engine.compared(document, max(count, 1))
    answer = _plan_object(document, compared, count, utc_now())
    if session.json:
        session.answer(answer)
    else:
        _tell_plan(session, answer, document)


def _plan_object(document: "Workflow", compared: "Object", count: int, now: "datetime") -> dict[str, Any]:
    from shared.views.objects import trigger_objects
    from shared.views.rows import schedule_text

    types: dict[str, int] = {}
    for job in document.jobs:
        types[job.type] = types.get(job.type, 0) + 1
    instants = compared["instants"]
    schema = document.parameters or {}
    properties = schema.get("properties", {})
    return {
        "workflow": document.name,
        "change": compared["change"],
        "live_version": compared["live_version"],
        "next_version": compared["next_version"],
        "paused": compared["paused"],
        "differences": compared["differences"],
        "schedule": schedule_text(document.schedule),
        "triggers": trigger_objects(document),
        "instants": instants[:count],
        "odd_days": compared["odd_days"],
        "jobs": len(document.jobs),
        "jobs_by_type": types,
        "parallelism": document.parallelism,
        "overlap": document.overlap,
        "parameters": {
            name: {
                "required": name in schema.get("required", []) and "default" not in one,
                "default": one.get("default"),
            }
            for name, one in properties.items()
            if isinstance(one, dict)
        },
        "uploads": sorted({one.upload for job in document.jobs for one in job.inputs if one.upload is not None}),
        "secrets": sorted({reference for job in document.jobs for reference in job.secrets.values()}),
        "warnings": _warnings(document, bool(instants), now),
    }


def _warnings(document: "Workflow", comes: bool, now: "datetime") -> list[str]:
    from cli.terminal import instant
    from shared.schedule import due, previous

    warnings = []
    schedule = document.schedule
    if schedule is not None and schedule.at is not None:
        past = previous(schedule, now)
        if not comes and past is not None:
            warnings.append(
                f"its only instant, {instant(past)}, has passed: it runs once, right after it is registered"
            )
    elif schedule is not None and not comes:
        ended = bool(due(schedule, now.replace(year=1971), now, limit=1))
        warnings.append(
            "its schedule has ended: no instant will come" if ended else "its schedule never comes: it names no instant"
        )
    if schedule is not None:
        missing = [
            name
            for name in (document.parameters or {}).get("required", [])
            if "default" not in (document.parameters or {}).get("properties", {}).get(name, {})
        ]
        if missing:
            warnings.append(f"scheduled runs are given no parameters, and {', '.join(missing)} must be given")
        uploads = {one.upload for job in document.jobs for one in job.inputs if one.upload is not None}
        if uploads:
            warnings.append(f"scheduled runs are given no files, and jobs need {', '.join(sorted(uploads))}")
    return warnings


_NOTES = {
    "gap_shifted": "moved: the clocks skip that time on this day",
    "overlap_first": "the first of two equal times: the clocks go back",
    "overlap_second": "the second of two equal times: the clocks go back",
    "gap_skipped": "left out: the clocks skip that time on this day",
}


def _odd(note: str, excluded: str) -> str:
    return f"nothing runs: {excluded}" if excluded else _NOTES.get(note, note)


def _tell_plan(session: Session, answer: dict[str, Any], document: "Workflow") -> None:
    from datetime import datetime

    from cli.terminal import Cell, Column, counts, relative
    from shared.bootstrap import utc_now

    terminal = session.terminal
    says = {
        "new": f"would become version 1 of a new workflow, {answer['workflow']}",
        "again": f"would bring {answer['workflow']} back into service as version {answer['next_version']}",
        "changed": f"would become version {answer['next_version']} of {answer['workflow']}",
        "unchanged": f"is version {answer['live_version']} of {answer['workflow']}, which is live: nothing would change",
    }
    terminal.line(Cell("This document ", "bold"), Cell(says[answer["change"]], "bold"))
    for line in answer["differences"]:
        terminal.line("  ", Cell("~ ", "yellow"), line)
    kinds = ", ".join(f"{count} {name}" for name, count in sorted(answer["jobs_by_type"].items()))
    terminal.line("")
    terminal.line(
        f"{counts(answer['jobs'], 'job')}: {kinds}; at most {answer['parallelism']} at a time; overlap: {document.overlap}"
    )
    for title, names in (
        ("Parameters", answer["parameters"]),
        ("Files", answer["uploads"]),
        ("Secrets", answer["secrets"]),
    ):
        if names:
            shown = [
                f"{name} (required)" if title == "Parameters" and names[name]["required"] else str(name)
                for name in names
            ]
            terminal.line(f"{title}: {', '.join(shown)}")
    if answer["paused"]:
        terminal.line(
            Cell(f"It is paused: no scheduled run starts before `runfold resume {answer['workflow']}`.", "yellow")
        )
    for one in answer["triggers"]:
        terminal.line(f"Trigger {one['name']}: {one['waits_for']}")
    if not answer["schedule"] and not answer["triggers"]:
        terminal.line(f"No schedule: it runs when somebody asks, with `runfold run {answer['workflow']}`.")
    elif answer["instants"]:
        terminal.line("")
        terminal.line(f"Next, by {answer['schedule']}:")
        now = utc_now()
        terminal.table(
            [Column("at"), Column("local"), Column("in"), Column("note", wraps=True)],
            [
                (
                    one["at"],
                    one["local"],
                    relative(datetime.fromisoformat(one["at"]), now),
                    Cell(_odd(one["note"], one["excluded"]), "yellow"),
                )
                for one in answer["instants"]
            ],
            indent=2,
        )
    if answer["odd_days"]:
        terminal.line("")
        terminal.line("Odd days of the year ahead:")
        terminal.table(
            [Column("day"), Column("at"), Column("note", wraps=True)],
            [
                (one["day"], one["at"] or "–", Cell(_odd(one["note"], one["reason"]), "yellow"))
                for one in answer["odd_days"]
            ],
            indent=2,
        )
    for warning in answer["warnings"]:
        terminal.line("")
        terminal.line(Cell("Warning: ", "bold yellow"), Cell(warning, "yellow"))


# --- register ---------------------------------------------------------------------------------------------------------


@command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option(
    "--version", "number", type=click.IntRange(1, 10**9), help="Make this version of workflow NAME live again."
)
@pass_session
def register(session: Session, files: tuple[str, ...], number: int | None) -> None:
    """Make documents the live versions of their workflows; with --version, go back to an older one.

    \b
    runfold register nightly.json hourly.yaml
    runfold register nightly-sales --version 3

    All files are checked before anything is registered: one bad document, and nothing changes. Calendars go first, so that workflows
    beside them may name them.
    """
    from shared.errors import InvalidInput, Problem
    from shared.workflow.document import Workflow

    if number is not None:
        if len(files) != 1:
            raise click.UsageError("--version goes with the name of one workflow")
        with session.reach() as engine:
            done = [engine.go_back(files[0], number)]
    else:
        read = _read_all(files)
        problems = [one for file, _, _, found in read for one in _placed(file, found, alone=len(read) == 1)]
        names: dict[str, str] = {}
        for file, _, document, _ in read:
            if document is None:
                continue
            what = f"workflow {document.name}" if isinstance(document, Workflow) else f"calendar {document.calendar}"
            if (other := names.setdefault(what, file)) != file:
                problems.append(Problem(file, f"names the same {what} as {other}", "register one"))
        if problems:
            raise InvalidInput(problems)
        with session.reach() as engine:
            done = [
                engine.register_calendar(_name_of(file), document)
                for file, _, document, _ in read
                if document is not None and not isinstance(document, Workflow)
            ]
            workflows = [(_name_of(file), document) for file, _, document, _ in read if isinstance(document, Workflow)]
            done += engine.register(workflows) if workflows else []
    if session.json:
        session.answer(done)
        return
    from cli.terminal import Cell

    terminal = session.terminal
    for one in done:
        mark = Cell(f"{terminal.glyph('succeeded')} " if terminal.rich else "", "green")
        version = f"version {one['version']}"
        what = f"{version} is live" if one["changed"] else f"{version} was live already"
        terminal.line(mark, Cell(one.get("workflow") or one["calendar"], "bold"), f" {what}")
        for line in one.get("differences", []):
            terminal.line("    ", Cell("~ ", "yellow"), line)


@command()
@click.argument("workflow", shell_complete=complete_workflow)
@click.option("--reason", default="", help="Kept with the request.")
@pass_session
def unregister(session: Session, workflow: str, reason: str) -> None:
    """Take a workflow out of service: no more scheduled runs, and none that are asked for.

    Its history stays, and what runs goes on. Registering a document of this name brings it back.
    """
    with session.reach() as engine:
        engine.unregister(workflow, reason=reason)
    if session.json:
        session.answer({"workflow": workflow, "live_version": None})
    else:
        session.terminal.line(f"{workflow} is out of service; `runfold register` brings it back")


# --- workflows --------------------------------------------------------------------------------------------------------


@command()
@click.argument("workflow", required=False, shell_complete=complete_workflow)
@click.option("--cursor", default="", help="The next page, as the last one told.")
@click.option("--limit", type=click.IntRange(1, 1000), default=200, show_default=True)
@pass_session
def workflows(session: Session, workflow: str | None, cursor: str, limit: int) -> None:
    """List the workflows, or show one with its versions."""
    if workflow is not None:
        _show_workflow(session, workflow)
        return
    from cli.reach import at_of
    from cli.terminal import Cell, Column
    from shared.bootstrap import utc_now

    now = utc_now()
    with session.reach() as engine:
        rows, following = engine.workflows(cursor=cursor, limit=limit)
    if session.json:
        session.answer(rows)
        return
    terminal = session.terminal
    if not rows:
        terminal.line("no workflows: `runfold register FILE` makes one")
        return
    table = []
    for row in rows:
        state = (
            Cell("unregistered", "dim")
            if row["live_version"] is None
            else Cell("paused", "yellow")
            if row["paused"]
            else Cell("")
        )
        last_at = at_of(row["last_requested_at"])
        table.append(
            (
                Cell(row["workflow"], "bold"),
                f"v{row['live_version']}" if row["live_version"] is not None else "–",
                state,
                row["schedule"] or Cell("on request", "dim"),
                terminal.moment(at_of(row["next_at"]), now),
                terminal.status(row["last_status"]) if row["last_status"] else Cell("never ran", "dim"),
                Cell(terminal.moment(last_at, now), "dim"),
                f"{len(row['held_runs'])} held" if row["held_runs"] else "",
                row["owner"],
                " ".join(row["tags"]),
            )
        )
    titles = ("workflow", "version", "", "schedule", "next", "last run", "", "", "owner", "tags")
    terminal.table([Column(title, wraps=title == "tags") for title in titles], table)
    if following:
        terminal.line(Cell(f"more: --cursor {following}", "dim"))


def _show_workflow(session: Session, name: str) -> None:
    from cli.reach import at_of, instant_of
    from cli.terminal import Cell, Column, instant, relative
    from shared.bootstrap import utc_now

    with session.reach() as engine:
        answer = engine.workflow(name)
    if session.json:
        session.answer(answer)
        return
    terminal, now = session.terminal, utc_now()
    number, pause = answer["live_version"], answer["paused"]
    live = f"version {number} is live" if number is not None else "unregistered"
    terminal.line(Cell(name, "bold"), f"  {live}", Cell(f"  {answer['description']}", "dim"))
    if answer["schedule"]:
        next_at = at_of(answer["next_at"])
        coming = f", next {instant(next_at)} ({relative(next_at, now)})" if next_at is not None else ""
        terminal.line(f"schedule {answer['schedule']}{coming}")
    for one in answer["triggers"]:
        terminal.line(f"trigger {one['name']}: {one['waits_for']}")
    if pause is not None:
        reason = f": {pause['reason']}" if pause["reason"] else ""
        terminal.line(Cell(f"paused by {pause['by']} {relative(instant_of(pause['at']), now)}{reason}", "yellow"))
    for title, runs in (("active", answer["active_runs"]), ("held", [one["run"] for one in answer["held_runs"]])):
        if runs:
            terminal.line(f"{title}: {', '.join(runs)}")
    terminal.line("")
    terminal.table(
        [Column("version", right=True), Column("registered"), Column("by"), Column("from"), Column("document")],
        [
            (
                str(one["version"]),
                terminal.moment(at_of(one["registered_at"]), now),
                one["by"],
                one["source"],
                Cell(one["document"][:12], "dim"),
            )
            for one in reversed(answer["versions"])
        ],
    )
    if answer["turned_away"]:
        terminal.line("")
        terminal.line("Events that became no run, newest first:")
        terminal.table(
            [Column("at"), Column("how"), Column("trigger"), Column("event"), Column("reason", wraps=True)],
            [
                (
                    terminal.moment(at_of(one["at"]), now),
                    Cell(one["how"], "yellow"),
                    one["trigger"],
                    one["event"],
                    one["reason"],
                )
                for one in answer["turned_away"][:TURNED_AWAY_SHOWN]
            ],
        )
