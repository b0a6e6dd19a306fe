"""Backfills: ask for a stretch of a schedule, rehearse it, watch it, pause, resume and cancel it."""

import time
from typing import TYPE_CHECKING, Any

import click

from cli.completing import complete_backfill
from cli.session import Session, command, pass_session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cli.reach import Object, Reach
    from cli.terminal import Cell, Terminal

BAR_WIDTH = 30
INSTANTS_SHOWN = 20
"""Of those that were come to last; `--all` shows every one."""
LOOK_SECONDS = 0.5
"""Between looks of whoever waits."""
ENDED = frozenset({"succeeded", "failed", "cancelled"})


@command()
@click.argument("what", metavar="[WORKFLOW|BACKFILL]", required=False, shell_complete=complete_backfill)
@click.option(
    "--from", "since", metavar="TIME", help="The first moment that is meant: 2026-01-01, or with time and zone."
)
@click.option("--until", metavar="TIME", help="The first moment that is not meant any more.")
@click.option("--order", type=click.Choice(["oldest", "newest"]), default="oldest", show_default=True, help="First.")
@click.option(
    "--which",
    type=click.Choice(["missing", "failed", "all"]),
    default="missing",
    show_default=True,
    help="Instants without a run; those whose newest run failed; or all that have no active run.",
)
@click.option("--max-active", type=int, default=1, show_default=True, help="Runs of it at once.")
@click.option("--param", "-p", "params", metavar="NAME=VALUE", multiple=True, help="Of every run; may be repeated.")
@click.option("--reason", default="", help="Kept with what is asked.")
@click.option("--key", default="", help="The same key again is the same backfill.")
@click.option("--dry-run", is_flag=True, help="Tell what it would do, and ask for nothing.")
@click.option("--wait", "-w", is_flag=True, help="Watch until it ends; exit code 1 unless it succeeds.")
@click.option("--pause", is_flag=True, help="Begin no more of its runs; what is active goes on.")
@click.option("--resume", is_flag=True, help="End its pause.")
@click.option("--cancel", is_flag=True, help="Begin no more of its runs, and ask the active ones to end.")
@click.option("--all", "all_", is_flag=True, help="Show every instant that it has come to.")
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True, help="Backfills on a page.")
@click.option("--cursor", default="", help="The next page, as the last one told.")
@pass_session
def backfill(
    session: Session,
    what: str | None,
    since: str | None,
    until: str | None,
    order: str,
    which: str,
    max_active: int,
    params: tuple[str, ...],
    reason: str,
    key: str,
    dry_run: bool,
    wait: bool,
    pause: bool,
    resume: bool,
    cancel: bool,
    all_: bool,
    limit: int,
    cursor: str,
) -> None:
    """Run the instants of a workflow's schedule that have passed.

    With WORKFLOW, --from and --until it asks for a backfill; with the id of a BACKFILL it shows that one, or pauses, resumes or
    cancels it; with WORKFLOW alone, or nothing, it lists backfills. Days are those of the schedule's own time zone. The
    workflow may be paused, and its limits on active runs do not count here: --max-active does.
    """
    acts = [name for name, given in (("pause", pause), ("resume", resume), ("cancel", cancel)) if given]
    asks = since is not None or until is not None
    if asks and (since is None or until is None or what is None or "@" in what):
        raise click.UsageError("a request names WORKFLOW, --from and --until")
    if dry_run and not asks:
        raise click.UsageError("--dry-run goes with --from and --until")
    if len(acts) > 1:
        raise click.UsageError("--pause, --resume and --cancel are three different things")
    if (acts or wait) and not asks and (what is None or "@" not in what):
        raise click.UsageError("name the backfill: `runfold backfill` lists them")
    if acts and asks:
        raise click.UsageError(f"--{acts[0]} names a backfill that is there")
    with session.reach() as engine:
        if what is not None and since is not None and until is not None:
            body: dict[str, Any] = {"workflow": what, "from": since, "until": until, "order": order, "which": which}
            body |= {"max_active": max_active, "reason": reason}
            _ask(session, engine, body, params, key=key, dry_run=dry_run, wait=wait)
        elif what is not None and "@" in what:
            if acts:
                engine.change_backfill(what, acts[0], reason=reason)
            if wait:
                _watch(session, engine, what)
            _show(session, engine, what, all_=all_)
        else:
            _list(session, engine, what, limit=limit, cursor=cursor)


def _ask(
    session: Session,
    engine: "Reach",
    body: "dict[str, Any]",
    params: tuple[str, ...],
    *,
    key: str,
    dry_run: bool,
    wait: bool,
) -> None:
    from cli.finding import pairs_of
    from shared.workflow.parameters import from_text

    texts = pairs_of(params, option="--param", form="NAME=VALUE")
    body["parameters"] = dict(from_text(engine.parameters_of(body["workflow"]), texts))
    if dry_run:
        told = engine.rehearse_backfill(body)
        if session.json:
            session.answer(told)
        else:
            _tell_rehearsal(session.terminal, told)
        return
    asked = engine.request_backfill(body, key=key)
    if wait:
        _watch(session, engine, asked["backfill"])
        _show(session, engine, asked["backfill"], all_=False)
        return
    if session.json:
        session.answer(asked)
        return
    from cli.terminal import Cell, counts

    terminal = session.terminal
    said = "" if asked["new"] else "  was asked for before"
    terminal.line(Cell(asked["backfill"], "bold"), f"  {counts(asked['count'], 'instant')}{said}")
    _tell_no_engine(session, engine)


def _tell_no_engine(session: Session, engine: "Reach") -> None:
    from cli.terminal import Cell

    if not engine.up:
        session.terminal.line(Cell("No engine is up: `runfold up` starts it.", "yellow"))


def _tell_rehearsal(terminal: "Terminal", told: "Object") -> None:
    from cli.terminal import Cell, counts

    one = told["rehearsal"]
    some = "" if one["looked"] == told["count"] else f" of the first {one['looked']:,}"
    terminal.line(Cell(counts(told["count"], "instant"), "bold"), f", {one['first']['at']} to {one['last']['at']}")
    terminal.line(f"{one['to_run']:,}{some} would be run")
    names = {"none": "without a run", "unreadable": "with a run that cannot be read", "excluded": "on excluded days"}
    for status, count in sorted(one["runs"].items()):
        terminal.line(f"    {count:,} {names.get(status, f'with a run that is {status}')}")
    for odd in one["odd"]:
        terminal.line(Cell(f"    {odd['at']} is {odd['local']} there ({odd['note']})", "yellow"))
    if one["odd_count"] > len(one["odd"]):
        terminal.line(f"    and {one['odd_count'] - len(one['odd']):,} more that a change of the clocks touches")


def _watch(session: Session, engine: "Reach", backfill_: str) -> None:
    """Until it has ended; leaves with 130 on Ctrl-C, and with 75 where nobody would carry it on."""
    import sys

    from shared.errors import EngineBusy

    seen = ""
    try:
        while (found := engine.backfill(backfill_))["status"] not in ENDED:
            if not engine.up:
                raise EngineBusy(
                    f"{backfill_} waits for an engine: `runfold up` starts it, and --wait can be asked again"
                )
            line = _progress_text(found)
            if line != seen and not session.json:
                click.echo(line, file=sys.stderr)
            seen = line
            time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        click.echo(f"You stopped watching; {backfill_} goes on.", err=True)
        raise click.exceptions.Exit(130) from None


def _progress_text(found: "Mapping[str, Any]") -> str:
    done = sum(found[name] for name in ("succeeded", "failed", "cancelled", "skipped"))
    parts = [
        f"{found[name]:,} {name}" for name in ("active", "succeeded", "failed", "cancelled", "skipped") if found[name]
    ]
    return f"{found['status']}: {done:,} of {found['count']:,}" + (f" ({', '.join(parts)})" if parts else "")


def _show(session: Session, engine: "Reach", backfill_: str, *, all_: bool) -> None:
    found = engine.backfill(backfill_)
    instants = engine.backfill_instants(backfill_)
    if session.json:
        session.answer({**found, "instants": instants})
    else:
        _tell(session.terminal, found, instants if all_ else instants[-INSTANTS_SHOWN:], len(instants))
        if found["status"] not in ENDED:
            _tell_no_engine(session, engine)
    if found["status"] in ENDED and found["status"] != "succeeded" and _waited(session):
        raise click.exceptions.Exit(1)


def _waited(session: Session) -> bool:  # noqa: ARG001
    context = click.get_current_context()
    return bool(context.params.get("wait"))


def _tell(terminal: "Terminal", found: "Object", instants: "list[Object]", count: int) -> None:
    from cli.terminal import Cell, Column

    terminal.line(Cell(found["backfill"], "bold"), "  ", terminal.status(found["status"]))
    what = {"missing": "instants without a run", "failed": "instants whose run failed", "all": "all instants"}
    terminal.line(
        f"{found['from']} to {found['until']}, {what[found['which']]}, {found['order']} first, "
        f"{found['max_active']} at once, document version {found['document_version']}"
    )
    who = f"asked for by {found['requested_by']}" if found["requested_by"] else "asked for"
    terminal.line(f"{who} at {found['requested_at']}" + (f": {found['reason']}" if found["reason"] else ""))
    terminal.line(*_bar(terminal, found))
    if found["waits_for"]:
        terminal.line(Cell(found["waits_for"], "yellow"))
    if count > len(instants):
        terminal.line(f"the last {len(instants):,} of {count:,} instants (--all shows them all)")
    if instants:
        rows = [
            (one["at"], terminal.status(one["status"]), one["run"] or "", one["since"], one["reason"])
            for one in instants
        ]
        columns = [Column("Instant"), Column("Status"), Column("Run"), Column("Since"), Column("", wraps=True)]
        terminal.table(columns, rows)


def _bar(terminal: "Terminal", found: "Object") -> "list[str | Cell]":
    """How far it is, as a bar on a terminal; in words everywhere."""
    from cli.terminal import STYLES, Cell

    words = _progress_text(found).partition(": ")[2]
    if not terminal.rich:
        return [words]
    full, empty = ("█", "░") if terminal.unicode else ("#", "-")
    parts: list[str | Cell] = []
    drawn = 0
    for status in ("succeeded", "failed", "cancelled", "skipped", "active"):
        width = round(found[status] / max(found["count"], 1) * BAR_WIDTH)
        width = min(max(width, 1) if found[status] else 0, BAR_WIDTH - drawn)
        parts.append(Cell(full * width, STYLES.get("running" if status == "active" else status, "")))
        drawn += width
    return [*parts, Cell(empty * (BAR_WIDTH - drawn), "dim"), f" {words}"]


def _list(session: Session, engine: "Reach", workflow: str | None, *, limit: int, cursor: str) -> None:
    import json

    rows, following = engine.backfills(workflow, cursor=cursor, limit=limit)
    if session.json:
        session.answer(rows)
        if following:
            click.echo(json.dumps({"cursor": following}), err=True)
        return
    from cli.terminal import Cell, Column

    terminal = session.terminal
    if not rows:
        terminal.line("no backfills")
        return
    table = [
        (
            Cell(row["backfill"], "bold"),
            terminal.status(row["status"]),
            f"{row['from'][:10]} to {row['until'][:10]}",
            _progress_text(row).partition(": ")[2],
            row["requested_at"],
            row["requested_by"],
        )
        for row in rows
    ]
    titles = ("Backfill", "Status", "Range", "Instants", "Asked for", "By")
    terminal.table([Column(title) for title in titles], table)
    if following:
        terminal.line(f"more: --cursor {following}")
