"""Looking at runs: lists, one run, its events, its output, its results, and why it is not further."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import click

from cli.completing import complete_job, complete_run, complete_stream, complete_workflow
from cli.session import Session, command, pass_session

if TYPE_CHECKING:
    from datetime import datetime

    from cli.reach import Object, Reach, Runs
    from cli.terminal import Terminal
    from shared.ports import RunSort

FOLLOW_EVERY_SECONDS = 0.2
DETAIL_LENGTH_MAX = 200
FILE_BYTES = 1 << 20
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{3,6}Z")
_DIGEST = re.compile(r"[0-9a-f]{64}")
NOTHING_TO_DO = frozenset(
    {"succeeded", "failed", "timed_out", "cancelled", "skipped_by_rule", "upstream_failed", "marked", "run_finished"}
    | {"missed", "skipped", "dropped", "not_a_run", "before_registration", "unknown_instant"}
    | {"not_requested", "not_registered"}
)
"""Conditions about which an engine does nothing: what is over, and what a person must ask for."""
CHILDREN_SHOWN = 10
ATTENTIONS = ["doubt", "stop_flagged", "approval", "late", "deadline_missed"]
STATUSES = ["waiting", "running", "succeeded", "failed", "cancelled"]


# --- runs -------------------------------------------------------------------------------------------------------------


@command()
@click.argument("name", metavar="[WORKFLOW]", required=False, shell_complete=complete_workflow)
@click.option("--workflow", metavar="NAME", help="Of this workflow.", shell_complete=complete_workflow)
@click.option("--status", type=click.Choice(STATUSES))
@click.option("--owner", help="Of workflows with this owner.")
@click.option("--tag", help="Of workflows with this tag.")
@click.option("--attention", type=click.Choice(ATTENTIONS), help="Of which a person should know this.")
@click.option("--parent", metavar="RUN", help="Started for a job of this run.", shell_complete=complete_run)
@click.option("--since", metavar="TIME", help="Asked for at or after: 2026-03-29, 2026-03-29T02:30Z, or 2h ago.")
@click.option("--until", metavar="TIME", help="Asked for before.")
@click.option(
    "--sort", type=click.Choice(["newest", "oldest"]), default="newest", show_default=True, help="What comes first."
)
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Rows on a page.")
@click.option("--cursor", default="", help="The next page, as the last one told; with the same --sort.")
@pass_session
def runs(
    session: Session,
    name: str | None,
    workflow: str | None,
    status: str | None,
    owner: str | None,
    tag: str | None,
    attention: str | None,
    parent: str | None,
    since: str | None,
    until: str | None,
    sort: "RunSort",
    limit: int,
    cursor: str,
) -> None:
    """List runs, newest first.

    With --json: a list of objects with run, workflow, status, scheduled_at, started_at, finished_at and more.
    """
    from cli.finding import moment_of
    from shared.bootstrap import utc_now
    from shared.ports import RunFilter

    if name is not None and workflow is not None and name != workflow:
        raise click.UsageError("the workflow is named twice")
    now = utc_now()
    where = RunFilter(
        workflow=name or workflow,
        status=status,
        owner=owner,
        tag=tag,
        attention=attention,
        since=moment_of(since, now, option="--since") if since is not None else None,
        until=moment_of(until, now, option="--until") if until is not None else None,
    )
    with session.reach() as engine:
        if parent is not None:
            where = replace(where, parent=engine.find_run(parent))
        page = engine.runs(where, sort=sort, cursor=cursor, limit=limit)
    if session.json:
        session.answer(page.rows)
        if page.cursor:
            told = {"cursor": page.cursor}
            click.echo(json.dumps(told if page.scanned is None else {**told, "scanned": page.scanned}), err=True)
        return
    _tell_runs(session, page, now)


def _tell_runs(session: Session, page: "Runs", now: "datetime") -> None:
    from cli.reach import at_of
    from cli.terminal import Cell, Column, duration, short_tally

    terminal = session.terminal
    looked = "" if page.scanned is None else f"looked at {page.scanned:,} runs; "
    if not page.rows:
        terminal.line("no runs" if not page.cursor else f"{looked}none so far: --cursor {page.cursor}")
        return
    table = []
    for row in page.rows:
        started_at, finished_at = at_of(row["started_at"]), at_of(row["finished_at"])
        took = ((finished_at or now) - started_at).total_seconds() if started_at is not None else None
        table.append(
            (
                Cell(row["run"], "bold"),
                terminal.status("held" if row["run"] in page.held else row["status"]),
                row["trigger"],
                terminal.moment(at_of(row["requested_at"]), now),
                Cell(duration(took), "" if finished_at is not None else "dim"),
                Cell(short_tally(terminal, row["jobs"].items()), "dim"),
                Cell(" ".join(row["attention"]), "bold magenta"),
            )
        )
    columns = [Column(title) for title in ("run", "status", "trigger", "requested")]
    terminal.table([*columns, Column("took", right=True), Column("jobs", wraps=True), Column("attention")], table)
    if page.cursor:
        terminal.line(Cell(f"{looked}more: --cursor {page.cursor}", "dim"))


# --- show -------------------------------------------------------------------------------------------------------------


@command()
@click.argument("run", shell_complete=complete_run)
@click.option("--as-of", metavar="TIME|VERSION", help="As it was: 17, 2026-03-29T02:30Z, or 2h ago.")
@pass_session
def show(session: Session, run: str, as_of: str | None) -> None:
    """Show a run and its jobs, now or as they were at a past moment."""
    from cli.finding import version_or_moment
    from cli.reach import Moment, instant_of
    from shared.bootstrap import utc_now

    now = utc_now()
    then = Moment(*version_or_moment(as_of, now)) if as_of is not None else None
    with session.reach() as engine:
        answer = engine.run(engine.find_run(run), then)
    if session.json:
        session.answer(answer)
        return
    shown_at = now if then is None else then.at or instant_of(answer["as_of"])
    _tell_run(session, answer, shown_at, past=then is not None)


def _tell_run(session: Session, run: "Object", now: "datetime", *, past: bool) -> None:
    from cli.reach import at_of, tally_of
    from cli.terminal import Cell, Column, duration, instant, tally

    terminal = session.terminal
    started_at, finished_at = at_of(run["started_at"]), at_of(run["finished_at"])
    took = ((finished_at or now) - started_at).total_seconds() if started_at is not None else None
    terminal.line(
        Cell(run["run"], "bold"),
        "  ",
        terminal.status("held" if run["held"] else run["status"]),
        f"  {duration(took)}" if took is not None else "",
        Cell(f"  as of {instant(now)}, version {run['version']}" if past else "", "yellow"),
    )
    for title, text in _facts(run, terminal, now):
        terminal.line(Cell(f"{title:<11}", "dim"), text)
    terminal.line(Cell(f"{'jobs':<11}", "dim"), tally(tally_of(run).items()))
    terminal.line("")
    rows = []
    for job in run["jobs"]:
        job_started_at, job_ended_at = at_of(job["started_at"]), at_of(job["ended_at"])
        job_took = ((job_ended_at or now) - job_started_at).total_seconds() if job_started_at is not None else None
        count = len(job["attempts"])
        rows.append(
            (
                job["name"],
                Cell(job["type"], "dim"),
                terminal.status(job["status"]),
                str(count) if count else "",
                Cell(duration(job_took), "" if job_ended_at is not None else "dim"),
                _exit_code(job),
                Cell(" ".join(filter(None, (job["reason"], _items(job), _outputs(job)))), "dim"),
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
    if run["status"] in ("failed", "cancelled") and not past:
        terminal.line("")
        name = run["run"]
        terminal.line(Cell(f"`runfold why {name}` tells why; `runfold rerun {name}` goes on from what failed.", "dim"))


def _items(job: "Object") -> str:
    """The items of a job with `for_each` in a few words: `of 100 items 97 succeeded, 3 failed: load:4, load:17, load:80`."""
    items = job.get("items")
    if items is None:
        return ""
    counts = ", ".join(f"{number:,} {status.replace('_', ' ')}" for status, number in items["statuses"].items())
    text = f"of {items['count']:,} items {counts}" if counts else "no items"
    bad = items["bad"]
    return text + (f": {', '.join(bad[:ITEMS_SHOWN])}{' …' if len(bad) > ITEMS_SHOWN else ''}" if bad else "")


ITEMS_SHOWN = 5
"""Items that ended badly, named in a table."""


def _facts(run: "Object", terminal: "Terminal", now: "datetime") -> Iterator[tuple[str, str]]:
    from cli.reach import instant_of
    from cli.terminal import instant, relative

    requested_at = instant_of(run["requested_at"])
    yield "workflow", f"{run['workflow']} version {run['document_version']}"
    by = f" by {run['requested_by']}" if run["requested_by"] else ""
    ago = f" ({relative(requested_at, now)})" if terminal.rich else ""
    part = f" (a part of the backfill {run['backfill']})" if run["backfill"] else ""
    yield "requested", f"{instant(requested_at)}{ago}, {run['trigger']}{part}{by}"
    if run["scheduled_at"] is not None:
        yield "scheduled", instant(instant_of(run["scheduled_at"]))
    if run["start_after"] is not None and run["started_at"] is None:
        start_after = instant_of(run["start_after"])
        yield "starts", f"not before {instant(start_after)} ({relative(start_after, now)})"
    if run["parent"] is not None:
        parent = run["parent"]
        yield "parent", f"{parent['run']}, attempt {parent['attempt']} of {parent['job']}"
    children = run["children"]
    for child in children[:CHILDREN_SHOWN]:
        yield "child", f"{child['run']}, attempt {child['attempt']} of {child['job']}"
    if len(children) > CHILDREN_SHOWN:
        yield "", f"and {len(children) - CHILDREN_SHOWN} more: runfold runs --parent {run['run']}"
    if run["held"]:
        yield "held", f"since {run['held']['since']}: {run['held']['reason']}"
    if run["parameters"]:
        yield (
            "parameters",
            ", ".join(
                f"{name}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
                for name, value in run["parameters"].items()
            ),
        )
    if run["note"]:
        yield "note", run["note"]
    if run["round"] > 1:
        yield "round", str(run["round"])
    if run["cancel"] is not None:
        cancel = run["cancel"]
        reason = f": {cancel['reason']}" if cancel["reason"] else ""
        yield "cancel", f"asked for by {cancel['by']} at {instant(instant_of(cancel['at']))}{reason}"


def _exit_code(job: "Object") -> str:
    code = job["attempts"][-1]["exit_code"] if job["attempts"] else None
    return "" if code is None else str(code)


def _outputs(job: "Object") -> str:
    if not job["outputs"]:
        return ""
    text = json.dumps(job["outputs"], ensure_ascii=False)
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
    from cli.finding import version_or_moment
    from cli.reach import Moment, instant_of
    from cli.terminal import Cell
    from shared.bootstrap import utc_now

    now = utc_now()
    then = Moment(*version_or_moment(as_of, now)) if as_of is not None else None
    with session.reach() as engine:
        answer = engine.why(engine.find_run(run, existing=False), job, then)
    if session.json:
        session.answer(answer)
        return
    at = instant_of(answer["at"])
    for condition in answer["conditions"]:
        _tell_condition(session.terminal, condition, at, 0)
    helps = any(one["code"] not in NOTHING_TO_DO for one in answer["conditions"])
    if answer["engine_up"] is False and helps:
        session.terminal.line(
            Cell("No engine is up: nothing starts, and no end is noted, until `runfold up`.", "yellow")
        )


def _tell_condition(terminal: "Terminal", condition: "Object", now: "datetime", depth: int) -> None:
    from cli.reach import at_of
    from cli.terminal import STYLES, Cell, relative

    indent = "    " * depth
    bullet = ("└ " if terminal.unicode else "- ") if depth else ""
    code, clears_at = condition["code"], at_of(condition["clears_at"])
    terminal.line(indent, bullet, Cell(code.replace("_", " "), STYLES.get(code, "bold")), f"  {condition['message']}")
    under = indent + "  " * bool(depth)
    if condition["since"] is not None:
        terminal.line(Cell(f"{under}  since   {terminal.moment(at_of(condition['since']), now)}", "dim"))
    if condition["clears"]:
        when = f" ({relative(clears_at, now)})" if clears_at is not None and terminal.rich else ""
        terminal.line(Cell(f"{under}  clears  ", "dim"), f"{condition['clears']}{when}")
    for one in condition["chain"]:
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

    with session.reach() as engine:
        commits = islice(engine.commits(run, after=after), limit)
        if session.json:
            _answer_many(commits)
            return
        day = ""
        for commit in commits:
            day = _tell_commit(session.terminal, commit, day)


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


def _tell_commit(terminal: "Terminal", commit: "Object", day: str) -> str:
    from cli.reach import instant_of
    from cli.terminal import Cell, clock
    from shared.views.objects import details_of

    moment = instant_of(commit["at"])
    today = moment.date().isoformat()
    if terminal.rich and today != day:
        terminal.line(Cell(today, "dim"))
    at = clock(moment) if terminal.rich else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    for number, event in enumerate(commit["events"]):
        head = f"{at}  {commit['version']:>5}  " if number == 0 or not terminal.rich else " " * (len(at) + 9)
        subject = f"  {event['job']}" if "job" in event else ""
        attempt = f" #{event['attempt']}" if "attempt" in event else ""
        details = "  ".join(f"{name}={_detail(value, short=terminal.rich)}" for name, value in details_of(event))
        said = number or "by" in event or "requested_by" in event or commit["by"] in ("engine", "scheduler")
        by = "" if said else f"  by={commit['by']}"
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
    from cli.reach import job_of

    with session.reach() as engine:
        found = engine.find_run(run)
        state = engine.run(found)
        names = [one["name"] for one in state["jobs"]]
        if job is None and len(names) > 1:
            raise click.UsageError(f"which job? {found} has {', '.join(names[:20])}")
        name = job_of(state, job) if job is not None else names[0]
        if follow and state["finished_at"] is None and not engine.up:
            click.echo("No engine is up: what runs goes on, and nothing new starts until `runfold up`.", err=True)
        lines = _lines(engine, found, name, attempt, stream, follow=follow)
        if session.json and not follow:
            _answer_many(lines)
            return
        _tell_lines(session, lines, times=times)


def _lines(
    engine: "Reach",
    run: str,
    job: str,
    attempt: int | None,
    stream: Literal["out", "err"] | None,
    *,
    follow: bool,
) -> "Iterator[Object]":
    from shared.errors import NotFound

    number, cursor = attempt, ""
    while True:
        state = engine.attempts(run, job)
        known = state.known
        if number is None:
            number = (known[0] if follow and not state.ended else known[-1]) if known else None
        if number is None or number not in known:
            if not follow or state.ended:
                told = f"attempt {number} of {job}" if number is not None else job
                raise NotFound(f"{told} in {run} has not begun: `runfold why {run} {job}` tells more")
            yield from _pause()
            continue
        try:
            page = engine.output(run, job, number, stream=stream, cursor=cursor, wait=follow)
        except NotFound:
            if follow and not state.ended:
                yield from _pause()
                continue
            raise
        for line in page.lines:
            yield {
                "at": line["at"],
                "attempt": number,
                "stream": line["stream"],
                "host": line["host"],
                "text": line["text"],
            }
        moved, cursor = page.cursor != cursor, page.cursor
        if moved and page.lines:
            continue
        if not follow:
            return
        over = page.settled and number in state.over
        if over and attempt is None and (later := [one for one in known if one > number]):
            number, cursor = later[0], ""
        elif over and (state.ended or attempt is not None):
            return
        else:
            yield from _pause()


def _pause() -> "Iterator[Object]":
    import sys

    sys.stdout.flush()
    time.sleep(FOLLOW_EVERY_SECONDS)
    return iter(())


def _tell_lines(session: Session, lines: "Iterator[Object]", *, times: bool) -> None:
    import sys

    from cli.reach import instant_of
    from cli.terminal import clock

    terminal = session.terminal
    last: int | None = None
    for line in lines:
        if session.json:
            click.echo(json.dumps(line, ensure_ascii=False))
            continue
        if last is not None and line["attempt"] != last and terminal.rich:
            sys.stdout.write(f"--- attempt {line['attempt']}\n")
        last = line["attempt"]
        host = f"{line['host']}: " if line["host"] else ""
        # Seen by a person, a line must not take over the terminal; in a pipe it is what the job wrote.
        text = harmless(line["text"], colours=not terminal.no_color) if terminal.rich else line["text"]
        if terminal.rich and line["stream"] == "err" and not terminal.no_color:
            text = f"\x1b[33m{text}\x1b[0m"
        sys.stdout.write(f"{clock(instant_of(line['at'])) + '  ' if times else ''}{host}{text}\n")


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
    from cli.terminal import Cell, Column

    if output is not None and get is None:
        raise click.UsageError("--output goes with --get")
    with session.reach() as engine:
        found = engine.find_run(run)
        files = engine.files(found, saved_only=not everything and get is None)
        if get is not None:
            _get(session, engine, found, files, get, output)
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
                Cell(one["address"] if session.api is not None else str(session.home_path / one["address"]), "dim"),
            )
            for one in files
        ],
    )


def _size_words(size: int) -> str:
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError(size)


def _get(session: Session, engine: "Reach", run: str, files: "list[Object]", path: str, output: str | None) -> None:
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
    with engine.open_file(meant[0]) as source:
        if output is None:
            shutil.copyfileobj(source, sys.stdout.buffer, FILE_BYTES)
            return
        try:
            target = Path(output).open("xb")  # noqa: SIM115  (closed below, and removed if it is not whole)
        except FileExistsError:
            raise InvalidInput([Problem("--output", f"{output} is there already", "name another file")]) from None
        try:
            with target:
                shutil.copyfileobj(source, target, FILE_BYTES)
        except BaseException:
            Path(output).unlink(missing_ok=True)
            raise
    if session.json:
        session.answer(meant[0])
