"""Looking at runs: lists, one run, its events, its output, its results, and why it is not further."""

import json
import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import click

from cli.completing import complete_job, complete_run, complete_stream, complete_workflow
from cli.session import Session, command, pass_session

if TYPE_CHECKING:
    from datetime import datetime

    from cli.terminal import Terminal
    from shared.bootstrap import LocalParts
    from shared.executors.process.logs import LogLine
    from shared.explain import Condition
    from shared.ids import JobName, RunId, StreamName
    from shared.ports import Record, RunFilter, RunRow
    from shared.state.run import JobState, Run

FOLLOW_EVERY_SECONDS = 0.2
LOG_BYTES = 1 << 18
DETAIL_LENGTH_MAX = 200
FILE_BYTES = 1 << 20
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{3,6}Z")
_DIGEST = re.compile(r"[0-9a-f]{64}")
STATUSES = ["waiting", "running", "succeeded", "failed", "cancelled"]


# --- runs -------------------------------------------------------------------------------------------------------------


@command()
@click.argument("name", metavar="[WORKFLOW]", required=False, shell_complete=complete_workflow)
@click.option("--workflow", metavar="NAME", help="Of this workflow.", shell_complete=complete_workflow)
@click.option("--status", type=click.Choice(STATUSES))
@click.option("--owner", help="Of workflows with this owner.")
@click.option("--tag", help="Of workflows with this tag.")
@click.option("--since", metavar="TIME", help="Asked for at or after: 2026-03-29, 2026-03-29T02:30Z, or 2h ago.")
@click.option("--until", metavar="TIME", help="Asked for before.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Rows on a page.")
@click.option("--cursor", default="", help="The next page, as the last one told.")
@pass_session
def runs(
    session: Session,
    name: str | None,
    workflow: str | None,
    status: str | None,
    owner: str | None,
    tag: str | None,
    since: str | None,
    until: str | None,
    limit: int,
    cursor: str,
) -> None:
    """List runs, newest first.

    With --json: a list of objects with run, workflow, status, scheduled_at, started_at, finished_at and more.
    """
    from cli.finding import moment_of
    from shared.bootstrap import utc_now
    from shared.ports import RunFilter
    from shared.views.objects import run_row_object

    if name is not None and workflow is not None and name != workflow:
        raise click.UsageError("the workflow is named twice")
    now = utc_now()
    where = RunFilter(
        workflow=name or workflow,
        status=status,
        owner=owner,
        tag=tag,
        since=moment_of(since, now, option="--since") if since is not None else None,
        until=moment_of(until, now, option="--until") if until is not None else None,
    )
    with session.reading() as parts:
        rows, following = parts.views.runs(where, cursor=cursor, limit=limit)
        held = [] if cursor else list(_held_rows(parts, where))
        if where.workflow is not None and not rows and not held:
            # An empty list is an answer, a misspelt name deserves a better one.
            parts.control.workflow(where.workflow)  # type: ignore[arg-type]
    rows = sorted([*held, *rows], key=lambda row: row.requested_at, reverse=True)
    if session.json:
        session.answer([run_row_object(row) for row in rows])
        if following:
            click.echo(json.dumps({"cursor": following}), err=True)
        return
    _tell_runs(session, rows, {row.run for row in held}, following, now)


def _tell_runs(session: Session, rows: "list[RunRow]", held: "set[RunId]", following: str, now: "datetime") -> None:
    from cli.terminal import Cell, Column, duration, short_tally

    terminal = session.terminal
    if not rows:
        terminal.line("no runs")
        return
    table = []
    for row in rows:
        took = ((row.finished_at or now) - row.started_at).total_seconds() if row.started_at is not None else None
        table.append(
            (
                Cell(row.run, "bold"),
                terminal.status("held" if row.run in held else row.status),
                row.trigger,
                terminal.moment(row.requested_at, now),
                Cell(duration(took), "" if row.finished_at is not None else "dim"),
                Cell(short_tally(terminal, row.jobs.items()), "dim"),
                Cell(" ".join(row.attention), "bold magenta"),
            )
        )
    columns = [Column(title) for title in ("run", "status", "trigger", "requested")]
    terminal.table([*columns, Column("took", right=True), Column("jobs", wraps=True), Column("attention")], table)
    if following:
        terminal.line(Cell(f"more: --cursor {following}", "dim"))


def _held_rows(parts: "LocalParts", where: "RunFilter") -> "Iterator[RunRow]":
    """Runs that their workflows hold back, or let in a moment ago: they have no stream, and so no row, of their own yet."""
    from cli.finding import load_run
    from shared.ids import RunId
    from shared.state.run import Run
    from shared.views.rows import run_row

    rows, _ = parts.views.workflows(limit=1000)
    for workflow in rows:
        if where.workflow not in (None, workflow.workflow):
            continue
        for name in (*workflow.held_runs, *workflow.active_runs):
            run = RunId(name)
            if parts.views.get_run(run) is not None:
                continue
            state = load_run(parts, run).state
            assert isinstance(state, Run)
            row = run_row(state, 0)
            if (
                where.status in (None, row.status)
                and where.owner in (None, row.owner)
                and (where.tag is None or where.tag in row.tags)
                and (where.since is None or row.requested_at >= where.since)
                and (where.until is None or row.requested_at < where.until)
            ):
                yield row


# --- show -------------------------------------------------------------------------------------------------------------


@command()
@click.argument("run", shell_complete=complete_run)
@click.option("--as-of", metavar="TIME|VERSION", help="As it was: 17, 2026-03-29T02:30Z, or 2h ago.")
@pass_session
def show(session: Session, run: str, as_of: str | None) -> None:
    """Show a run and its jobs, now or as they were at a past moment."""
    from cli.finding import find_run, load_run, pending_request, version_or_moment
    from shared.bootstrap import utc_now
    from shared.state.run import Run
    from shared.views.objects import moment, run_object

    now = utc_now()
    version, at = version_or_moment(as_of, now) if as_of is not None else (None, None)
    with session.reading() as parts:
        found = find_run(parts, run)
        loaded = load_run(parts, found, version=version, at=at)
        pending = pending_request(parts, found) if loaded.version == 0 else None
    state = loaded.state
    assert isinstance(state, Run)
    answer = run_object(state, loaded.version)
    answer["held"] = {"since": moment(pending[1]), "reason": pending[2]} if pending is not None and pending[2] else None
    if session.json:
        session.answer(answer)
        return
    shown_at = now if as_of is None else state.at if at is None else at
    _tell_run(session, state, answer, shown_at, past=as_of is not None)


def _tell_run(session: Session, run: "Run", answer: dict[str, Any], now: "datetime", *, past: bool) -> None:
    from cli.terminal import Cell, Column, duration, instant, tally
    from shared.views.objects import job_reason, job_times
    from shared.views.rows import run_row

    terminal = session.terminal
    took = ((run.finished_at or now) - run.started_at).total_seconds() if run.started_at is not None else None
    status = "held" if answer["held"] else run.status
    terminal.line(
        Cell(run.run, "bold"),
        "  ",
        terminal.status(status),
        f"  {duration(took)}" if took is not None else "",
        Cell(f"  as of {instant(now)}, version {answer['version']}" if past else "", "yellow"),
    )
    for title, text in _facts(run, answer, terminal, now):
        terminal.line(Cell(f"{title:<11}", "dim"), text)
    terminal.line(Cell(f"{'jobs':<11}", "dim"), tally(run_row(run, 0).jobs.items()))
    terminal.line("")
    rows = []
    for name, job in run.plan.jobs.items():
        state = run.jobs[name]
        started_at, ended_at = job_times(state)
        job_took = ((ended_at or now) - started_at).total_seconds() if started_at is not None else None
        rows.append(
            (
                name,
                Cell(job.type, "dim"),
                terminal.status(state.status),
                _attempts(state),
                Cell(duration(job_took), "" if ended_at is not None else "dim"),
                _exit_code(state),
                Cell(" ".join(filter(None, (job_reason(state), _outputs(state)))), "dim"),
            )
        )
    terminal.table(
        [
            Column("job"),
            Column("type"),
            Column("status"),
            Column("attempts", right=True),
            Column("took", right=True),
            Column("exit", right=True),
            Column("", wraps=True),
        ],
        rows,
    )
    if run.outcome in ("failed", "cancelled") and not past:
        terminal.line("")
        terminal.line(
            Cell(f"`runfold why {run.run}` tells why; `runfold rerun {run.run}` goes on from what failed.", "dim")
        )


def _facts(run: "Run", answer: dict[str, Any], terminal: "Terminal", now: "datetime") -> Iterator[tuple[str, str]]:
    from cli.terminal import instant, relative

    request = run.request
    yield "workflow", f"{request.workflow} version {run.document_version}"
    by = f" by {request.requested_by}" if request.requested_by else ""
    ago = f" ({relative(run.requested_at, now)})" if terminal.rich else ""
    yield "requested", f"{instant(run.requested_at)}{ago}, {request.trigger}{by}"
    if request.scheduled_at is not None:
        yield "scheduled", instant(request.scheduled_at)
    if request.start_after is not None and not run.opened:
        yield "starts", f"not before {instant(request.start_after)} ({relative(request.start_after, now)})"
    if answer["held"]:
        yield "held", f"since {answer['held']['since']}: {answer['held']['reason']}"
    if request.parameters:
        yield (
            "parameters",
            ", ".join(
                f"{name}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
                for name, value in request.parameters.items()
            ),
        )
    if request.note:
        yield "note", request.note
    if run.round > 1:
        yield "round", str(run.round)
    if run.cancel is not None:
        reason = f": {run.cancel.reason}" if run.cancel.reason else ""
        yield "cancel", f"asked for by {run.cancel.by} at {instant(run.cancel.at)}{reason}"


def _attempts(state: "JobState") -> str:
    from shared.views.objects import attempt_objects

    count = len(attempt_objects(state))
    return str(count) if count else ""


def _exit_code(state: "JobState") -> str:
    code = state.attempts[-1].exit_code if state.attempts and not state.is_open else None
    return "" if code is None else str(code)


def _outputs(state: "JobState") -> str:
    if not state.outputs:
        return ""
    text = json.dumps(dict(state.outputs), ensure_ascii=False)
    return text if len(text) <= 80 else text[:79] + "…"


# --- why --------------------------------------------------------------------------------------------------------------


@command()
@click.argument("run", shell_complete=complete_run)
@click.argument("job", required=False, shell_complete=complete_job)
@click.option("--as-of", metavar="TIME|VERSION", help="As it was: 17, 2026-03-29T02:30Z, or 2h ago.")
@pass_session
def why(session: Session, run: str, job: str | None, as_of: str | None) -> None:
    """Why a run, or a JOB of it, is not running: every unmet condition, since when, and what will clear it.

    RUN may be one that does not exist: a scheduled instant that was skipped, missed or has not come. A workflow that never ran
    means its next scheduled run.
    """
    from cli.finding import find_job, find_run, version_or_moment
    from cli.terminal import Cell
    from local.home import engine_process
    from shared.bootstrap import utc_now
    from shared.explain import why_job, why_run
    from shared.ids import run_stream, workflow_of, workflow_stream
    from shared.state.run import NotRequested, Run
    from shared.state.workflow import NotRegistered, WorkflowState
    from shared.views.objects import condition_object

    now = utc_now()
    version, at = version_or_moment(as_of, now) if as_of is not None else (None, None)
    with session.reading() as parts:
        found = find_run(parts, run, existing=False)
        stream, owner = run_stream(found), workflow_stream(workflow_of(found))
        if version is not None:
            loaded = parts.loader.load_as_of(stream, version=version)
            now = loaded.at or now
            at = now
        elif at is not None:
            loaded = parts.loader.load_as_of(stream, at=at)
            now = at
        else:
            loaded = parts.loader.load(stream)
        workflow = (parts.loader.load(owner) if at is None else parts.loader.load_as_of(owner, at=at)).state
        state = loaded.state
        assert isinstance(state, Run | NotRequested)
        assert isinstance(workflow, WorkflowState | NotRegistered)
        known = workflow if isinstance(workflow, WorkflowState) else None
        plan = parts.plans(known.live.document) if known is not None and known.live is not None else None
        if job is not None and isinstance(state, Run):
            conditions = why_job(state, find_job(state, job), now, workflow=known)
        else:
            history = () if isinstance(state, Run) else _history(parts, owner, at)
            conditions = why_run(state, found, now, workflow=workflow, plan=plan, history=history)
    # Of the past it is not known whether an engine was up.
    engine_up = engine_process(session.home) is not None if as_of is None else None
    if session.json:
        session.answer(
            {
                "run": found,
                "job": job,
                "at": now.isoformat().replace("+00:00", "Z"),
                "engine_up": engine_up,
                "conditions": [condition_object(one) for one in conditions],
            }
        )
        return
    for condition in conditions:
        _tell_condition(session.terminal, condition, now, 0)
    if engine_up is False and not (isinstance(state, Run) and state.finished):
        session.terminal.line(
            Cell("No engine is up: nothing starts, and no end is noted, until `runfold up`.", "yellow")
        )


def _history(parts: "LocalParts", stream: "StreamName", until: "datetime | None") -> Iterator[tuple["datetime", Any]]:
    from shared.codec import events_in

    for record in parts.loader.records(stream):
        if until is not None and record.at > until:
            return
        for event in events_in(record.body):
            yield record.at, event


def _tell_condition(terminal: "Terminal", condition: "Condition", now: "datetime", depth: int) -> None:
    from cli.terminal import STYLES, Cell, relative

    indent = "    " * depth
    bullet = ("└ " if terminal.unicode else "- ") if depth else ""
    code = condition.code.replace("_", " ")
    terminal.line(indent, bullet, Cell(code, STYLES.get(condition.code, "bold")), f"  {condition.message}")
    under = indent + "  " * bool(depth)
    if condition.since is not None:
        terminal.line(Cell(f"{under}  since   {terminal.moment(condition.since, now)}", "dim"))
    if condition.clears:
        when = f" ({relative(condition.clears_at, now)})" if condition.clears_at is not None and terminal.rich else ""
        terminal.line(Cell(f"{under}  clears  ", "dim"), f"{condition.clears}{when}")
    for one in condition.chain:
        _tell_condition(terminal, one, now, depth + 1)


# --- events -----------------------------------------------------------------------------------------------------------


@command()
@click.argument("run", metavar="RUN|STREAM", shell_complete=complete_stream)
@click.option("--after", type=click.IntRange(0, 10**12), default=0, help="Only versions greater than this.")
@click.option("--limit", type=click.IntRange(1, 10**9), help="At most so many commits.")
@pass_session
def events(session: Session, run: str, after: int, limit: int | None) -> None:
    """Everything that happened to a run, in order: what was observed, asked for and decided.

    Also of `workflow#NAME` and `document#FILE`. With --json: a list of commits, each with its events as they are stored.
    """
    from itertools import islice

    from cli.finding import find_run
    from shared.errors import NotFound
    from shared.ids import StreamName, run_stream
    from shared.views.objects import commit_object
    from shared.workflow.nearest import shown

    with session.reading() as parts:
        kind, mark, _ = run.partition("#")
        if mark and kind in ("workflow", "document", "run"):
            stream = StreamName(run)
            if not parts.store.read(stream, limit=1):
                raise NotFound(f"nothing ever happened to {shown(run)}")
        else:
            stream = run_stream(find_run(parts, run))
        records = islice(parts.loader.records(stream, after=after), limit)
        if session.json:
            _answer_many(commit_object(record) for record in records)
            return
        day = ""
        for record in records:
            day = _tell_commit(session.terminal, record, day)


def _answer_many(objects: Iterator[dict[str, Any]]) -> None:
    """A JSON list, written while it is read: a long history needs no more memory than a short one."""
    separator = "[\n"
    for one in objects:
        click.echo(f"{separator}  {json.dumps(one, ensure_ascii=False)}", nl=False)
        separator = ",\n"
    click.echo("[]" if separator == "[\n" else "\n]")


_EVENT_STYLES = {
    "AttemptSucceeded": "green",
    "RunFinished": "bold",
    "AttemptFailed": "red",
    "AttemptDoubted": "magenta",
    "AttemptCancelled": "yellow",
    "StopRequested": "yellow",
    "StopFlagged": "bold yellow",
    "RunCancelRequested": "yellow",
    "JobMarked": "bold",
    "DocumentRejected": "red",
    "InstantsMissed": "yellow",
    "InstantSkipped": "yellow",
}


def _tell_commit(terminal: "Terminal", record: "Record", day: str) -> str:
    from cli.terminal import Cell, clock
    from shared.views.objects import details_of

    today = record.at.date().isoformat()
    if terminal.rich and today != day:
        terminal.line(Cell(today, "dim"))
    at = clock(record.at) if terminal.rich else record.at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    for number, event in enumerate(json.loads(record.body)):
        head = f"{at}  {record.version:>5}  " if number == 0 or not terminal.rich else " " * (len(at) + 9)
        subject = f"  {event['job']}" if "job" in event else ""
        attempt = f" #{event['attempt']}" if "attempt" in event else ""
        details = "  ".join(f"{name}={_detail(value, short=terminal.rich)}" for name, value in details_of(event))
        said = number or "by" in event or "requested_by" in event or record.by in ("engine", "scheduler")
        by = "" if said else f"  by={record.by}"
        terminal.line(
            Cell(head, "dim"),
            Cell(f"{event['type']:<18}", _EVENT_STYLES.get(event["type"], "cyan")),
            Cell(f"{subject}{attempt}", "bold"),
            Cell(f"  {details}{by}" if details or by else "", "dim"),
        )
    return today


def _detail(value: Any, *, short: bool) -> str:
    if short and isinstance(value, str):
        # For people the day stands above, and the beginning of a digest is enough to know it again.
        if _MOMENT.fullmatch(value):
            return value[11:23]
        if _DIGEST.fullmatch(value):
            return value[:12]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= DETAIL_LENGTH_MAX else text[: DETAIL_LENGTH_MAX - 1] + "…"


# --- logs -------------------------------------------------------------------------------------------------------------


@command()
@click.argument("run", shell_complete=complete_run)
@click.argument("job", required=False, shell_complete=complete_job)
@click.option("--attempt", type=click.IntRange(1, 10**6), help="The newest, unless one is named.")
@click.option("--stream", type=click.Choice(["out", "err"]), help="Only standard output or standard error.")
@click.option("--follow", "-f", is_flag=True, help="Go on until the job has ended, further attempts included.")
@click.option("--times", "-t", is_flag=True, help="When each line was surely there.")
@pass_session
def logs(
    session: Session,
    run: str,
    job: str | None,
    attempt: int | None,
    stream: Literal["out", "err"] | None,
    follow: bool,
    times: bool,
) -> None:
    """What a job wrote, standard output and error in the order they came.

    JOB may be left out when the run has only one. With --json: a list of lines; with -f, one object a line.
    """
    from cli.finding import find_job, find_run, load_run
    from shared.state.run import Run

    with session.reading() as parts:
        found = find_run(parts, run)
        state = load_run(parts, found).state
        assert isinstance(state, Run)
        if job is None and len(state.plan.jobs) > 1:
            raise click.UsageError(f"which job? {found} has {', '.join(list(state.plan.jobs)[:20])}")
        name = find_job(state, job) if job is not None else next(iter(state.plan.jobs))
        if follow and not state.finished:
            _note_no_engine(session)
        lines = _lines(session, parts, found, name, attempt, stream, follow=follow)
        if session.json and not follow:
            _answer_many(_line_object(number, line) for number, line in lines)
            return
        _tell_lines(session, lines, times=times)


def _lines(
    session: Session,
    parts: "LocalParts",
    run: "RunId",
    job: "JobName",
    attempt: int | None,
    stream: Literal["out", "err"] | None,
    *,
    follow: bool,
) -> "Iterator[tuple[int, LogLine]]":
    from cli.finding import load_run
    from shared.bootstrap import utc_now
    from shared.errors import NotFound
    from shared.executors.process import ProcessExecutor
    from shared.state.run import Done, Run
    from shared.views.objects import attempt_objects

    executor = ProcessExecutor(session.home.path, environment={}, now=utc_now)
    number, cursor = attempt, ""
    while True:
        state = load_run(parts, run).state
        assert isinstance(state, Run)
        known = [one["attempt"] for one in attempt_objects(state.jobs[job])]
        ended = isinstance(state.jobs[job].phase, Done) or state.finished
        if number is None:
            number = (known[0] if follow and not ended else known[-1]) if known else None
        if number is None or number not in known:
            if not follow or ended:
                told = f"attempt {number} of {job}" if number is not None else job
                raise NotFound(f"{told} in {run} has not begun: `runfold why {run} {job}` tells more")
            yield from _pause()
            continue
        try:
            page = executor.read_log(run, job, number, stream=stream, after_cursor=cursor, limit_bytes=LOG_BYTES)
        except NotFound:
            if follow and not ended:
                yield from _pause()
                continue
            raise
        for line in page.lines:
            yield number, line
        moved, cursor = page.cursor != cursor, page.cursor
        if moved and page.lines:
            continue
        if not follow:
            return
        over = number in [one.attempt for one in state.jobs[job].attempts]
        if (page.complete or over) and attempt is None and (later := [one for one in known if one > number]):
            number, cursor = later[0], ""
        elif over and (ended or attempt is not None):
            return
        else:
            yield from _pause()


def _note_no_engine(session: Session) -> None:
    from local.home import engine_process

    if engine_process(session.home) is None:
        click.echo("No engine is up: what runs goes on, and nothing new starts until `runfold up`.", err=True)


def _pause() -> "Iterator[tuple[int, LogLine]]":
    import sys

    sys.stdout.flush()
    time.sleep(FOLLOW_EVERY_SECONDS)
    return iter(())


def _line_object(attempt: int, line: "LogLine") -> dict[str, Any]:
    from shared.views.objects import moment

    return {
        "at": moment(line.at),
        "attempt": attempt,
        "stream": line.stream,
        "host": line.host,
        "text": line.text,
    }


def _tell_lines(session: Session, lines: "Iterator[tuple[int, LogLine]]", *, times: bool) -> None:
    import sys

    from cli.terminal import clock

    terminal = session.terminal
    last: int | None = None
    for attempt, line in lines:
        if session.json:
            click.echo(json.dumps(_line_object(attempt, line), ensure_ascii=False))
            continue
        if last is not None and attempt != last and terminal.rich:
            sys.stdout.write(f"--- attempt {attempt}\n")
        last = attempt
        host = f"{line.host}: " if line.host else ""
        # Seen by a person, a line must not take over the terminal; in a pipe it is what the job wrote.
        text = harmless(line.text, colours=not terminal.no_color) if terminal.rich else line.text
        if terminal.rich and line.stream == "err" and not terminal.no_color:
            text = f"\x1b[33m{text}\x1b[0m"
        sys.stdout.write(f"{clock(line.at) + '  ' if times else ''}{host}{text}\n")


def harmless(text: str, *, colours: bool) -> str:
    """A job's line for a terminal: colours stay, every other control sequence is shown instead of obeyed."""
    if text.isprintable():
        return text
    pieces = re.split(r"(\x1b\[[0-9;]{0,32}m)", text)
    coloured = False
    shown = []
    for piece in pieces:
        if re.fullmatch(r"\x1b\[[0-9;]{0,32}m", piece):
            if colours:
                shown.append(piece)
                coloured = True
        else:
            shown.append(
                "".join(
                    letter if letter.isprintable() or letter == "\t" else f"\\x{ord(letter):02x}" for letter in piece
                )
            )
    return "".join(shown) + ("\x1b[0m" if coloured else "")


# --- results ----------------------------------------------------------------------------------------------------------


@command()
@click.argument("run", shell_complete=complete_run)
@click.option("--all", "everything", is_flag=True, help="Also the outputs that were only passed on.")
@click.option("--get", metavar="PATH", help="Write this file to standard output, or to --output.")
@click.option("--output", "-o", metavar="FILE", help="Where --get writes; nothing that is there is overwritten.")
@pass_session
def results(session: Session, run: str, everything: bool, get: str | None, output: str | None) -> None:
    """List the files that a run saved, or get one of them.

    \b
    runfold results nightly-sales
    runfold results nightly-sales --get report.csv > report.csv
    """
    from cli.finding import find_run, load_run
    from cli.terminal import Cell, Column
    from shared.state.run import Run
    from shared.views.objects import kept_files

    if output is not None and get is None:
        raise click.UsageError("--output goes with --get")
    with session.reading() as parts:
        found = find_run(parts, run)
        state = load_run(parts, found).state
    assert isinstance(state, Run)
    files = kept_files(state, saved_only=not everything and get is None)
    for one in files:
        one["size"] = _size(session, one["address"])
    if get is not None:
        _get(session, found, files, get, output)
        return
    if session.json:
        session.answer(files)
        return
    terminal = session.terminal
    if not files:
        terminal.line(f"{found} saved no files")
        return
    terminal.table(
        [Column("path"), Column("size", right=True), Column("job"), Column("where", wraps=True)],
        [
            (
                Cell(one["path"], "bold"),
                _size_words(one["size"]) if one["size"] is not None else Cell("gone", "red"),
                one["job"],
                Cell(str(session.home_path / one["address"]), "dim"),
            )
            for one in files
        ],
    )


def _size(session: Session, address: str) -> int | None:
    try:
        return (session.home.path / address).stat().st_size
    except OSError:
        return None


def _size_words(size: int) -> str:
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError(size)


def _get(session: Session, run: "RunId", files: list[dict[str, Any]], path: str, output: str | None) -> None:
    import shutil
    import sys
    from pathlib import Path

    from shared.errors import InvalidInput, NotFound, Problem
    from shared.workflow.nearest import Nearest, shown

    # Only what a job declared and left can be named; a path that leads elsewhere is simply none of these (fault 57).
    job, colon, rest = path.partition(":")
    meant = [one for one in files if one["path"] == path or (colon and one["job"] == job and one["path"] == rest)]
    if not meant:
        hint = Nearest().hint(path, [one["path"] for one in files], f"`runfold results {run} --all` lists them")
        raise NotFound(f"{run} left no file {shown(path)}; {hint}")
    if len(meant) > 1:
        several = ", ".join(f"{one['job']}:{one['path']}" for one in meant)
        raise InvalidInput([Problem("--get", f"{shown(path)} was left by several jobs", f"write one of {several}")])
    try:
        source = (session.home.path / meant[0]["address"]).open("rb")
    except OSError as error:
        raise NotFound(f"{path} of {run} is not there any more: {error.strerror}") from error
    with source:
        if output is None:
            shutil.copyfileobj(source, sys.stdout.buffer, FILE_BYTES)
            return
        try:
            with Path(output).open("xb") as target:
                shutil.copyfileobj(source, target, FILE_BYTES)
        except FileExistsError:
            raise InvalidInput([Problem("--output", f"{output} is there already", "name another file")]) from None
    if session.json:
        session.answer(meant[0])
